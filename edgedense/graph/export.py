"""From a graph to ONNX with explicit Q/DQ, in the form that every TensorRT from 8.6 on accepts.

INT8 is symmetric with an explicit int8 zero-point of 0; weights are stored as INT8 with one scale
an output channel; biases stay in floating point. Typing is strong: the other operators run in the
type that is written here, so FP16 means FP16 tensors, and where the ends of the network are to
stay FP32, one Cast at each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedense import __version__
from edgedense.errors import InputError
from edgedense.graph.nodes import (
    FP16_MAX,
    Affine,
    Array,
    Concat,
    Conv,
    ConvTranspose,
    GlobalPool,
    Graph,
    Linear,
    Node,
    Pad,
    Pool,
    Quantize,
    Relu,
    Select,
    Weighted,
    inputs_of,
    out_axis,
)
from edgedense.graph.weights import quantized_weight, stored_weight

Float = Literal["fp32", "fp16"]

# FP16 scales need opset 19 (below it QuantizeLinear takes FP32 only); 17 reaches back to 8.6
_OPSET = {"fp32": 17, "fp16": 19}
_NUMPY = {"fp32": np.float32, "fp16": np.float16}
_ONNX = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}


def export_onnx(
    graph: Graph, path: Path, float_type: Float, metadata: dict[str, str], io: Float = "fp32"
) -> None:
    """Write ``graph`` as ONNX with a free batch axis; ``metadata`` goes into its properties.

    ``io`` is the type of its input and its output, ``float_type`` that of what lies between.
    Errors: InputError where a parameter does not fit into FP16.
    """
    save(Writer(graph, float_type, io).model(), path, metadata)


def save(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    """Check ``model`` and write it; ``metadata`` goes into its properties."""
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Writer:
    """Collects the ONNX nodes and initializers of one graph."""

    def __init__(self, graph: Graph, float_type: Float, io: Float) -> None:
        self.graph = graph
        self.float_type = float_type
        self.io = io
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.renamed: dict[str, str] = {}
        self.sizes = graph.sizes()

    def model(self) -> onnx.ModelProto:
        """The ONNX model of the graph."""
        graph = self.graph
        self._cast(graph.input, f"{graph.input}.cast", _ONNX[self.float_type])
        for node in graph.nodes:
            self._write(node)
        self._rename_output()
        body = helper.make_graph(
            self.nodes,
            "edgedense",
            [self._end(graph.input, graph.input_shape)],
            [self._end(graph.output, graph.output_shape)],
            self.initializers,
        )
        return helper.make_model(
            body,
            opset_imports=[helper.make_opsetid("", _OPSET[self.float_type])],
            ir_version=9,
            producer_name="edgedense",
            producer_version=__version__,
        )

    def _end(self, name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, _ONNX[self.io], ["batch", *shape])

    def _cast(self, value: str, cast: str, to: int) -> None:
        if self.float_type != self.io:
            self.nodes.append(helper.make_node("Cast", [value], [cast], name=cast, to=to))
            self.renamed[value] = cast

    def _rename_output(self) -> None:
        if self.float_type != self.io:
            inner = f"{self.graph.output}.{self.float_type}"
            self.nodes[-1].name = self.nodes[-1].output[0] = inner
            self._cast(inner, self.graph.output, _ONNX[self.io])

    def _write(self, node: Node) -> None:
        x = [self.renamed.get(name, name) for name in inputs_of(node)]
        match node:
            case Conv():
                self._convolution(node, x)
            case ConvTranspose():
                window = {"kernel_shape": list(node.weight.shape[2:]), "strides": [node.stride] * 2}
                inputs = [*x, *self._weights(node)]
                self._op("ConvTranspose", node.name, inputs, pads=[0, 0, *node.trim], **window)
            case Linear():
                self._op("Gemm", node.name, [*x, *self._weights(node)], transB=1)
            case Affine():
                self._batch_norm(node, x[0])
            case Relu():
                self._relu(node, x)
            case Select():
                channels = self._constant(f"{node.name}.channels", node.channels)
                self._op("Gather", node.name, [*x, channels], axis=1)
            case Concat():
                self._op("Concat", node.name, x, axis=1)
            case Pool():
                kind = "AveragePool" if node.kind == "avg" else "MaxPool"
                window = {"kernel_shape": [node.kernel] * 2, "strides": [node.stride] * 2}
                self._op(kind, node.name, x, pads=[node.padding] * 4, **window)
            case Pad():
                top, left, bottom, right = node.pads
                border = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
                border_name = self._constant(f"{node.name}.pads", border)
                self._op("Pad", node.name, [*x, border_name], mode=node.mode)
            case GlobalPool():
                self._op("GlobalAveragePool", f"{node.name}.mean", x)
                self._op("Flatten", node.name, [f"{node.name}.mean"], axis=1)
            case Quantize():
                scale = self._float(f"{node.name}.scale", np.float32(node.scale))
                zero = self._constant(f"{node.name}.zero_point", np.int8(0))
                self._op("QuantizeLinear", f"{node.name}.q", [*x, scale, zero])
                self._op("DequantizeLinear", node.name, [f"{node.name}.q", scale, zero])

    def _relu(self, node: Relu, x: list[str]) -> None:
        """Relu or Clip, and Min where channels have ends of their own."""
        below = node.name if node.high is None else f"{node.name}.low_end"
        if node.low == 0.0:
            self._op("Relu", below, x)
        else:
            bounds = [self._float(f"{node.name}.low", np.float32(node.low))]
            if self.float_type == "fp16":
                # without a largest value TensorRT takes FP32's, and warns that it does not fit
                bounds.append(self._float(f"{node.name}.largest", np.float32(FP16_MAX)))
            self._op("Clip", below, [*x, *bounds])
        if node.high is not None:
            largest = FP16_MAX if self.float_type == "fp16" else float(np.finfo(np.float32).max)
            ends = np.minimum(node.high, np.float32(largest)).reshape(-1, 1, 1)
            self._op("Min", node.name, [below, self._float(f"{node.name}.high", ends)])

    def _convolution(self, node: Conv, x: list[str]) -> None:
        """A convolution; what it pads with, where not zeros, is a constant map behind it.

        A Pad in front would come between it and its DequantizeLinear, and cost it INT8.
        """
        pads, kernel = [node.padding] * 4, list(node.weight.shape[2:])
        name = f"{node.name}.inside" if node.border else node.name
        inputs = [*x, *self._weights(node)]
        strides = [node.stride] * 2
        self._op("Conv", name, inputs, kernel_shape=kernel, pads=pads, strides=strides)
        if node.border:
            border = self._float(f"{node.name}.border", self._border(node))
            self._op("Add", node.name, [name, border])

    def _border(self, node: Conv) -> Array:
        """What pixels of value ``border`` around the input add: (1, out, height, width)."""
        height, width = self.sizes[node.input]
        found = outside(node, height, width) * node.border
        whole: Array = found.astype(np.float32)[np.newaxis]
        return whole

    def _weights(self, node: Weighted) -> list[str]:
        bias = self._float(f"{node.name}.bias", node.bias)
        if node.weight_scale is None:
            return [self._float(f"{node.name}.weight", node.weight), bias]
        stored = self._constant(f"{node.name}.weight.int8", quantized_weight(node))
        scale = self._float(f"{node.name}.weight.scale", node.weight_scale)
        zeros = np.zeros(len(node.weight_scale), np.int8)
        zero = self._constant(f"{node.name}.weight.zero_point", zeros)
        weight = f"{node.name}.weight"
        self._op("DequantizeLinear", weight, [stored, scale, zero], axis=out_axis(node))
        return [weight, bias]

    def _batch_norm(self, node: Affine, x: str) -> None:
        # mean 0, variance 1 and epsilon 0 leave the affine alone, already computed in float64
        mean = np.zeros_like(node.scale)
        names = {"scale": node.scale, "shift": node.shift, "mean": mean, "var": mean + 1}
        parameters = [self._float(f"{node.name}.{key}", value) for key, value in names.items()]
        self._op("BatchNormalization", node.name, [x, *parameters], epsilon=0.0)

    def _op(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))

    def _float(self, name: str, value: NDArray[np.float32] | np.float32) -> str:
        peak = float(np.max(np.abs(value)))
        if self.float_type == "fp16" and peak > FP16_MAX:
            raise InputError(
                f"{name}: {peak:.3g} does not fit into FP16 (at most {FP16_MAX:.0f})",
                "Keep the other operators in FP32: --rest fp32.",
            )
        return self._constant(name, np.asarray(value, _NUMPY[self.float_type]))

    def _constant(self, name: str, value: Any) -> str:
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def outside(node: Conv, height: int, width: int) -> NDArray[np.float64]:
    """Sum of the weights that lie on padding, at each output: (out, rows, columns).

    ``height`` and ``width`` are the input's.
    """
    weight = stored_weight(node).astype(np.float64).sum(axis=1)
    inside = [_taps_inside(node, pixels, axis) for axis, pixels in enumerate((height, width))]
    found: NDArray[np.float64] = weight.sum(axis=(1, 2))[:, None, None] - np.einsum(
        "kij,ri,cj->krc", weight, *inside
    )
    return found


def _taps_inside(node: Conv, pixels: int, axis: int) -> NDArray[np.float64]:
    """1 where a tap of the kernel lies inside ``pixels``: (outputs, taps)."""
    taps = node.weight.shape[2 + axis]
    outputs = (pixels + 2 * node.padding - taps) // node.stride + 1
    place = node.stride * np.arange(outputs)[:, None] + np.arange(taps) - node.padding
    return ((place >= 0) & (place < pixels)).astype(np.float64)
