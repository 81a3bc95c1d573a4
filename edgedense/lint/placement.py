"""Rules about where Q/DQ pairs are (developer guide, "Q/DQ Layer-Placement Recommendations")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

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

_FLOAT_ONLY = ACTIVATIONS | {"BatchNormalization", "Softmax", "LogSoftmax", "Tanh", "Exp", "Erf"}
_ENOUGH = 4  # of different scales to know that they differ; keeps the sets of long chains small
Scale = float | str | None
Scales = frozenset[Scale]


def _concat_unequal(file: File, device: Device) -> Iterator[Hit]:
    above, below = _flow(file)
    for op in _concats(file):
        found = _meeting(op, above, below) - {None}
        if len(found) > 1:
            yield Hit(op, op.output, f"scales {_listed(found)}")


def _concat_partial(file: File, device: Device) -> Iterator[Hit]:
    above, _ = _flow(file)
    for op in _concats(file):
        found = [above.get(name, frozenset({None})) for name in op.inputs]
        raw = sum(None in scales for scales in found)
        if raw and any(scales - {None} for scales in found):
            yield Hit(op, op.output, f"{raw} of {len(op.inputs)} inputs not quantized")


def _between_norm_and_relu(file: File, device: Device) -> Iterator[Hit]:
    for op in _activation_quantizers(file):
        if file.maker(op.input(0), "BatchNormalization") and _reads(file, op, ACTIVATIONS):
            yield Hit(op, op.input(0))


def _behind_norm(file: File, device: Device) -> Iterator[Hit]:
    for op in _activation_quantizers(file):
        if not file.maker(op.input(0), "BatchNormalization"):
            continue
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


def _double(file: File, device: Device) -> Iterator[Hit]:
    for op in _activation_quantizers(file):
        if file.maker(op.input(0), DEQUANTIZE):
            yield Hit(op, op.input(0))


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


def _reads(file: File, op: Op, kinds: Iterable[str]) -> bool:
    return any(reader.kind in kinds for reader in file.beyond(op))


def _source(file: File, name: str) -> Op | None:
    op = file.maker(name)
    while op is not None and op.kind in COMMUTING:
        op = file.maker(op.input(0))
    return op


def _meeting(op: Op, above: Mapping[str, Scales], below: Mapping[str, Scales]) -> Scales:
    """Scales that meet in a concat.

    They are those of its inputs, of its output, and of all other concats that read one of its
    inputs before it is quantized (TensorRT pulls each such Q into the producer).
    """
    found = set(below.get(op.output, ()))
    for name in op.inputs:
        scales = above.get(name, frozenset({None}))
        found |= scales
        if scales == {None}:
            found |= below.get(name, frozenset())
    return frozenset(found)


def _flow(file: File) -> tuple[dict[str, Scales], dict[str, Scales]]:
    """Scales that a value has, and that it gets behind it, through concats and commuting ops.

    None stands for a value that is not quantized.
    """
    above: dict[str, Scales] = {}
    below: dict[str, Scales] = {}
    nothing: Scales = frozenset({None})
    for op in file.ops:
        if op.kind == DEQUANTIZE:
            above[op.output] = frozenset({_scale(file, op)})
        elif op.kind == "Concat":
            joined: Scales = frozenset().union(*(above.get(x, nothing) for x in op.inputs))
            above[op.output] = _few(joined)
        elif op.kind in COMMUTING:
            above.update(dict.fromkeys(op.outputs, above.get(op.input(0), nothing)))
    for op in reversed(file.ops):
        if op.kind == QUANTIZE:
            _add(below, op.input(0), frozenset({_scale(file, op)}))
        elif op.kind == "Concat" or op.kind in COMMUTING:
            for name in op.inputs if op.kind == "Concat" else op.inputs[:1]:
                _add(below, name, below.get(op.output, frozenset()))
    return above, below


def _add(below: dict[str, Scales], name: str, scales: Scales) -> None:
    below[name] = _few(below.get(name, frozenset()) | scales)


def _few(scales: Scales) -> Scales:
    if len(scales) <= _ENOUGH:
        return scales
    kept = sorted(scales - {None}, key=str)[:_ENOUGH]
    return frozenset(kept) | (scales & {None})


def _scale(file: File, op: Op) -> Scale:
    values = file.scale(op)
    return float(values.flat[0]) if values is not None and values.size else op.input(1)


def _listed(scales: Scales) -> str:
    shown = [f"{scale:.4g}" if isinstance(scale, float) else str(scale) for scale in scales]
    return ", ".join(sorted(shown)[:3]) + (" …" if len(shown) > 3 else "")


RULES: tuple[Rule, ...] = (
    Rule(
        "concat-unequal",
        "warning",
        "Every TensorRT pulls the Q behind a concat into each producer: with unequal scales it "
        "requantizes, in a dense block O(layers²) times.",
        "Give all inputs and the output of all concats of a block one scale, or none of them Q/DQ.",
        _concat_unequal,
    ),
    Rule(
        "concat-partial",
        "warning",
        "A concat is a plain copy in TensorRT: with only some inputs quantized it runs in floating "
        "point, and the others were quantized for nothing.",
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
