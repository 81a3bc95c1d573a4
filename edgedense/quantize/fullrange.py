"""Full-range inputs of 1x1 convolutions: all 256 codes for values that a ReLU made positive.

Exact in FP32. Symmetric INT8 spends half of its codes on values below zero, which behind a ReLU
never occur. Moved down by half of their range, they use all; a layer without padding takes the move
back in its bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgedense.graph.nodes import Affine, Conv, Graph, Linear, Node, Relu
from edgedense.quantize.migrate import migratables


@dataclass(frozen=True)
class Movable:
    """A value that is never negative and whose only reader takes a constant back in its bias.

    ``value`` is what is quantized, ``affine`` and ``relu`` make it, ``reader`` reads it.
    """

    value: str
    affine: str
    relu: str
    reader: str


def movables(graph: Graph) -> tuple[Movable, ...]:
    """Inputs of unpadded convolutions and of the classifier that come from BN and ReLU."""
    nodes = {node.name: node for node in graph.nodes}
    found = []
    for behind in migratables(graph):
        reader = nodes[behind.reader]
        unpadded = isinstance(reader, Linear) or (isinstance(reader, Conv) and reader.padding == 0)
        if unpadded and isinstance(nodes[behind.source], Affine):
            found.append(Movable(behind.value, behind.source, behind.relu, behind.reader))
    return tuple(found)


def move(graph: Graph, scales: Mapping[str, float]) -> Graph:
    """The same function with each movable value in ``scales`` moved down by 128 of its steps.

    What was 0 then has code -128, and 255 steps have code 127.
    """
    nodes = {node.name: node for node in graph.nodes}
    for movable in movables(graph):
        if movable.value in scales:
            _move(nodes, movable, 128 * scales[movable.value])
    return replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))


def _move(nodes: dict[str, Node], movable: Movable, down: float) -> None:
    affine, relu, reader = (nodes[n] for n in (movable.affine, movable.relu, movable.reader))
    assert isinstance(affine, Affine)
    assert isinstance(relu, Relu)
    assert isinstance(reader, Conv | Linear)
    nodes[affine.name] = replace(affine, shift=(affine.shift - down).astype(np.float32))
    nodes[relu.name] = replace(relu, low=-down)
    sums = reader.weight.astype(np.float64).reshape(len(reader.weight), -1).sum(axis=1)
    nodes[reader.name] = replace(reader, bias=(reader.bias + down * sums).astype(np.float32))
