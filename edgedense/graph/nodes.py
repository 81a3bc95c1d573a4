"""The operators of a deployed network, and the graph that holds them.

A node's output carries the node's name. Values are NCHW; arrays are float32 unless said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
FP16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution: ``weight`` (out, in, kh, kw), ``bias`` (out,).

    ``weight_scale`` (out,) makes the weights INT8: symmetric, one scale an output channel.
    ``border`` is the value of the ``padding`` pixels around the input.
    """

    name: str
    input: str
    weight: Array
    bias: Array
    stride: int = 1
    padding: int = 0
    weight_scale: Array | None = None
    border: float = 0.0


@dataclass(frozen=True, eq=False)
class ConvTranspose:
    """Transposed convolution: ``weight`` (in, out, kh, kw), ``bias`` (out,), no padding.

    ``trim`` rows and columns are cut off at the end of the output. ``weight_scale`` as for Conv.
    """

    name: str
    input: str
    weight: Array
    bias: Array
    stride: int
    trim: tuple[int, int] = (0, 0)
    weight_scale: Array | None = None


@dataclass(frozen=True, eq=False)
class Linear:
    """Matrix product: ``weight`` (out, in), ``bias`` (out,), ``weight_scale`` as for Conv."""

    name: str
    input: str
    weight: Array
    bias: Array
    weight_scale: Array | None = None


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * scale + shift`` a channel: a BatchNorm that folds into no convolution."""

    name: str
    input: str
    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Relu:
    """``max(x, low)``; ``low`` is 0 but where a full-range rewrite has moved the values down.

    ``high`` (channels,) are upper ends, infinite where a channel has none.
    """

    name: str
    input: str
    low: float = 0.0
    high: Array | None = None


@dataclass(frozen=True, eq=False)
class Select:
    """The ``channels`` of a value, by number."""

    name: str
    input: str
    channels: NDArray[np.int64]


@dataclass(frozen=True)
class Concat:
    """Concatenation of two or more values along the channels."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """Windowed pooling, ``kind`` ``avg`` or ``max``."""

    name: str
    input: str
    kind: str
    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class Pad:
    """Border of (top, left, bottom, right) pixels, ``mode`` ``constant`` (zeros) or ``reflect``."""

    name: str
    input: str
    pads: tuple[int, int, int, int]
    mode: str


@dataclass(frozen=True)
class GlobalPool:
    """Mean over height and width: (N, C, H, W) to (N, C)."""

    name: str
    input: str


@dataclass(frozen=True)
class Quantize:
    """A pair of QuantizeLinear and DequantizeLinear: INT8, one ``scale``, zero-point 0."""

    name: str
    input: str
    scale: float


Weighted = Conv | ConvTranspose | Linear
Node = Weighted | Affine | Relu | Select | Concat | Pool | Pad | GlobalPool | Quantize


def out_axis(node: Weighted) -> int:
    """Axis of a node's weights that counts its output channels."""
    return 1 if isinstance(node, ConvTranspose) else 0


def out_channels(node: Weighted) -> int:
    """Output channels of a node with weights."""
    return int(node.weight.shape[out_axis(node)])


def inputs_of(node: Node) -> tuple[str, ...]:
    """Names of the values that a node reads."""
    return node.inputs if isinstance(node, Concat) else (node.input,)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can run; the last one gives the logits.

    ``input`` names the images, of shape ``input_shape`` (channels, height, width).
    """

    input: str
    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]

    @property
    def output(self) -> str:
        """Name of the logits."""
        return self.nodes[-1].name

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(classes,), or (classes, height, width) where there is an answer a pixel."""
        last = self.nodes[-1]
        classes = self.widths()[last.name]
        return (classes,) if isinstance(last, Linear) else (classes, *self.input_shape[1:])

    def weighted(self) -> Iterator[Weighted]:
        """The nodes with weights."""
        return (node for node in self.nodes if isinstance(node, Weighted))

    def widths(self) -> dict[str, int]:
        """Channels of each value."""
        found = {self.input: self.input_shape[0]}
        for node in self.nodes:
            if isinstance(node, Weighted):
                found[node.name] = out_channels(node)
            elif isinstance(node, Select):
                found[node.name] = len(node.channels)
            else:
                found[node.name] = sum(found[name] for name in inputs_of(node))
        return found

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each value that has them."""
        found = {self.input: self.input_shape[1:]}
        for node in self.nodes:
            before = found.get(inputs_of(node)[0])
            if before is not None and not isinstance(node, GlobalPool | Linear):
                rows, columns = (_size(node, pixels, axis) for axis, pixels in enumerate(before))
                found[node.name] = (rows, columns)
        return found

    def readers(self) -> dict[str, list[str]]:
        """For each value that is read, the names of the nodes that read it, in their order."""
        found: dict[str, list[str]] = {}
        for node in self.nodes:
            for name in inputs_of(node):
                found.setdefault(name, []).append(node.name)
        return found

    def last_reader(self) -> dict[str, int]:
        """For each value, the position of the last node that reads it."""
        return {
            name: position for position, node in enumerate(self.nodes) for name in inputs_of(node)
        }

    def map(self, change: Callable[[Node], Node]) -> Graph:
        """The graph with each node replaced by what ``change`` makes of it."""
        return replace(self, nodes=tuple(change(node) for node in self.nodes))


def _size(node: Node, pixels: int, axis: int) -> int:
    """Pixels along ``axis`` (0 down, 1 across) of a node's output, of ``pixels`` of its input."""
    match node:
        case Conv():
            taps = int(node.weight.shape[2 + axis])
            return (pixels + 2 * node.padding - taps) // node.stride + 1
        case ConvTranspose():
            whole = (pixels - 1) * node.stride + node.weight.shape[2 + axis]
            return int(whole - node.trim[axis])
        case Pool():
            return (pixels + 2 * node.padding - node.kernel) // node.stride + 1
        case Pad():
            return pixels + node.pads[axis] + node.pads[2 + axis]
        case _:
            return pixels
