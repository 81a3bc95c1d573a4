"""What TensorRT asks of an explicit-Q/DQ ONNX file, as one list of complaints.

Rules: zero-points present, int8 and 0; activations per tensor, weights per output channel (axis 0;
1 of transposed convolutions); biases never quantized; scales positive, finite, of the type that the
other tensors have; no operator that only ONNX Runtime knows; no single-input concat; no unfolded BN
behind a convolution; opset 17 (FP32) or 19 (FP16).
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

OPERATORS = frozenset(
    (
        *("Conv", "Gemm", "BatchNormalization", "Relu", "Concat", "AveragePool", "MaxPool"),
        *(
            "ConvTranspose",
            "Pad",
            "Clip",
            "Min",
            "Gather",
            "GlobalAveragePool",
            "Flatten",
            "QuantizeLinear",
            "DequantizeLinear",
            "Cast",
        ),
    )
)
WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
OPSET = {"fp32": 17, "fp16": 19}
FLOAT = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16}


class File:
    """An ONNX file of ours: ``rest`` is fp32 or fp16, and so is ``io``, the type of its ends."""

    def __init__(self, model: onnx.ModelProto, rest: str, io: str = "fp32") -> None:
        self.model, self.rest, self.io = model, rest, io
        self.nodes = list(model.graph.node)
        self.constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.readers = Counter(name for node in self.nodes for name in node.input)

    def complaints(self) -> list[str]:
        found = [*self._file(), *self._types()]
        for node in self.nodes:
            if node.op_type not in OPERATORS:
                found.append(f"{node.name}: {node.op_type} is not expected")
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                found += [f"{node.name}: {what}" for what in self._pair(node)]
            if node.op_type == "Concat" and len(node.input) < 2:
                found.append(f"{node.name}: concat of one value")
            if node.op_type == "BatchNormalization" and self._could_fold(node.input[0]):
                found.append(f"{node.name}: BN is not folded into the convolution before it")
            if node.op_type in WEIGHTED and node.input[2] not in self.constants:
                found.append(f"{node.name}: its bias is computed")
        return found

    def quantized(self) -> list[onnx.NodeProto]:
        """Convolutions and the classifier whose data and weights both come from INT8."""
        return [
            node
            for node in self.nodes
            if node.op_type in WEIGHTED
            and [self._made_by(name) for name in node.input[:2]] == ["DequantizeLinear"] * 2
        ]

    @cached_property
    def types(self) -> dict[str, int]:
        """Element types of all values, as ONNX infers them."""
        whole = shape_inference.infer_shapes(self.model, strict_mode=True).graph
        values = [*whole.value_info, *whole.input, *whole.output]
        return {value.name: value.type.tensor_type.elem_type for value in values}

    def _made_by(self, name: str) -> str | None:
        return self.producer[name].op_type if name in self.producer else None

    def _could_fold(self, name: str) -> bool:
        return self._made_by(name) == "Conv" and self.readers[name] == 1

    def _file(self) -> list[str]:
        opset = [entry.version for entry in self.model.opset_import if not entry.domain]
        wrong = [] if opset == [OPSET[self.rest]] else [f"opset {opset}"]
        for name, value in self.constants.items():
            if value.size == 0:
                wrong.append(f"{name}: no elements")
            elif not np.isfinite(value.astype(np.float64)).all():
                wrong.append(f"{name}: not finite")
            if not self.readers[name]:
                wrong.append(f"{name}: nobody reads it")
        return wrong

    def _types(self) -> list[str]:
        ends = {value.name for value in (*self.model.graph.input, *self.model.graph.output)}
        allowed = {FLOAT[self.rest], onnx.TensorProto.INT8}
        wrong = [n for n, t in self.types.items() if n not in ends and t not in allowed]
        wrong += [n for n in ends if self.types[n] != FLOAT[self.io]]
        dtypes = (np.int8, np.float32 if self.rest == "fp32" else np.float16)
        counts = {node.input[1] for node in self.nodes if node.op_type in ("Pad", "Gather")}
        floats = {n: v for n, v in self.constants.items() if n not in counts}
        wrong += [n for n, value in floats.items() if value.dtype not in dtypes]
        casts = sum(node.op_type == "Cast" for node in self.nodes)
        if casts != (0 if self.rest == self.io else 2):
            wrong.append(f"{casts} casts")
        return [f"{name}: type" for name in wrong]

    def _pair(self, node: onnx.NodeProto) -> list[str]:
        if len(node.input) != 3:
            return ["no explicit zero-point"]
        value, scale, zero = (self.constants.get(name) for name in node.input)
        if scale is None or zero is None:
            return ["scale and zero-point are not constants"]
        wrong = [] if zero.dtype == np.int8 and not zero.any() else ["zero-point is not int8 0"]
        if not (scale > 0).all():
            wrong.append("scale is not positive")
        if scale.shape != zero.shape:
            wrong.append("scale and zero-point differ in shape")
        return wrong + (self._activation(node, scale) if value is None else self._weight(node))

    def _activation(self, node: onnx.NodeProto, scale: NDArray[np.floating]) -> list[str]:
        wrong = ["activation is not per tensor"] if scale.shape != () else []
        if node.op_type == "DequantizeLinear" and self._made_by(node.input[0]) != "QuantizeLinear":
            wrong.append("no QuantizeLinear before it")
        if node.op_type == "QuantizeLinear":
            pairs = [n for n in self.nodes if node.output[0] in n.input]
            if [n.op_type for n in pairs] != ["DequantizeLinear"]:
                wrong.append("not followed by one DequantizeLinear")
            elif list(pairs[0].input[1:]) != list(node.input[1:]):
                wrong.append("the pair has two scales")
            else:
                users = [n for n in self.nodes if pairs[0].output[0] in n.input]
                wrong += [f"read by {n.op_type}" for n in users if n.op_type not in WEIGHTED]
            if self._made_by(node.input[0]) == "BatchNormalization" and node.input[0] != "pixels":
                wrong.append("quantizes a BN")  # the images' own has no ReLU that it belongs to
        return wrong

    def _weight(self, node: onnx.NodeProto) -> list[str]:
        value, scale = (self.constants[name] for name in node.input[:2])
        axis = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
        wrong = [] if value.dtype == np.int8 and value.ndim >= 2 else ["is no int8 weight"]
        readers = [n for n in self.nodes if node.output[0] in n.input]
        out = 1 if any(n.op_type == "ConvTranspose" for n in readers) else 0
        if axis != [out] or scale.shape != value.shape[out : out + 1]:
            wrong.append("weight is not per output channel")
        if (value == -128).any():
            wrong.append("weight of -128")
        if any(list(n.input).index(node.output[0]) != 1 for n in readers):
            wrong.append("dequantizes something that is no weight")
        return wrong
