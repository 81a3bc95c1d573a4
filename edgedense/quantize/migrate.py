"""Migration: channels of a ReLU's output share one scale, so they trade range with the weights.

Exact in FP32. Positive factors pass through a ReLU: what makes the values divides them by the
factors, what reads them multiplies its weights. Cross-layer equalization (Nagel et al. 2019,
section 4.1) and SmoothQuant (Xiao et al. 2023, section 4) are two rules for the factors; here they
are those that a model of the quantization noise at the reader's output likes best.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgedense.graph.nodes import Affine, Conv, GlobalPool, Graph, Linear, Node, Relu
from edgedense.quantize.equalize import scaled_inputs, scaled_outputs

Double = NDArray[np.float64]
# of the noise of weights rounded to nearest, reconstruction (rounding.py) leaves about this share
_LEFT = 0.25
# of the widest channel: what a ReLU cuts off grows with the factors too, and FP16 has an end
_NARROWEST = 1 / 64
_EXPONENTS = (np.linspace(0, 1, 11), np.linspace(0, 1, 6))


@dataclass(frozen=True)
class Migratable:
    """``source`` (an affine or a convolution) and ``relu`` make what ``reader`` alone reads.

    ``value`` is the reader's input: the ReLU's output, or its mean over height and width;
    ``padded`` says that the reader pads it.
    """

    value: str
    source: str
    relu: str
    reader: str
    padded: bool


def migratables(graph: Graph) -> tuple[Migratable, ...]:
    """Inputs of convolutions and of the classifier that come from a ReLU that nobody else reads."""
    nodes = {node.name: node for node in graph.nodes}
    readers = graph.readers()
    found = []
    for node in graph.nodes:
        if isinstance(node, Conv | Linear):
            relu = nodes.get(node.input)
            if isinstance(relu, GlobalPool) and len(readers[relu.name]) == 1:
                relu = nodes.get(relu.input)
            if not isinstance(relu, Relu) or relu.low != 0.0 or len(readers[relu.name]) != 1:
                continue
            source = nodes.get(relu.input)
            if isinstance(source, Affine | Conv) and len(readers[source.name]) == 1:
                padded = isinstance(node, Conv) and node.padding > 0
                found.append(Migratable(node.input, source.name, relu.name, node.name, padded))
    return tuple(found)


class Moments:
    """Largest value, mean square and share of values above zero, a channel, while images come."""

    def __init__(self, channels: int) -> None:
        self.peak, self._squares, self._active = np.zeros((3, channels))
        self._count = 0

    def add(self, value: Tensor) -> None:
        """Take note of ReLU outputs (N, channels, H, W)."""
        self.peak = np.maximum(self.peak, value.amax((0, 2, 3)).double().numpy())
        self._squares += value.square().sum((0, 2, 3)).double().numpy()
        # of what is never negative: 1 where it is above zero
        self._active += value.sign().sum((0, 2, 3)).double().numpy()
        self._count += value.shape[0] * value.shape[2] * value.shape[3]

    @property
    def mean_square(self) -> Double:
        """Mean of squares."""
        found: Double = self._squares / max(self._count, 1)
        return found

    @property
    def active(self) -> Double:
        """Share of values above zero: the others are quantized exactly."""
        found: Double = self._active / max(self._count, 1)
        return found


def migrate(
    graph: Graph,
    seen: Mapping[str, Moments],
    among: Iterable[str],
    full_range: Collection[str] = (),
) -> Graph:
    """The same function with the inputs of the readers in ``among`` scaled for the least noise.

    ``seen`` has the moments of each migratable ReLU's output; inputs of layers that pad will have
    all codes where ``full_range`` names them.
    """
    nodes = {node.name: node for node in graph.nodes}
    wanted = frozenset(among)
    for found in migratables(graph):
        if found.reader in wanted:
            source, reader = nodes[found.source], nodes[found.reader]
            assert isinstance(reader, Conv | Linear)
            pads = isinstance(reader, Conv) and reader.padding > 0
            half = pads and found.reader not in full_range
            factor = _factors(reader, seen[found.relu], 127 if half else 255)
            nodes[found.source] = _divided(source, factor)
            nodes[found.reader] = scaled_inputs(reader, factor)
    return replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))


def _divided(source: Node, factor: Double) -> Node:
    if isinstance(source, Affine):
        scale, shift = source.scale / factor, source.shift / factor
        return replace(source, scale=scale.astype(np.float32), shift=shift.astype(np.float32))
    assert isinstance(source, Conv)
    return scaled_outputs(source, 1 / factor, np.zeros_like(factor))


def _factors(reader: Conv | Linear, seen: Moments, steps: int) -> Double:
    """Peak ** a / largest weight ** b with the a and b of the least noise.

    In such a measure that the largest value of all stays as it is.
    """
    weight = reader.weight.astype(np.float64)
    weight = weight.reshape(*weight.shape[:2], -1)
    peak = _floored(seen.peak)
    largest = np.abs(weight).max(axis=2)
    energy = np.square(weight).sum(axis=(0, 2)) * seen.active
    taps = weight.shape[2]

    def noise(factor: Double) -> float:
        step = (peak / factor).max() / steps
        inputs = step**2 * (energy @ factor**2)
        weight_steps = (largest * factor).max(axis=1) / 127
        weights = (weight_steps @ weight_steps) * taps * (seen.mean_square / factor**2).sum()
        return float(inputs + _LEFT * weights)

    widest = _floored(largest.max(axis=0))
    candidates = [peak**a / widest**b for a, b in product(*_EXPONENTS)]
    best = min(candidates, key=noise)
    found: Double = best * ((peak / best).max() / peak.max())
    return found


def _floored(values: Double) -> Double:
    return np.maximum(values, _NARROWEST * (float(values.max()) or 1.0))
