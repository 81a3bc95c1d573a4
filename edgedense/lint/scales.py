"""Scales that meet in a concat."""

from __future__ import annotations

from collections.abc import Mapping

from edgedense.lint.file import COMMUTING, DEQUANTIZE, QUANTIZE, File, Op

_ENOUGH = 4  # of different scales to know that they differ; keeps the sets of long chains small
Scale = float | str | None
Scales = frozenset[Scale]


def raw_inputs(op: Op, above: Mapping[str, Scales], below: Mapping[str, Scales]) -> int:
    """How many inputs of a concat stay unquantized where others are quantized.

    It is 0 where a Q is behind the concat: TensorRT pulls that into each of them.
    """
    found = [above.get(name, frozenset({None})) for name in op.inputs]
    if below.get(op.output) or not any(scales - {None} for scales in found):
        return 0
    return sum(None in scales for scales in found)


def meeting(op: Op, above: Mapping[str, Scales], below: Mapping[str, Scales]) -> Scales:
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


def flow(file: File) -> tuple[dict[str, Scales], dict[str, Scales]]:
    """Scales that a value has, and that it gets behind it, through concats and commuting ops.

    None stands for a value that is not quantized.
    """
    above: dict[str, Scales] = {}
    below: dict[str, Scales] = {}
    nothing: Scales = frozenset({None})
    for op in file.ops:
        if op.kind == DEQUANTIZE:
            above[op.output] = frozenset({scale_of(file, op)})
        elif op.kind == "Concat":
            joined: Scales = frozenset().union(*(above.get(x, nothing) for x in op.inputs))
            above[op.output] = _few(joined)
        elif op.kind in COMMUTING:
            above.update(dict.fromkeys(op.outputs, above.get(op.input(0), nothing)))
    for op in reversed(file.ops):
        if op.kind == QUANTIZE:
            _add(below, op.input(0), frozenset({scale_of(file, op)}))
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


def scale_of(file: File, op: Op) -> Scale:
    """The scale of a quantizer, or the name of one that is computed."""
    values = file.scale(op)
    return float(values.flat[0]) if values is not None and values.size else op.input(1)


def listed(scales: Scales) -> str:
    """The first three, for a finding."""
    shown = [f"{scale:.4g}" if isinstance(scale, float) else str(scale) for scale in scales]
    return ", ".join(sorted(shown)[:3]) + (" …" if len(shown) > 3 else "")
