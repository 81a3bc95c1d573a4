"""Rules about types: opsets, FP16, and what strong typing makes of a file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgedense.lint.device import Device
from edgedense.lint.file import (
    ACTIVATIONS,
    COMMUTING,
    DEQUANTIZE,
    QUANTIZE,
    Constant,
    File,
    Op,
)
from edgedense.lint.rule import Hit, Rule
from edgedense.targets import TENSORRT_RTX

_FP16_MAX = float(np.finfo(np.float16).max)
_FLOAT16 = 10  # TensorProto.FLOAT16, as Cast names it
_FLOATS = ("float32", "float16", "bfloat16")
# an infinity may be meant there
_LIMITS = frozenset({"Clip", "Max", "Min", "Pad", "Where"})
_KEEPS_TYPE = (
    COMMUTING
    | ACTIVATIONS
    | {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Concat", "Add", "Mul"),
        *("AveragePool", "GlobalAveragePool", "Pad", "ReduceMean", "Softmax", "Sub", "Div"),
    }
)
_CASTS = {1: "float32", _FLOAT16: "float16", 16: "bfloat16"}


def _opset_low(file: File, device: Device) -> Iterator[Hit]:
    halves = ("float16", "bfloat16")
    per_channel = [op for op in file.quantizers if _scales(file, op) > 1]
    half = [op for op in file.quantizers if _scale_type(file, op) in halves]
    needs = ((10, "Q/DQ", file.quantizers), (13, "scales per channel", per_channel))
    for least, what, found in (*needs, (19, "FP16 scales", half)):
        if found and file.opset < least:
            yield Hit(found[0], found[0].input(1), f"{what} need {least}, this is {file.opset}")


def _opset_high(file: File, device: Device) -> Iterator[Hit]:
    release, highest = device.highest_opset()
    if file.opset > highest:
        yield Hit(None, f"opset {file.opset}", f"TensorRT {release}: {highest}")


def _scale_fp16(file: File, device: Device) -> Iterator[Hit]:
    severity = device.severity("<10", "info")
    found = [op for op in file.heads if _scale_type(file, op) == "float16"]
    if found and severity:
        more = f"and {len(found) - 1} more" if len(found) > 1 else ""
        yield Hit(found[0], found[0].input(1), more, severity)


def _mixed_floats(file: File, device: Device) -> Iterator[Hit]:
    types = _types(file)
    for op in file.ops:
        if op.kind not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Concat", "Add"):
            continue
        found = dict.fromkeys(types.get(name, "") for name in op.inputs)
        floats = [kind for kind in found if kind in _FLOATS]
        if len(floats) > 1:
            yield Hit(op, op.output, " and ".join(floats))


def _fp16_overflow(file: File, device: Device) -> Iterator[Hit]:
    for name, constant in file.constants.items():
        readers = [op for op in file.read_by(name) if op.kind not in _LIMITS]
        if not readers:
            continue
        to_half = any(op.kind == "Cast" and op.attributes.get("to") == _FLOAT16 for op in readers)
        scale = all(op.kind in (QUANTIZE, DEQUANTIZE) for op in readers)
        if not scale and (constant.type == "float16" or (constant.type == "float32" and to_half)):
            yield from _overflow(constant, readers[0])


def _overflow(constant: Constant, reader: Op) -> Iterator[Hit]:
    values = np.asarray(constant.read())
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(values.astype(np.float16))
    if bad.any():
        yield Hit(reader, constant.name, f"{values[bad].flat[0]:g}")


def _rest_fp32(file: File, device: Device) -> Iterator[Hit]:
    strong = device.target is not None and device.severity(">=10", "info")
    if strong and file.quantizers and not any(c.type == "float16" for c in file.constants.values()):
        yield Hit(None, file.inputs[0].name if file.inputs else "")


def _fp32_product(file: File, device: Device) -> Iterator[Hit]:
    target = device.target
    if target is None or target.backend != TENSORRT_RTX or 75 not in target.sms:
        return
    types = _types(file)
    for op in file.weighted:
        product = op.kind in ("Gemm", "MatMul") and types.get(op.input(0)) == "float32"
        if product and not file.is_int8(op):
            yield Hit(op, op.output)


def _no_int8(file: File, device: Device) -> Iterator[Hit]:
    if device.target is not None and device.target.no_int8 and file.quantizers:
        op = file.quantizers[0]
        yield Hit(op, op.input(0), f"and {len(file.quantizers) - 1} more")


def _scales(file: File, op: Op) -> int:
    scale = file.constant(op.input(1))
    return 1 if scale is None else scale.size


def _scale_type(file: File, op: Op) -> str:
    scale = file.constant(op.input(1))
    return "" if scale is None else scale.type


def _types(file: File) -> dict[str, str]:
    """Types of the values, as far as the operators that a DenseNet has tell them."""
    found = {name: constant.type for name, constant in file.constants.items()}
    found.update({value.name: value.type for value in file.inputs})
    for op in file.ops:
        if op.kind == DEQUANTIZE:
            kind = found.get(op.input(1), "")
        elif op.kind == "Cast":
            kind = _CASTS.get(op.attributes.get("to", 0), "")
        else:
            kind = found.get(op.input(0), "") if op.kind in _KEEPS_TYPE else ""
        found.update(dict.fromkeys(op.outputs, kind))
    return found


RULES: tuple[Rule, ...] = (
    Rule(
        "opset-low",
        "error",
        "The file is not valid ONNX: its opset does not know this form of Q/DQ, and whether a "
        "parser takes it is luck.",
        "Export with opset 17 (FP32 beside INT8) or 19 (FP16).",
        _opset_low,
        everywhere=True,
    ),
    Rule(
        "opset-high",
        "warning",
        "The parser of the oldest TensorRT that the file may meet does not document this opset.",
        "Export with opset 17 (TensorRT 8.4 on) or 19 (10 on).",
        _opset_high,
    ),
    Rule(
        "scale-fp16",
        "error",
        "TensorRT 8.x reads FP16 scales as FP32, without a word: garbage.",
        "For TensorRT 8.x take the file with FP32 scales (int8.fp32.onnx) and the builder's FP16 "
        "flag.",
        _scale_fp16,
    ),
    Rule(
        "mixed-floats",
        "error",
        "Strongly typed TensorRT (10 on) refuses operands of different floating-point types, and "
        "ONNX does too.",
        "Put a Cast between, or give scales, weights and biases one type.",
        _mixed_floats,
        everywhere=True,
    ),
    Rule(
        "fp16-overflow",
        "error",
        "A constant does not fit into FP16: infinity or NaN in every TensorRT.",
        "Keep the operators that read it in FP32.",
        _fp16_overflow,
        everywhere=True,
    ),
    Rule(
        "rest-fp32",
        "info",
        "Strongly typed TensorRT (10 on) runs all that is not INT8 in FP32.",
        "Take a file with FP16 tensors beside INT8 (int8.fp16.onnx).",
        _rest_fp32,
    ),
    Rule(
        "fp32-product",
        "error",
        "TensorRT-RTX has no FP32 matrix product for Turing: the build fails.",
        "Quantize it, or write it in FP16.",
        _fp32_product,
    ),
    Rule(
        "no-int8",
        "error",
        "The target's GPU has no INT8 kernels: TensorRT refuses Q/DQ, or computes it in floating "
        "point.",
        "Take fp16.onnx for this target.",
        _no_int8,
    ),
)
