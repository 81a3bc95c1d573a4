"""Rules about the numbers of Q/DQ: zero-points, scales, what may be quantized how.

Sources: onnx-tensorrt, QuantDequantLinearHelper (8.6 and 10.1), and TensorRT for RTX 1.7 as run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgedense.lint.device import Device
from edgedense.lint.file import CONVOLUTIONS, DEQUANTIZE, QUANTIZE, File, Op
from edgedense.lint.rule import Hit, Rule

_INTEGER_OPERATORS = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm"})
# not INT8, but read by TensorRT 10 and later
_OTHER_TYPES = ("int8", "uint8", "int4", "float4e2m1", "float8e4m3fn")


def _integer_operators(file: File, device: Device) -> Iterator[Hit]:
    for op in file.ops:
        if op.kind.startswith("QLinear") or op.kind in _INTEGER_OPERATORS:
            yield Hit(op, op.output, op.kind)


def _zero_point_missing(file: File, device: Device) -> Iterator[Hit]:
    for op in file.quantizers:
        if not op.input(2) and _code_type(file, op) != "uint8":
            yield Hit(op, op.input(0))


def _uint8(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        if _code_type(file, op) == "uint8":
            yield Hit(op, op.input(0))


def _other_type(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        found = _code_type(file, op)
        if found and found not in _OTHER_TYPES and not _of_int32(file, op):
            yield Hit(op, op.input(0), found)


def _zero_point_nonzero(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        zero = file.constant(op.input(2))
        if zero is not None and not _of_int32(file, op):
            values = np.asarray(zero.value, np.float64)
            if values.any():
                yield Hit(op, op.input(0), _range("zero-point", values))


def _int32_bias(file: File, device: Device) -> Iterator[Hit]:
    for op in file.quantizers:
        if _of_int32(file, op):
            readers = [reader.name for reader in file.read_by(op.output)[:1] if reader.name]
            yield Hit(op, op.input(0), "".join(f"of {name}" for name in readers))


def _scale_not_positive(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        scale = file.scale(op)
        if scale is not None and not (np.isfinite(scale) & (scale > 0)).all():
            bad = scale[~(np.isfinite(scale) & (scale > 0))]
            yield Hit(op, op.input(1), f"{bad.flat[0]:g}")


def _scale_computed(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        if file.constant(op.input(1)) is None:
            yield Hit(op, op.input(1))


def _scale_shape(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        scale, zero = file.constant(op.input(1)), file.constant(op.input(2))
        if scale is None:
            continue
        if zero is not None and zero.size != scale.size:
            yield Hit(op, op.input(1), f"{scale.size} scales, {zero.size} zero-points")
        elif _misses_axis(file, op, scale.size):
            yield Hit(op, op.input(1), f"{scale.size} scales, axis {_axis(op)}")


def _activation_per_channel(file: File, device: Device) -> Iterator[Hit]:
    for op in file.heads:
        scale = file.constant(op.input(1))
        if scale is not None and scale.size > 1 and op.input(0) not in file.fixed:
            yield Hit(op, op.input(0), f"{scale.size} scales")


def _weight_axis(file: File, device: Device) -> Iterator[Hit]:
    for op, weight in _quantized_weights(file):
        scale, stored = file.constant(weight.input(1)), file.stored(weight.input(0))
        if scale is None or stored is None or scale.size == 1 or not stored.shape:
            continue
        if _axis(weight) % len(stored.shape) != _output_axis(op, len(stored.shape)):
            yield Hit(op, weight.input(0), f"axis {_axis(weight)}")


def _weight_per_tensor(file: File, device: Device) -> Iterator[Hit]:
    for op, weight in _quantized_weights(file):
        scale, stored = file.constant(weight.input(1)), file.stored(weight.input(0))
        if scale is None or stored is None or scale.size > 1 or not stored.shape:
            continue
        if stored.shape[_output_axis(op, len(stored.shape))] > 1:
            yield Hit(op, weight.input(0))


def _pair_differs(file: File, device: Device) -> Iterator[Hit]:
    for op in file.quantizers:
        before = file.maker(op.input(0), QUANTIZE) if op.kind == DEQUANTIZE else None
        if before is None or before.inputs[1:] == op.inputs[1:]:
            continue
        first, second = file.scale(before), file.scale(op)
        if first is not None and second is not None and not np.array_equal(first, second):
            yield Hit(op, op.input(1), f"{first.flat[0]:g} and {second.flat[0]:g}")


def _bias_computed(file: File, device: Device) -> Iterator[Hit]:
    severity = device.severity("<11", "error") or "warning"
    for op in file.ops:
        bias = op.input(2) if op.kind in CONVOLUTIONS else ""
        if bias and file.constant(bias) is None:
            maker = file.maker(bias, DEQUANTIZE)
            if maker is None or not _of_int32(file, maker):
                yield Hit(op, bias, severity=severity)


def _code_type(file: File, op: Op) -> str:
    """Type of the codes of a quantizer; "" where the file does not tell."""
    named = file.constant(op.input(2) or (op.input(0) if op.kind == DEQUANTIZE else ""))
    return named.type if named is not None else ""


def _of_int32(file: File, op: Op) -> bool:
    codes = file.constant(op.input(0))
    return op.kind == DEQUANTIZE and (
        _code_type(file, op) == "int32" or (codes is not None and codes.type == "int32")
    )


def _axis(op: Op) -> int:
    axis = op.attributes.get("axis", 1)
    return axis if isinstance(axis, int) else 1


def _misses_axis(file: File, op: Op, scales: int) -> bool:
    stored = file.stored(op.input(0))
    if scales == 1 or stored is None or "block_size" in op.attributes:
        return False
    axis, rank = _axis(op), len(stored.shape)
    return not -rank <= axis < rank or stored.shape[axis] != scales


def _quantized_weights(file: File) -> Iterator[tuple[Op, Op]]:
    """Ops with weights and the DequantizeLinear of those."""
    for op in file.weighted:
        weight = file.maker(op.input(1), DEQUANTIZE)
        if weight is not None:
            yield op, weight


def _output_axis(op: Op, rank: int) -> int:
    """Axis of an op's weights that counts output channels."""
    if op.kind == "Gemm":
        return 0 if op.attributes.get("transB") else 1
    if op.kind == "MatMul":
        return rank - 1
    return 1 if op.kind == "ConvTranspose" and rank > 1 else 0


def _range(what: str, values: NDArray[np.float64]) -> str:
    low, high = values.min(), values.max()
    return f"{what} {low:g}" if low == high else f"{what}s {low:g} to {high:g}"


_SYMMETRIC = "Quantize symmetrically: int8 with a zero-point of 0 (`edgedense quantize` does)."

RULES: tuple[Rule, ...] = (
    Rule(
        "integer-operator",
        "error",
        "Every TensorRT refuses integer operators: it takes Q/DQ around float operators.",
        "Export in QDQ format (ONNX Runtime: quant_format=QuantFormat.QDQ).",
        _integer_operators,
    ),
    Rule(
        "zero-point-missing",
        "error",
        "TensorRT 8.x refuses it; later versions read INT8 without a word where ONNX's default is "
        "uint8.",
        "Write an explicit int8 zero-point of 0.",
        _zero_point_missing,
    ),
    Rule(
        "uint8",
        "error",
        "TensorRT 8.x and 10.x refuse uint8; TensorRT-RTX 1.7 reads uint8 activations as int8, so "
        "the upper half of the range saturates.",
        _SYMMETRIC,
        _uint8,
    ),
    Rule(
        "code-type",
        "error",
        "TensorRT has no kernels for this quantized type, and its parser refuses it.",
        _SYMMETRIC,
        _other_type,
    ),
    Rule(
        "zero-point-nonzero",
        "error",
        "Every TensorRT refuses a zero-point other than 0.",
        _SYMMETRIC,
        _zero_point_nonzero,
    ),
    Rule(
        "int32-bias",
        "error",
        "TensorRT 10 and later refuse DequantizeLinear of INT32 (ONNX Runtime's default for "
        "biases).",
        "Keep biases in floating point (ONNX Runtime: extra_options={'QuantizeBias': False}); "
        "int32 x scale gives the same numbers.",
        _int32_bias,
    ),
    Rule(
        "scale-not-positive",
        "error",
        "Every TensorRT refuses a scale that is 0, negative or NaN; an infinite one gives NaN.",
        "Calibrate again, with images as the network was trained on, and drop dead channels.",
        _scale_not_positive,
        everywhere=True,
    ),
    Rule(
        "scale-computed",
        "warning",
        "TensorRT-RTX 1.7 parses a convolution whose scale is computed at run time, and then fails "
        "to build it; other versions document fixed scales.",
        "Calibrate to fixed scales (static quantization).",
        _scale_computed,
    ),
    Rule(
        "scale-shape",
        "error",
        "Every TensorRT refuses scales that differ in number from their zero-points or from the "
        "axis that they count.",
        "Give each channel one scale and one zero-point, and name its axis.",
        _scale_shape,
        everywhere=True,
    ),
    Rule(
        "activation-per-channel",
        "error",
        "TensorRT documents one scale a tensor for activations, in every version, and 8.x and 10.x "
        "support no other.",
        "Quantize activations per tensor; weights may stay per channel.",
        _activation_per_channel,
    ),
    Rule(
        "weight-axis",
        "warning",
        "TensorRT's INT8 convolutions have one scale an output channel; along another axis the "
        "weights run in floating point.",
        "Set axis to the output channels: 0 of Conv and Gemm with transB, 1 of ConvTranspose.",
        _weight_axis,
    ),
    Rule(
        "weight-per-tensor",
        "info",
        "One scale for all weights costs accuracy; one an output channel costs no time in any "
        "TensorRT.",
        "Quantize weights per output channel.",
        _weight_per_tensor,
    ),
    Rule(
        "pair-differs",
        "warning",
        "Q and DQ of one pair have different scales: what comes out is scaled, in every TensorRT.",
        "Give both the same scale and zero-point.",
        _pair_differs,
        everywhere=True,
    ),
    Rule(
        "bias-computed",
        "error",
        "TensorRT 8.x and early 10.x refuse a convolution whose bias is not an initializer.",
        "Fold what computes the bias into an initializer.",
        _bias_computed,
    ),
)
