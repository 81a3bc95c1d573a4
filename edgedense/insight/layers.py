"""One layer of an engine, as TensorRT's inspector tells it, and what can be said of it alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Role = Literal["weighted", "quantizer", "reformat", "nothing", "other"]
REST = "rest"

# data types under the names of all versions, in the order of how they are looked for
_TYPES = (
    ("BF16", r"bf16|bfloat16"),
    ("FP8", r"fp8|e4m3\w*|e5m2\w*"),
    ("FP4", r"fp4|e2m1\w*"),
    ("FP16", r"fp16|float16|half"),
    ("FP32", r"fp32|float32|float"),
    ("INT4", r"int4"),
    ("UINT8", r"uint8"),
    ("INT8", r"int8"),
    ("INT32", r"int32"),
    ("INT64", r"int64"),
    ("BOOL", r"bool"),
)
_TYPE = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _TYPES), re.I)
# what a kernel multiplies, in its name: …_i8f16_i8i32_f32_…, …icudnn_int8x4_…, …_h16816cudnn_…
_KERNEL = re.compile(
    r"_(?P<FP8>e4m3|fp8)(?:e4m3|fp8|f\d\d)_|_(?P<INT8>i8)(?:i8|i32|f16|f32|bf16)_|"
    r"_(?P<FP16>f16)(?:f16|f32)_|_(?P<BF16>bf16)(?:bf16|f32)_|_(?P<FP32>f32)(?:f32|tf32)_|"
    r"(?P<INT8_>int8x\d+|i8816)|(?P<FP16_>_f16f16f\d\d_|_h\d{3,5}(?:cudnn)?_)|"
    r"(?P<FP32_>_scudnn_|_sgemm_)"
)
_QUANTIZER = re.compile(r"quantizelinear|quantize_linear|\.qdq(?:\.q)?\b", re.I)
_WEIGHTED_KIND = re.compile(r"conv|gemm|matrixmultiply|fullyconnected", re.I)
_WEIGHTED_PARAMETER = frozenset(
    {"convolution", "deconvolution", "matrixmultiply", "fullyconnected", "gemm"}
)
_BLOCK = re.compile(
    r"(?<![A-Za-z])(?P<word>denseblock|dense_block|transition|stage|layer|block|down|up)"
    r"[_.]?(?P<number>\d+)",
    re.I,
)


@dataclass(frozen=True)
class Tensor:
    """An end of a layer; a free axis has length -1, ``format`` is TensorRT's own text."""

    name: str
    shape: tuple[int, ...] = ()
    format: str = ""
    type: str | None = None

    @property
    def channels(self) -> int | None:
        """Length of axis 1; None where it is free or there is none."""
        return self.shape[1] if len(self.shape) > 1 and self.shape[1] > 0 else None


@dataclass(frozen=True)
class Layer:
    """One layer of the engine, which is mostly one kernel; ``onnx`` are the nodes it came from."""

    name: str
    kind: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    onnx: tuple[str, ...] = ()
    parameter: str = ""
    origin: str = ""
    tactic: str = ""
    weights: str | None = None
    kernel: tuple[int, ...] = ()
    groups: int = 1

    @cached_property
    def role(self) -> Role:
        """What it does: multiply by weights, quantize, change a layout, nothing, anything else."""
        if self._is_weighted():
            return "weighted"
        if self.kind.lower() in ("noop", "constant"):
            return "nothing"
        if self.origin == "QDQ" or self._is_quantizer():
            return "quantizer"
        if "reformat" in self.kind.lower() or self.name.startswith("Reformatting CopyNode"):
            return "reformat"
        if self.kind.lower() == "shuffle" or self.parameter.lower() == "shuffle":
            return "reformat"
        return "other"

    @cached_property
    def precision(self) -> str | None:
        """What it multiplies in: the type of its first input, which counts for all that is summed.

        Where the inspector hides types (axes are free and no shape was set), that of the weights,
        then that in the name of the kernel; None where nothing tells.
        """
        told = self.inputs[0].type if self.inputs else None
        return told or self.weights or kernel_type(self.tactic)

    @cached_property
    def told(self) -> bool:
        """Whether the inspector told the type of the first input."""
        return bool(self.inputs) and self.inputs[0].type is not None

    @cached_property
    def quantized_by_name(self) -> bool:
        """Whether its name or its nodes show that Q/DQ of the ONNX file were fused into it."""
        return any(_QUANTIZER.search(text) for text in (self.name, *self.onnx))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The ONNX nodes it came from: by its metadata, else by its name (``a + b``)."""
        return self.onnx or tuple(self.name.split(" + "))

    @cached_property
    def block(self) -> str:
        """The dense block, transition or stage it belongs to, by names; else ``rest``."""
        ends = [tensor.name for tensor in (*self.outputs, *self.inputs)]
        for text in (*self.onnx, self.name, *ends):
            if found := _BLOCK.search(text):
                return f"{found['word'].lower()}{found['number']}"
        return REST

    def _is_weighted(self) -> bool:
        if self.name.startswith("Reformatting CopyNode"):
            return False
        if self.parameter.lower() in _WEIGHTED_PARAMETER:
            return True
        return _WEIGHTED_KIND.search(self.kind) is not None

    def _is_quantizer(self) -> bool:
        if self.onnx:
            return all(_QUANTIZER.search(node) for node in self.onnx)
        return _QUANTIZER.search(self.name) is not None and " + " not in self.name


def data_type(text: str) -> str | None:
    """The type in a text such as ``Thirty-two wide channel vectorized row major Int8 format``.

    None where it names none, as in ``N/A due to dynamic shapes``.
    """
    found = _TYPE.search(text)
    return found.lastgroup if found else None


def kernel_type(tactic: str) -> str | None:
    """The type of the operands in the name of a kernel; None where the name tells nothing."""
    found = _KERNEL.search(tactic)
    return found.lastgroup.rstrip("_") if found and found.lastgroup else None
