"""Which shapes are measured, each as a chain of convolutions to and fro.

A call's own time, its copies and the ends of the network are the same in a long and in a short
chain: what is left of the difference is the layers alone. A convolution of a to b channels has as
many products and as much traffic as the one back, so one row stands for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgedense.densenet.spec import INPUT, OUTPUT
from edgedense.graph.nodes import (
    Affine,
    Array,
    Concat,
    Conv,
    GlobalPool,
    Graph,
    Linear,
    Node,
    Quantize,
    Relu,
)
from edgedense.latency import Precision

# wide and narrow channels: what the layers of CIFAR's and ImageNet's networks read and write
POINTWISE = ((48, 16), (96, 48), (192, 48), (128, 64), (256, 128), (512, 128), (1024, 512))
SPATIAL = ((16, 8), (48, 12), (64, 16), (128, 32), (192, 48))
SIDES = (7, 14, 28, 56, 112)
MOST_ELEMENTS = 1 << 20  # of one value: beyond it rows are scaled
LONG = 4  # pairs of convolutions in a long chain, against one in a short one
EARLIER = 4  # channels of every concat that were there before
IMAGE_CHANNELS = 3
_STEP = 0.05  # of every quantization: times do not depend on it


@dataclass(frozen=True)
class Shape:
    """Convolutions of ``kernel`` pixels from ``wide`` to ``narrow`` channels, ``side`` by ``side``.

    1x1 shapes measure the pass of BN and ReLU over their wide value as well.
    """

    kernel: int
    wide: int
    narrow: int
    side: int

    @property
    def has_pass(self) -> bool:
        """Whether the pass is measured too."""
        return self.kernel == 1

    def __str__(self) -> str:
        across = f"{self.kernel}x{self.kernel}"
        return f"{across} {self.wide}-{self.narrow} at {self.side}x{self.side}"


def shapes(*, quick: bool = False) -> tuple[Shape, ...]:
    """The grid; ``quick`` is a few small ones."""
    if quick:
        few = ((1, 16, 8), (1, 64, 16), (3, 16, 8), (3, 48, 12))
        return tuple(Shape(*pair, side) for side in (4, 8) for pair in few)
    pairs = (*((1, *pair) for pair in POINTWISE), *((3, *pair) for pair in SPATIAL))
    found = (Shape(*pair, side) for side in SIDES for pair in pairs)
    return tuple(shape for shape in found if shape.wide * shape.side**2 <= MOST_ELEMENTS)


def chain(shape: Shape, pairs: int, precision: Precision, *, passes: bool = False) -> Graph:
    """So many ``pairs`` of convolutions one behind the other; with ``passes``, in front of each
    pair the concat of what is there with a few earlier channels, BN and ReLU.

    The earlier channels' own convolution is counted with the passes, a quarter of it with each.
    Every value between has a ReLU, and with INT8 its quantization: BN folds into nothing.
    """
    build = _Chain(np.random.default_rng(0), precision == "int8")
    wide = shape.wide - EARLIER * passes
    value = build.conv("expand", INPUT, IMAGE_CHANNELS, wide, 1, exact=True)
    if passes:
        earlier = build.conv("earlier", value, wide, EARLIER, 1)
    for k in range(pairs):
        if passes:
            value = build.normed(f"pass{k}", (value, earlier), shape.wide)
        value = build.conv(f"to{k}", value, shape.wide, shape.narrow, shape.kernel)
        value = build.conv(f"fro{k}", value, shape.narrow, wide, shape.kernel)
    build.nodes.append(GlobalPool("pool", value))
    build.nodes.append(Linear(OUTPUT, "pool", build.weights(1, wide), np.zeros(1, "f4")))
    return Graph(INPUT, (IMAGE_CHANNELS, shape.side, shape.side), tuple(build.nodes))


class _Chain:
    """The nodes so far; each method gives the name of what comes out."""

    def __init__(self, random: np.random.Generator, quantized: bool) -> None:
        self.nodes: list[Node] = []
        self._random = random
        self._quantized = quantized

    def weights(self, *shape: int) -> Array:
        """Seeded weights that keep values at the same size."""
        spread = np.sqrt(2 / np.prod(shape[1:]))
        weights: Array = (spread * self._random.standard_normal(shape)).astype(np.float32)
        return weights

    def conv(
        self, name: str, value: str, fan_in: int, out: int, side: int, *, exact: bool = False
    ) -> str:
        """A convolution, its ReLU and quantization; ``exact`` weights stay floating."""
        weight, bias = self.weights(out, fan_in, side, side), np.zeros(out, np.float32)
        scale = None
        if self._quantized and not exact:
            peak = np.abs(weight).reshape(out, -1).max(axis=1)
            scale = (peak / 127).astype(np.float16).astype(np.float32)
        self.nodes.append(Conv(name, value, weight, bias, 1, side // 2, scale))
        return self._rectified(name)

    def normed(self, name: str, parts: tuple[str, str], channels: int) -> str:
        """Concat, BN and ReLU."""
        self.nodes.append(Concat(f"{name}.concat", parts))
        scale = self._random.uniform(0.5, 1.5, channels).astype(np.float32)
        shift = self._random.uniform(-0.5, 0.5, channels).astype(np.float32)
        self.nodes.append(Affine(name, f"{name}.concat", scale, shift))
        return self._rectified(name)

    def _rectified(self, name: str) -> str:
        self.nodes.append(Relu(f"{name}.relu", name))
        if not self._quantized:
            return f"{name}.relu"
        self.nodes.append(Quantize(f"{name}.qdq", f"{name}.relu", _STEP))
        return f"{name}.qdq"


def networks(shape: Shape, precision: Precision) -> Iterator[Graph]:
    """The short chain, the long one, and where the shape has a pass the long one with it."""
    yield chain(shape, 1, precision)
    yield chain(shape, LONG, precision)
    if shape.has_pass:
        yield chain(shape, LONG, precision, passes=True)
