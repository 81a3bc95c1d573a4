"""Families of concats: everything that one INT8 scale must serve for a concat to copy bytes.

A dense block's concats share their parts, and a skip joins blocks; each connected lot of concats is
one family. Its producers are the values that are concatenated, its readers whoever reads a concat
or a producer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from edgedense.graph.nodes import Affine, Concat, GlobalPool, Graph, Node, Relu, inputs_of


@dataclass(frozen=True)
class Reading:
    """Node ``node`` reads a producer from channel ``offset`` of its own input on."""

    node: str
    offset: int


@dataclass(frozen=True)
class Family:
    """``producers`` are value names in the order of the data; ``concats`` the concats' names.

    ``readings`` tell for each producer who reads it, concats aside.
    """

    producers: tuple[str, ...]
    concats: tuple[str, ...]
    readings: dict[str, tuple[Reading, ...]]


def families(graph: Graph) -> tuple[Family, ...]:
    """All families of ``graph``, in the order of the data."""
    nodes = {node.name: node for node in graph.nodes}
    widths = graph.widths()
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if isinstance(node, Concat):
            for part in node.inputs:
                parent[root(part)] = root(node.name)
    parts = {name: _parts(name, nodes, widths) for name in parent}
    readings = _readings(graph, parts)
    lots: defaultdict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:  # in the order of the data
        if node.name in parent:
            lots[root(node.name)].append(node.name)
    found = []
    for lot in lots.values():
        producers = tuple(name for name in lot if not isinstance(nodes[name], Concat))
        concats = tuple(name for name in lot if isinstance(nodes[name], Concat))
        found.append(Family(producers, concats, {p: tuple(readings[p]) for p in producers}))
    return tuple(found)


def behind(
    reading: Reading, nodes: Mapping[str, Node], users: Mapping[str, list[str]]
) -> tuple[Node, ...]:
    """A concat's reader and, where that is BN, what alone reads it: ReLU, pooling, and a layer.

    ``users`` are the graph's readers by value.
    """
    found = [nodes[reading.node]]
    while isinstance(found[0], Affine) and isinstance(found[-1], Affine | Relu | GlobalPool):
        next_ = users.get(found[-1].name, ())
        if len(next_) != 1:
            break
        found.append(nodes[next_[0]])
    return tuple(found)


def _parts(name: str, nodes: dict[str, Node], widths: dict[str, int]) -> list[tuple[str, int]]:
    """The producers in a value, each with the channel at which it begins."""
    node = nodes[name]
    if not isinstance(node, Concat):
        return [(name, 0)]
    found, offset = [], 0
    for part in node.inputs:
        found += [(inner, offset + start) for inner, start in _parts(part, nodes, widths)]
        offset += widths[part]
    return found


def _readings(
    graph: Graph, parts: dict[str, list[tuple[str, int]]]
) -> defaultdict[str, list[Reading]]:
    found: defaultdict[str, list[Reading]] = defaultdict(list)
    for node in graph.nodes:
        if not isinstance(node, Concat):
            for name in inputs_of(node):
                for producer, offset in parts.get(name, ()):
                    found[producer].append(Reading(node.name, offset))
    return found
