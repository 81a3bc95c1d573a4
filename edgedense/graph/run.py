"""Running a graph in PyTorch: the FP32 function, or the INT8 simulation where it has Q/DQ."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from edgedense.graph.nodes import (
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
)
from edgedense.graph.weights import stored_weight

Observe = Callable[[str, Tensor], None]


class GraphRunner:
    """Runs a graph on images (N, C, H, W); ``observe`` sees each value as it is made.

    Values are freed after their last reader, so memory is bounded by one batch. They lie in memory
    as NHWC, for which convolutions and pooling are faster: DenseNet-121 takes 0.64 of NCHW's time.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._last = graph.last_reader()
        self._widths = graph.widths()
        concats = [node for node in graph.nodes if isinstance(node, Concat)]
        self._concats = {node.name for node in concats}
        self._longest = {node.inputs[0]: node for node in concats}  # the last one wins
        self._parameters = {
            node.name: _parameters(node)
            for node in graph.nodes
            if isinstance(node, Weighted | Affine)
        }
        self._highs = {
            node.name: torch.from_numpy(node.high).view(1, -1, 1, 1)
            for node in graph.nodes
            if isinstance(node, Relu) and node.high is not None
        }

    @torch.inference_mode()
    def __call__(self, images: Array, observe: Observe | None = None) -> Array:
        """Logits (N, classes[, height, width])."""
        values = {self.graph.input: as_input(images)}
        growing: dict[str, _Growing] = {}
        if observe:
            observe(self.graph.input, values[self.graph.input])
        for position, node in enumerate(self.graph.nodes):
            values[node.name] = self._step(position, node, values, growing)
            if observe:
                observe(node.name, values[node.name])
            for name in [n for n in values if self._last.get(n, position + 1) <= position]:
                del values[name]
        return as_array(values[self.graph.output])

    def _step(  # noqa: PLR0911, PLR0912  one case an operator
        self, position: int, node: Node, values: dict[str, Tensor], growing: dict[str, _Growing]
    ) -> Tensor:
        if isinstance(node, Concat):
            return self._concat(node, values, growing)
        x = values[node.input]
        match node:
            case Conv():
                weight, bias = self._parameters[node.name]
                if node.border:
                    x = F.pad(x, (node.padding,) * 4, value=node.border)
                    return F.conv2d(x, weight, bias, node.stride)
                return F.conv2d(x, weight, bias, node.stride, node.padding)
            case ConvTranspose():
                weight, bias = self._parameters[node.name]
                whole = F.conv_transpose2d(x, weight, bias, node.stride)
                rows, columns = (n - cut for n, cut in zip(whole.shape[2:], node.trim, strict=True))
                return whole[:, :, :rows, :columns]
            case Linear():
                return F.linear(x, *self._parameters[node.name])
            case Affine():
                scale, shift = self._parameters[node.name]
                return torch.addcmul(shift, x, scale)
            case Relu():
                x = _rectified(x, node.low, inplace=self._is_spent(node, position))
                high = self._highs.get(node.name)
                return x if high is None else torch.minimum(x, high, out=x)
            case Select():
                return x[:, torch.from_numpy(node.channels)]
            case Pool():
                if node.kind == "avg":
                    return F.avg_pool2d(x, node.kernel, node.stride, node.padding)
                return torch.max_pool2d(x, node.kernel, node.stride, node.padding)
            case Pad():
                top, left, bottom, right = node.pads
                return F.pad(x, (left, right, top, bottom), node.mode)
            case GlobalPool():
                return x.mean((2, 3))
            case Quantize():
                return fake_quantize(x, node.scale, inplace=self._is_spent(node, position))

    def _concat(
        self, node: Concat, values: dict[str, Tensor], growing: dict[str, _Growing]
    ) -> Tensor:
        """The concat as a view of its block's last one, into which each part is copied once.

        Concatenating anew for each of a block's layers would copy O(layers^2) channels.
        """
        first = node.inputs[0]
        longest = self._longest[first]
        if longest.inputs[: len(node.inputs)] != node.inputs:
            return torch.cat([values[name] for name in node.inputs], 1)
        if first not in growing:
            growing[first] = _Growing(values[first], self._widths[longest.name])
        found = growing[first].upto([values[name] for name in node.inputs])
        if node is longest:
            del growing[first]
        return found

    def _is_spent(self, node: Relu | Quantize, position: int) -> bool:
        """Whether nobody reads a node's input after it: then its memory can be written over."""
        shared = node.input == self.graph.input or node.input in self._concats
        return not shared and self._last[node.input] == position


def as_input(images: Array) -> Tensor:
    """Images (N, C, H, W) as a graph's input."""
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)


def as_array(logits: Tensor) -> Array:
    """Logits in C order."""
    found: Array = logits.contiguous().numpy()
    return found


class _Growing:
    """A block's last concat, filled part by part."""

    def __init__(self, first: Tensor, width: int) -> None:
        shape = (first.shape[0], width, *first.shape[2:])
        self._whole = torch.empty(shape, memory_format=torch.channels_last)
        self._parts = self._width = 0

    def upto(self, parts: list[Tensor]) -> Tensor:
        """The beginning that ``parts`` make; those after what was copied before are copied."""
        for part in parts[self._parts :]:
            self._whole[:, self._width : self._width + part.shape[1]] = part
            self._width += part.shape[1]
        self._parts = len(parts)
        return self._whole[:, : self._width]


def _rectified(x: Tensor, low: float, *, inplace: bool) -> Tensor:
    if low == 0.0:
        return F.relu(x, inplace=inplace)
    return x.clamp_min_(low) if inplace else x.clamp_min(low)


def fake_quantize(x: Tensor, scale: float, *, inplace: bool = False) -> Tensor:
    """Quantize to INT8 and back: ONNX QuantizeLinear and DequantizeLinear with zero-point 0."""
    steps = x.div_(scale) if inplace else x / scale
    return steps.round_().clamp_(-128, 127).mul_(scale)


def _parameters(node: Weighted | Affine) -> tuple[Tensor, Tensor]:
    if isinstance(node, Affine):
        shape = (1, -1, 1, 1)
        return torch.from_numpy(node.scale).view(shape), torch.from_numpy(node.shift).view(shape)
    weight = torch.from_numpy(stored_weight(node))
    if isinstance(node, Conv):
        weight = weight.contiguous(memory_format=torch.channels_last)
    return weight, torch.from_numpy(node.bias)
