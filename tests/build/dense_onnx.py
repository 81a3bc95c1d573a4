"""A small DenseNet block as explicit-Q/DQ ONNX, made by hand: an input for builders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper


class Graph:
    """Collects nodes and constants; ``rest`` is the type of everything that is not INT8."""

    def __init__(self, rest: Any, zero: Any, quantized: bool) -> None:
        self.rest, self.zero, self.quantized = rest, zero, quantized
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.random = np.random.default_rng(0)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def qdq(self, tensor: str, scale: NDArray[Any] | float, **axis: int) -> str:
        scales = np.asarray(scale, self.rest)
        s = self.constant(f"{tensor}_scale", scales)
        z = self.constant(f"{tensor}_zero", np.full(scales.shape, self.zero))
        codes = self.add("QuantizeLinear", [tensor, s, z], f"{tensor}_q", **axis)
        return self.add("DequantizeLinear", [codes, s, z], f"{tensor}_dq", **axis)

    def conv(self, tensor: str, shape: tuple[int, int, int], name: str) -> str:
        outputs, inputs, size = shape
        weights = self.random.normal(size=(outputs, inputs, size, size)) / np.sqrt(inputs * size)
        w = self.constant(f"{name}_w", weights.astype(self.rest))
        if self.quantized:
            w = self.qdq(w, np.full(outputs, 0.01), axis=0)
            tensor = self.qdq(tensor, 0.05)
        return self.add("Conv", [tensor, w], name, kernel_shape=[size] * 2, pads=[size // 2] * 4)

    def norm_relu(self, tensor: str, channels: int, name: str) -> str:
        facts = [
            self.constant(f"{name}_{i}", np.full(channels, value, self.rest))
            for i, value in enumerate((1, 0.1, 0, 1))
        ]
        return self.add(
            "Relu", [self.add("BatchNormalization", [tensor, *facts], f"{name}_bn")], name
        )


def dense_onnx(
    *,
    layers: int = 2,
    growth: int = 16,
    rest: Any = np.float32,
    zero: Any = 0,
    quantized: bool = True,
) -> ModelProto:
    """images (batch, 3, 16, 16) float32 to logits (batch, 10) float32, one dense block."""
    graph = Graph(rest, np.int8(zero) if isinstance(zero, int) else zero, quantized)
    tensor, half = "images", rest != np.float32
    if half:
        tensor = graph.add("Cast", [tensor], "half", to=TensorProto.FLOAT16)
    channels, width = growth, 4 * growth
    tensor = graph.conv(tensor, (growth, 3, 3), "stem")
    parts = [tensor]
    for i in range(layers):
        inner = graph.conv(
            graph.norm_relu(tensor, channels, f"a{i}"), (width, channels, 1), f"b{i}"
        )
        new = graph.conv(graph.norm_relu(inner, width, f"c{i}"), (growth, width, 3), f"d{i}")
        parts.append(new)
        tensor = graph.add("Concat", list(parts), f"concat{i}", axis=1)
        channels += growth
    pooled = graph.add("GlobalAveragePool", [graph.norm_relu(tensor, channels, "last")], "pooled")
    flat = graph.add("Flatten", [pooled], "flat")
    w = graph.constant("fc", graph.random.normal(size=(10, channels)).astype(rest))
    out = graph.add("Gemm", [flat, w], "logits_half" if half else "logits", transB=1)
    if half:
        graph.add("Cast", [out], "logits", to=TensorProto.FLOAT)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("images", ["batch", 3, 16, 16]), ("logits", ["batch", 10]))
    ]
    body = helper.make_graph(graph.nodes, "dense", ends[:1], ends[1:], graph.constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
