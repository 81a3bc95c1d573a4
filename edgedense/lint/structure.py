"""Rules about the network itself: channels, concats, foldable BN, shapes."""

from __future__ import annotations

from collections.abc import Iterator

from edgedense.lint.device import Device
from edgedense.lint.file import CONVOLUTIONS, DEQUANTIZE, QUANTIZE, WEIGHTED, File, Op
from edgedense.lint.placement import is_stem
from edgedense.lint.rule import Hit, Rule

_LEAST, _BEST = 16, 32


def _channels(file: File, device: Device) -> Iterator[Hit]:
    best = device.target.channel_multiple if device.target else _BEST
    for op in file.weighted:
        if op.kind not in CONVOLUTIONS or not file.is_int8(op):
            continue
        counts = _counts(file, op)
        odd = {side: n for side, n in counts.items() if n % best}
        if odd:
            detail = ", ".join(f"{side} {n}" for side, n in odd.items())
            least = min(_LEAST, best)
            bad = any(n % least for n in odd.values())
            yield Hit(op, op.output, detail, "warning" if bad else "info")


def _counts(file: File, op: Op) -> dict[str, int]:
    """Channels of each group on both sides, without those of the images and of the classes."""
    weight = file.stored(op.input(1))
    if weight is None or len(weight.shape) < 2:
        return {}
    groups = op.attributes.get("group", 1)
    groups = groups if isinstance(groups, int) and groups > 0 else 1
    first, second = weight.shape[:2]
    if op.kind == "ConvTranspose":
        counts = {"in": first // groups, "out": second}
    else:
        counts = {"in": second, "out": first // groups}
    if is_stem(file, op):
        del counts["in"]
    if _ends_in_output(file, op.output):
        del counts["out"]
    return counts


def _ends_in_output(file: File, name: str) -> bool:
    for _ in file.ops:
        readers = file.read_by(name)
        if name in file.outputs or len(readers) != 1:
            break
        if readers[0].kind not in (QUANTIZE, DEQUANTIZE, "Cast", "Identity"):
            return False
        name = readers[0].output
    return name in file.outputs


def _concat_single(file: File, device: Device) -> Iterator[Hit]:
    for op in file.ops:
        if op.kind == "Concat" and len(op.inputs) == 1:
            yield Hit(op, op.output)


def _unfolded(file: File, device: Device) -> Iterator[Hit]:
    for op in file.ops:
        name = op.input(0) if op.kind == "BatchNormalization" else ""
        pair = False
        while _only_read(file, name) and file.maker(name, QUANTIZE, DEQUANTIZE):
            name, pair = file.makers[name].input(0), True
        maker = file.maker(name, *WEIGHTED)
        if maker is not None and maker.input(1) in file.fixed and _only_read(file, name):
            across = ", with Q/DQ between" if pair else ""
            yield Hit(op, name, f"behind {maker.name or maker.kind}{across}")


def _only_read(file: File, name: str) -> bool:
    return len(file.read_by(name)) == 1 and name not in file.outputs


def _free_axes(file: File, device: Device) -> Iterator[Hit]:
    for value in file.inputs:
        free = [str(axis) for axis, length in enumerate(value.shape) if axis and length is None]
        if free:
            axes = "axis" if len(free) == 1 else "axes"
            yield Hit(None, value.name, f"{axes} {', '.join(free)}")


def _unseen(file: File, device: Device) -> Iterator[Hit]:
    for op in file.unseen:
        yield Hit(op, op.output, op.kind)


RULES: tuple[Rule, ...] = (
    Rule(
        "channels",
        "info",
        "INT8 tensor cores take channels by 32, at least by 16: every TensorRT pads others, and "
        "may be no faster than in FP16.",
        "Prune to multiples of 32 or 16, or leave this convolution in FP16 (quantize --skip).",
        _channels,
        everywhere=True,
    ),
    Rule(
        "concat-single",
        "warning",
        "A concat of one value is a copy that breaks fusion patterns, in TensorRT and in ONNX "
        "Runtime.",
        "Remove it.",
        _concat_single,
        everywhere=True,
    ),
    Rule(
        "norm-unfolded",
        "warning",
        "BatchNormalization right behind a convolution folds into it exactly; TensorRT cannot do "
        "so any more once Q/DQ is there.",
        "Fold it before quantizing.",
        _unfolded,
        everywhere=True,
    ),
    Rule(
        "free-axes",
        "warning",
        "TensorRT needs an optimization profile for each axis that is not fixed, and tunes for one "
        "size only.",
        "Fix all axes of the input but the batch.",
        _free_axes,
    ),
    Rule(
        "unseen",
        "info",
        "The bodies of control flow and of local functions were not looked into.",
        "Export without control flow, and inline functions (onnx.inliner).",
        _unseen,
    ),
)
