"""From a graph to the ONNX that CPUs run fastest: integer operators from end to end.

ONNX Runtime fuses Q/DQ pairs around a convolution only where its output is quantized as well, and
dequantizes a concat anew for each of its readers: on a DenseNet that costs more than INT8 wins.
Here an INT8 value stays what it is. Its code q is stored as uint8 q + 128, the only type for which
x86 has fast kernels, and the numbers are those of the Q/DQ file, up to values within rounding error
of a code's border:

- a concat copies bytes, and copies what an earlier concat of its block holds from there;
- BN, ReLU and requantization are one depthwise 1x1 QLinearConv: its scale a channel is BN's own;
- a ReLU whose values begin at code 0 is the saturation of that convolution, others are one Clip;
- 1x1 convolution and average pool of a transition are one strided convolution: nothing is rounded
  in between.

What has no integer form (the tail behind the last concat, transposed convolutions, concats in
floating point) is written as it is in the Q/DQ file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedense.graph.export import Writer, save
from edgedense.graph.nodes import (
    Affine,
    Array,
    Concat,
    Conv,
    Graph,
    Linear,
    Node,
    Pool,
    Quantize,
    Relu,
    Weighted,
    inputs_of,
)
from edgedense.graph.weights import quantized_weight, stored_weight

_ZERO = 128  # the code of 0
_LARGEST_BIAS = 2.0**30  # leaves as much of int32 for the sum
_LEAST_STEP = 2.0**-60  # of weights that are all 0


def export_integer(graph: Graph, path: Path, metadata: dict[str, str]) -> Graph:
    """Write ``graph``, with its Q/DQ placed, as ONNX of integer operators and a free batch axis.

    ``metadata`` goes into its properties. Gives the graph with its biases as they are written: in
    whole steps of the INT32 sums that they are added to.
    """
    writer = _IntegerWriter(graph)
    save(writer.model(), path, metadata)
    return graph.map(lambda node: writer.rounded.get(node.name, node))


@dataclass(frozen=True)
class _Codes:
    """A value as uint8 tensor ``tensor``: ``scale`` * (code - 128)."""

    tensor: str
    scale: float


@dataclass(frozen=True)
class _Fusion:
    """A convolution or BN, what stands between it and its quantization, and this."""

    root: Conv | Affine
    relu: Relu | None
    pool: Pool | None
    quantize: Quantize

    @property
    def absorbed(self) -> set[str]:
        """Names of the nodes that are not written on their own."""
        return {node.name for node in (self.relu, self.pool, self.quantize) if node}

    @property
    def lowest(self) -> int:
        """The least code that the ReLU lets through."""
        if self.relu is None:
            return 0
        return max(0, _ZERO + round(self.relu.low / self.quantize.scale))


class _IntegerWriter(Writer):
    """Writes integer operators where a node's input is held in codes."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, "fp32", "fp32")
        self.fusions = {fusion.root.name: fusion for fusion in _fusions(graph)}
        self.absorbed: set[str] = set()
        self.codes: dict[str, _Codes] = {}
        self.floats: set[str] = {graph.input}
        self.rounded: dict[str, Node] = {}
        self.grown: dict[str, tuple[list[str], str]] = {}  # a block's longest concat so far

    def _write(self, node: Node) -> None:
        if node.name in self.absorbed:
            return
        held = [self.codes.get(name) for name in inputs_of(node)]
        fusion = self.fusions.get(node.name)
        if fusion and held[0]:
            self._fused(fusion, held[0])
        elif isinstance(node, Concat) and all(held) and len({c.scale for c in held if c}) == 1:
            self._concat(node, [codes for codes in held if codes])
        elif isinstance(node, Quantize):
            self._quantize(node, held[0])
        elif isinstance(node, Linear) and held[0]:
            self._linear(node, held[0])
        else:
            self._in_float(node)

    def _fused(self, fusion: _Fusion, x: _Codes) -> None:
        """One QLinearConv, and where the codes need it MaxPool and Clip."""
        quantize, pool = fusion.quantize, fusion.pool
        found = _Codes(f"{quantize.name}.codes", quantize.scale)
        steps = ["QLinearConv"]
        steps += ["MaxPool"] if pool and pool.kind == "max" else []
        steps += ["Clip"] if fusion.lowest > 0 else []
        names = [f"{fusion.root.name}.codes", f"{quantize.name}.pooled"][: len(steps) - 1]
        value = x.tensor
        for step, name in zip(steps, [*names, found.tensor], strict=True):
            if step == "QLinearConv":
                self._qlinear_conv(fusion, x, name)
            elif step == "MaxPool" and pool:
                window = {"kernel_shape": [pool.kernel] * 2, "strides": [pool.stride] * 2}
                self._op("MaxPool", name, [value], pads=[pool.padding] * 4, **window)
            else:
                low = self._constant(f"{name}.low", np.uint8(fusion.lowest))
                self._op("Clip", name, [value, low])
            value = name
        self.codes[quantize.name] = found
        self.absorbed |= fusion.absorbed

    def _qlinear_conv(self, fusion: _Fusion, x: _Codes, name: str) -> None:
        root = _convolution(fusion)
        assert root.weight_scale is not None
        moved = _moved(root)
        weight = _integers(replace(root, bias=root.bias + moved), x.scale)
        self.rounded[root.name] = _with_bias(fusion.root, weight.exact_bias(x.scale) - moved)
        zero = round(root.border / x.scale)
        inputs = [
            *(x.tensor, *self._scale_and_zero(x, zero)),
            self._constant(f"{name}.weight", weight.codes),
            self._constant(f"{name}.weight.scale", weight.step),
            self._constant(f"{name}.weight.zero_point", np.zeros(len(weight.step), np.int8)),
            *self._scale_and_zero(_Codes(name, fusion.quantize.scale)),
            self._constant(f"{name}.bias", weight.bias),
        ]
        window = {
            "kernel_shape": list(root.weight.shape[2:]),
            "strides": [root.stride] * 2,
            "pads": [root.padding] * 4,
        }
        group = len(weight.step) if isinstance(fusion.root, Affine) else 1
        self._op("QLinearConv", name, inputs, group=group, **window)

    def _concat(self, node: Concat, parts: list[_Codes]) -> None:
        tensors = [part.tensor for part in parts]
        before, grown = self.grown.get(tensors[0], ([], ""))
        found = _Codes(f"{node.name}.codes", parts[0].scale)
        known = len(before) if tensors[: len(before)] == before else 0
        copied = [grown, *tensors[known:]] if known else tensors
        self._op("Concat", found.tensor, copied, axis=1)
        self.grown[tensors[0]] = tensors, found.tensor
        self.codes[node.name] = found

    def _quantize(self, node: Quantize, held: _Codes | None) -> None:
        if held and held.scale == node.scale:
            self.codes[node.name] = held
            return
        self._as_float(node.input)
        found = _Codes(f"{node.name}.codes", node.scale)
        inputs = [node.input, *self._scale_and_zero(found)]
        self._op("QuantizeLinear", found.tensor, inputs)
        self.codes[node.name] = found

    def _linear(self, node: Linear, x: _Codes) -> None:
        """A Gemm of Q/DQ with an INT32 bias, which ONNX Runtime runs as one integer operator."""
        if node.weight_scale is None:
            self._in_float(node)
            return
        weight = _integers(node, x.scale)
        self.rounded[node.name] = _with_bias(node, weight.exact_bias(x.scale))
        inputs = [node.input]
        for key, codes, step in (
            ("weight", weight.codes, weight.step),
            ("bias", weight.bias, weight.step * np.float32(x.scale)),
        ):
            name = f"{node.name}.{key}"
            held = self._constant(f"{name}.codes", codes)
            scale = self._constant(f"{name}.scale", step)
            zero = self._constant(f"{name}.zero_point", np.zeros(len(step), codes.dtype))
            self._op("DequantizeLinear", name, [held, scale, zero], axis=0)
            inputs.append(name)
        self._as_float(node.input)
        self._op("Gemm", node.name, inputs, transB=1)

    def _in_float(self, node: Node) -> None:
        for name in inputs_of(node):
            self._as_float(name)
        if isinstance(node, Weighted) and node.weight_scale is not None:
            # a DequantizeLinear keeps ONNX Runtime from its blocked convolutions
            node = replace(node, weight=stored_weight(node), weight_scale=None)
        super()._write(node)
        self.floats.add(node.name)

    def _as_float(self, value: str) -> None:
        if value not in self.floats:
            codes = self.codes[value]
            inputs = [codes.tensor, *self._scale_and_zero(codes)]
            self._op("DequantizeLinear", value, inputs)
            self.floats.add(value)

    def _scale_and_zero(self, codes: _Codes, zero: int = 0) -> list[str]:
        """Names of a value's scale and zero-point; ``zero`` is the INT8 code that stands for 0."""
        names = [f"{codes.tensor}.scale", f"{codes.tensor}.zero_point{zero or ''}"]
        values = (np.float32(codes.scale), np.uint8(_ZERO + zero))
        known = {array.name for array in self.initializers}
        for name, value in zip(names, values, strict=True):
            if name not in known:
                self._constant(name, value)
        return names


def _fusions(graph: Graph) -> list[_Fusion]:
    """All chains convolution [ReLU] [pool] quantization that nobody else reads into."""
    nodes = {node.name: node for node in graph.nodes}
    readers = graph.readers()
    found = []
    for quantize in graph.nodes:
        if not isinstance(quantize, Quantize):
            continue
        chain: list[Node] = []
        value = quantize.input
        while len(readers[value]) == 1 and isinstance(nodes.get(value), Relu | Pool):
            chain.append(nodes[value])
            value = inputs_of(nodes[value])[0]
        root = nodes.get(value)
        pool = next((node for node in chain if isinstance(node, Pool)), None)
        relu = next((node for node in chain if isinstance(node, Relu)), None)
        whole = len(chain) == sum(node is not None for node in (pool, relu))
        if isinstance(root, Conv | Affine) and len(readers[value]) == 1 and whole:
            fusion = _Fusion(root, relu, pool, quantize)
            if _fits(fusion):
                found.append(fusion)
    return found


def _fits(fusion: _Fusion) -> bool:
    root, pool = fusion.root, fusion.pool
    if isinstance(root, Conv) and root.weight_scale is None:
        return False
    if fusion.relu is not None and fusion.relu.high is not None:
        return False
    if pool is None or pool.kind == "max":
        return True
    if isinstance(root, Affine) or fusion.relu is not None:
        return False
    pointwise = root.weight.shape[2:] == (1, 1) and root.padding == 0 and root.stride == 1
    return pointwise and pool.stride == pool.kernel and pool.padding == 0


def _convolution(fusion: _Fusion) -> Conv:
    """The convolution that a fusion is, its maximum pool and Clip aside."""
    root, pool = fusion.root, fusion.pool
    if isinstance(root, Affine):
        step = (np.abs(root.scale) / 127).astype(np.float32)
        weight = root.scale[:, None, None, None]
        return Conv(root.name, root.input, weight, root.shift, weight_scale=step)
    if pool is None or pool.kind == "max":
        return root
    assert root.weight_scale is not None
    side, pixels = pool.kernel, np.float32(pool.kernel**2)
    weight = np.tile(stored_weight(root), (1, 1, side, side)) / pixels
    return replace(root, weight=weight, weight_scale=root.weight_scale / pixels, stride=side)


def _moved(node: Conv) -> Array:
    """What the bias gains where ``border`` is called zero: operators pad with their zero-point."""
    if not node.border:
        return np.zeros_like(node.bias)
    sums: Array = stored_weight(node).reshape(len(node.weight), -1).sum(axis=1)
    return sums * np.float32(node.border)


@dataclass(frozen=True, eq=False)
class _Integers:
    """INT8 weights, their step an output channel, and the INT32 bias in steps of the sum."""

    codes: NDArray[np.int8]
    step: Array
    bias: NDArray[np.int32]

    def exact_bias(self, x_scale: float) -> Array:
        """What the INT32 bias stands for."""
        return (self.bias * (x_scale * self.step.astype(np.float64))).astype(np.float32)


def _with_bias(node: Conv | Affine | Linear, bias: Array) -> Node:
    return replace(node, shift=bias) if isinstance(node, Affine) else replace(node, bias=bias)


def _integers(node: Conv | Linear, x_scale: float) -> _Integers:
    """Weights as stored; coarser where the bias dwarfs them so much that it would leave INT32."""
    assert node.weight_scale is not None
    bias = node.bias.astype(np.float64)
    least = np.maximum(np.abs(bias) / (x_scale * _LARGEST_BIAS), _LEAST_STEP)
    step = np.maximum(node.weight_scale, least).astype(np.float32)
    whole = np.rint(bias / (x_scale * step.astype(np.float64))).astype(np.int32)
    return _Integers(quantized_weight(replace(node, weight_scale=step)), step, whole)
