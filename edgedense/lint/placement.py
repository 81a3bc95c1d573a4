"""Rules about where Q/DQ pairs are (developer guide, "Q/DQ Layer-Placement Recommendations")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgedense.lint.device import Device
from edgedense.lint.file import (
    ACTIVATIONS,
    COMMUTING,
    CONVOLUTIONS,
    DEQUANTIZE,
    QUANTIZE,
    WEIGHTED,
    File,
    Op,
)
from edgedense.lint.rule import Hit, Rule
from edgedense.lint.scales import flow, listed, meeting, raw_inputs, scale_of

_FLOAT_ONLY = ACTIVATIONS | {"BatchNormalization", "Softmax", "LogSoftmax", "Tanh", "Exp", "Erf"}


def _concat_unequal(file: File, device: Device) -> Iterator[Hit]:
    above, below = flow(file)
    for op in _concats(file):
        found = meeting(op, above, below) - {None}
        if len(found) > 1 and not raw_inputs(op, above, below):
            yield Hit(op, op.output, f"scales {listed(found)}")


def _concat_partial(file: File, device: Device) -> Iterator[Hit]:
    above, below = flow(file)
    for op in _concats(file):
        raw = raw_inputs(op, above, below)
        if raw:
            yield Hit(op, op.output, f"{raw} of {len(op.inputs)} inputs not quantized")


def _between_norm_and_relu(file: File, device: Device) -> Iterator[Hit]:
    for op in _behind_norms(file):
        if _reads(file, op, ACTIVATIONS):
            yield Hit(op, op.input(0))


def _behind_norm(file: File, device: Device) -> Iterator[Hit]:
    for op in _behind_norms(file):
        for reader in file.beyond(op):
            if reader.kind not in WEIGHTED and reader.kind not in ACTIVATIONS:
                own = [next_.kind for next_ in file.read_by(reader.output)]
                if reader.kind == QUANTIZE or QUANTIZE in own:
                    yield Hit(op, op.input(0), f"before {reader.kind}")
                    break


def _unneeded(file: File, device: Device) -> Iterator[Hit]:
    for op in _activation_quantizers(file):
        before = _source(file, op.input(0))
        kind = before.kind if before else ""
        if kind == "Concat" or (kind == "BatchNormalization" and _reads(file, op, ACTIVATIONS)):
            continue
        pairs = file.read_by(op.output)
        readers = list(file.beyond(op))
        ends = bool(pairs) and any(pair.output in file.outputs for pair in pairs)
        if (readers or ends) and all(reader.kind in _FLOAT_ONLY for reader in readers):
            kinds = sorted({reader.kind for reader in readers}) or ["the output"]
            yield Hit(op, op.input(0), f"{kind or 'input'} to {', '.join(kinds)}")
    yield from _constants_unneeded(file)


def _constants_unneeded(file: File) -> Iterator[Hit]:
    for op in file.heads:
        stored = file.stored(op.output) if op.input(0) in file.fixed else None
        if stored is None or stored.type == "int32":  # which is another rule's
            continue
        readers = list(file.beyond(op)) if op.kind == QUANTIZE else list(file.read_by(op.output))
        if readers and all(reader.kind in _FLOAT_ONLY for reader in readers):
            kinds = sorted({reader.kind for reader in readers})
            yield Hit(op, op.input(0), f"constant of {', '.join(kinds)}")


def _double(file: File, device: Device) -> Iterator[Hit]:
    for op in _activation_quantizers(file):
        before = file.dequantizer(op.input(0))
        if before is None:
            continue
        # behind a pool or the like, the same numbers again round nothing
        if before.output == op.input(0) or scale_of(file, before) != scale_of(file, op):
            yield Hit(op, op.input(0), f"behind {before.name or before.output}")


def _half_quantized(file: File, device: Device) -> Iterator[Hit]:
    for op in file.weighted:
        data = file.dequantizer(op.input(0)) is not None
        weight = file.maker(op.input(1), DEQUANTIZE) is not None
        if data != weight:
            yield Hit(op, op.input(1 if data else 0), "data only" if data else "weights only")


def _mixed_readers(file: File, device: Device) -> Iterator[Hit]:
    for name, readers in file.readers.items():
        others = [op for op in readers if op.kind != QUANTIZE]
        if others and len(others) < len(readers) and name not in file.fixed:
            weighted = [op for op in others if op.kind in WEIGHTED]
            op = (weighted or others)[0]
            yield Hit(op, name, severity="warning" if weighted else None)


def _stem(file: File, device: Device) -> Iterator[Hit]:
    for op in file.weighted:
        if op.kind in CONVOLUTIONS and file.is_int8(op) and is_stem(file, op):
            yield Hit(op, op.output)


def is_stem(file: File, op: Op) -> bool:
    """Whether a convolution reads the images, of which there are up to 4 channels."""
    name = op.input(0)
    maker = file.maker(name)
    while maker is not None and maker.kind in (QUANTIZE, DEQUANTIZE, "Cast", "Pad", "Identity"):
        name = maker.input(0)
        maker = file.maker(name)
    weight = file.stored(op.input(1))
    few = weight is not None and len(weight.shape) > 1 and weight.shape[1] <= 4
    return few and any(value.name == name for value in file.inputs)


def _concats(file: File) -> Iterator[Op]:
    return (op for op in file.ops if op.kind == "Concat" and op.output not in file.fixed)


def _activation_quantizers(file: File) -> Iterator[Op]:
    return (op for op in file.ops if op.kind == QUANTIZE and op.input(0) not in file.fixed)


def _behind_norms(file: File) -> Iterator[Op]:
    """Quantizers of what BatchNormalization gives, but those that are its ReLU too."""
    for op in _activation_quantizers(file):
        if file.maker(op.input(0), "BatchNormalization") and not _rectifies(file, op):
            yield op


def _rectifies(file: File, op: Op) -> bool:
    """Whether the lowest code stands for 0 (ONNX Runtime then drops the ReLU in front)."""
    zero = file.constant(op.input(2))
    lowest = {"int8": -128, "uint8": 0}.get(zero.type) if zero is not None else None
    return zero is not None and lowest is not None and bool((zero.value == lowest).all())


def _reads(file: File, op: Op, kinds: Iterable[str]) -> bool:
    return any(reader.kind in kinds for reader in file.beyond(op))


def _source(file: File, name: str) -> Op | None:
    op = file.maker(name)
    while op is not None and op.kind in COMMUTING:
        op = file.maker(op.input(0))
    return op


RULES: tuple[Rule, ...] = (
    Rule(
        "concat-unequal",
        "warning",
        "Every TensorRT pulls the Q behind a concat into each producer: with unequal scales it "
        "requantizes, in a dense block O(layers²) times; with no Q behind, it copies floats.",
        "Give all inputs and the output of all concats of a block one scale, or none of them Q/DQ.",
        _concat_unequal,
    ),
    Rule(
        "concat-partial",
        "warning",
        "A concat is a plain copy in TensorRT: with only some inputs quantized, and no Q behind, "
        "it runs in floating point, and those inputs were quantized for nothing.",
        "Quantize all inputs of a concat with one scale, or none.",
        _concat_partial,
    ),
    Rule(
        "qdq-before-relu",
        "warning",
        "Q/DQ between BatchNormalization and its activation keeps every TensorRT from fusing the "
        "two, and rounds where nothing needs it.",
        "Move the pair behind the activation.",
        _between_norm_and_relu,
    ),
    Rule(
        "qdq-behind-norm",
        "warning",
        "Q/DQ behind BatchNormalization, and again behind the operator after it, rounds twice in "
        "every TensorRT.",
        "Keep the second pair only.",
        _behind_norm,
    ),
    Rule(
        "qdq-unneeded",
        "warning",
        "No reader of this pair runs in INT8: it costs accuracy, and in every TensorRT it keeps "
        "operators from fusing.",
        "Remove the pair: quantize the inputs of convolutions, not their outputs.",
        _unneeded,
    ),
    Rule(
        "qdq-double",
        "warning",
        "Two pairs in a row: the value is rounded twice, and requantized in every TensorRT.",
        "Let all readers take the first pair.",
        _double,
    ),
    Rule(
        "half-quantized",
        "warning",
        "TensorRT runs an operator in INT8 only where data and weights are both quantized: this "
        "one loses accuracy and gains nothing.",
        "Quantize both inputs, or neither.",
        _half_quantized,
    ),
    Rule(
        "mixed-readers",
        "info",
        "TensorRT keeps the value twice, in INT8 and in floating point, because some readers are "
        "quantized and this one is not.",
        "Let all readers of a value take the same pair.",
        _mixed_readers,
    ),
    Rule(
        "stem-int8",
        "info",
        "With 3 channels INT8 gains little, and some strongly typed builds (reported of 11.3 on "
        "an A100) have no kernel for it and fail.",
        "If the build fails, leave the stem in floating point: quantize --skip conv0.",
        _stem,
    ),
)
