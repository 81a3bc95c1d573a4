"""Full-range inputs: all 256 codes for values that a ReLU made positive.

Exact in FP32. Symmetric INT8 spends half of its codes on values below zero, which behind a ReLU
never occur. Moved down by half of their range, they use all, and their reader takes the move back
in its bias. Where the reader pads, zeros have moved down too, and so has what it pads with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from edgedense.graph.nodes import Affine, Conv, Graph, Linear, Node, Relu
from edgedense.quantize.migrate import Migratable, migratables

# values of the map behind a convolution that pads. In ImageNet's networks it is small beside their
# weights; on the large grids of segmentation maps would be ten times the file
_LARGEST_MAP = 1 << 18


def full_range(graph: Graph, among: Iterable[str], *, padded: bool) -> frozenset[str]:
    """Names of the readers in ``among`` whose inputs shall have all codes.

    Of convolutions that pad only with ``padded``, and where the map that it takes stays small.
    """
    sizes, widths, wanted = graph.sizes(), graph.widths(), frozenset(among)

    def small(reader: str) -> bool:
        height, width = sizes[reader]
        return widths[reader] * height * width <= _LARGEST_MAP

    readers = {m.reader: m.padded for m in migratables(graph) if m.reader in wanted}
    return frozenset(name for name, pads in readers.items() if not pads or (padded and small(name)))


def move(graph: Graph, scales: Mapping[str, float]) -> Graph:
    """The same function with each movable value in ``scales`` moved down by 128 of its steps.

    What was 0 then has code -128, and 255 steps have code 127.
    """
    nodes = {node.name: node for node in graph.nodes}
    for movable in migratables(graph):
        if movable.value in scales:
            _move(nodes, movable, 128 * scales[movable.value])
    return replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))


def _move(nodes: dict[str, Node], movable: Migratable, down: float) -> None:
    source, relu, reader = (nodes[n] for n in (movable.source, movable.relu, movable.reader))
    assert isinstance(relu, Relu)
    assert isinstance(reader, Conv | Linear)
    nodes[source.name] = _lowered(source, down)
    nodes[relu.name] = replace(relu, low=-down)
    sums = reader.weight.astype(np.float64).reshape(len(reader.weight), -1).sum(axis=1)
    bias = (reader.bias + down * sums).astype(np.float32)
    if isinstance(reader, Conv) and reader.padding:
        nodes[reader.name] = replace(reader, bias=bias, border=-down)
    else:
        nodes[reader.name] = replace(reader, bias=bias)


def _lowered(source: Node, down: float) -> Node:
    if isinstance(source, Affine):
        return replace(source, shift=(source.shift - down).astype(np.float32))
    assert isinstance(source, Conv)
    return replace(source, bias=(source.bias - down).astype(np.float32))
