"""Dense-block equalization: every channel of a concat spans -1 to 1, so that one scale serves all.

Exact in FP32. No batch normalization of a dense block folds into anything, and each reader has its
own: whatever affine change a concat's channel undergoes, every reader can undo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgedense.graph.nodes import (
    Affine,
    Array,
    Conv,
    ConvTranspose,
    Graph,
    Node,
    Pad,
    Pool,
    Relu,
    Weighted,
    out_axis,
)
from edgedense.quantize.concats import Family, Reading, families

Double = NDArray[np.float64]
# a channel is not stretched beyond this share of the family's widest: a dead one has no range
_NARROWEST = 1e-3
# a power of two: spans end at codes -128 and 127 whatever the scales are rounded to, and what a
# ReLU cuts off is a code
STEP = 2.0**-7
LEVELS = 255  # steps between the ends of a span


@dataclass(frozen=True, eq=False)
class Span:
    """The least and the largest value of each channel that gets a code, float64 (channels,)."""

    low: Double
    high: Double


def producers(graph: Graph) -> tuple[str, ...]:
    """Names of the values whose spans :func:`equalize` needs."""
    return tuple(name for family in families(graph) for name in family.producers)


def equalize(graph: Graph, spans: Mapping[str, Span]) -> Graph:
    """The same function with the span of every channel of every concat brought to [-1, 127/128].

    Those are the codes -128 to 127 in steps of :data:`STEP`. A channel's producer gives
    (x - m) / r, and each reader takes a * r and b + a * m for its affine a * x + b. Behind a ReLU
    the span begins at 0, so that the ReLU becomes max(x, -1) of all channels. Where a padded layer
    stands between, the channel is scaled only, to [-127/128, 127/128]. Families that cannot be
    rewritten stay as they are: see :func:`equalizable`.
    """
    nodes = {node.name: node for node in graph.nodes}
    for family, routes in _equalizable(graph):
        widest = max(float(np.max(_reach(spans[name]))) for name in family.producers)
        for name, route in routes.items():
            _rewrite(nodes, route, spans[name], family.readings[name], widest)
    return replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))


def equalizable(graph: Graph) -> tuple[str, ...]:
    """Names of the producers that :func:`equalize` rewrites."""
    return tuple(name for family, _ in _equalizable(graph) for name in family.producers)


def _equalizable(graph: Graph) -> Iterator[tuple[Family, dict[str, Route]]]:
    nodes = {node.name: node for node in graph.nodes}
    users = graph.readers()
    for family in families(graph):
        routes = {name: route_of(name, nodes, users) for name in family.producers}
        found = {name: route for name, route in routes.items() if route is not None}
        if len(found) == len(routes) and _readable(family, nodes):
            yield family, found


@dataclass(frozen=True)
class Route:
    """Where a producer's values come from: a node that can scale them, and whether it may shift.

    ``relu`` is a ReLU on the way, or None.
    """

    source: str
    shifts: bool
    relu: str | None


def route_of(name: str, nodes: Mapping[str, Node], users: Mapping[str, list[str]]) -> Route | None:
    """Back through what commutes with a change of scale; None where something else is met."""
    shifts, relu = True, None
    while True:
        node = nodes.get(name)
        if isinstance(node, Conv | ConvTranspose | Affine):
            return Route(name, shifts, relu)
        if isinstance(node, Relu):
            if node.low != 0.0:
                return None
            shifts, relu = shifts and relu is None, node.name
        elif isinstance(node, Pool):
            shifts = shifts and (node.kind == "max" or node.padding == 0)
        elif isinstance(node, Pad):
            shifts = shifts and node.mode == "reflect"
        else:
            return None
        name = node.input
        if len(users.get(name, ())) != 1:
            return None


def _readable(family: Family, nodes: Mapping[str, Node]) -> bool:
    readers = [nodes[r.node] for readings in family.readings.values() for r in readings]
    return all(isinstance(node, Affine | Conv | ConvTranspose) for node in readers)


def _reach(span: Span) -> Double:
    reach: Double = np.maximum(np.abs(span.low), np.abs(span.high))
    return reach


def _rewrite(
    nodes: dict[str, Node], route: Route, span: Span, readings: tuple[Reading, ...], widest: float
) -> None:
    shifts = route.shifts and all(_takes_shift(nodes[r.node]) for r in readings)
    low = np.zeros_like(span.low) if route.relu else span.low
    unit = ((span.high - low) / LEVELS if shifts else _reach(span) / 127) / STEP
    unit = np.maximum(unit, _NARROWEST * (widest or 1.0))
    middle = np.zeros_like(low)
    if shifts:
        middle = unit if route.relu else (low + span.high) / 2 + unit * STEP / 2
    source = nodes[route.source]
    assert isinstance(source, Conv | ConvTranspose | Affine)
    if shifts and route.relu:
        relu = nodes[route.relu]
        assert isinstance(relu, Relu)
        nodes[route.relu] = _lowered(relu, unit)
    nodes[route.source] = scaled_outputs(source, 1 / unit, -middle / unit)
    for reading in readings:
        nodes[reading.node] = _undone(nodes[reading.node], reading.offset, unit, middle)


def _lowered(relu: Relu, unit: Double) -> Relu:
    """``relu`` of values that were divided by ``unit``, and moved down by 1 then."""
    high = None if relu.high is None else _single(relu.high / unit - 1)
    return replace(relu, low=-1.0, high=high)


def _takes_shift(node: Node) -> bool:
    """Whether a constant added to its input reaches every output alike: nothing pads with zeros."""
    if isinstance(node, Conv):
        return node.padding == 0
    return isinstance(node, Affine)


def scaled_outputs(node: Conv | ConvTranspose | Affine, factor: Double, shift: Double) -> Node:
    """The node whose outputs are ``factor * y + shift`` a channel."""
    if isinstance(node, Affine):
        moved = node.shift.astype(np.float64) * factor + shift
        return replace(node, scale=_single(node.scale * factor), shift=_single(moved))
    shape = [1] * node.weight.ndim
    shape[out_axis(node)] = -1
    weight = node.weight.astype(np.float64) * factor.reshape(shape)
    bias = node.bias.astype(np.float64) * factor + shift
    return replace(node, weight=_single(weight), bias=_single(bias))


def scaled_inputs(node: Weighted, factor: Double, offset: int = 0) -> Node:
    """The node that takes x where it took ``factor * x``, from channel ``offset`` on."""
    weight = node.weight.astype(np.float64)
    by_input = np.moveaxis(weight, 1 - out_axis(node), 0)
    part = slice(offset, offset + len(factor))
    by_input[part] *= factor.reshape(-1, *[1] * (weight.ndim - 1))
    return replace(node, weight=_single(weight))


def _undone(node: Node, offset: int, unit: Double, middle: Double) -> Node:
    part = slice(offset, offset + len(unit))
    if isinstance(node, Affine):
        scale, shift = node.scale.astype(np.float64), node.shift.astype(np.float64)
        shift[part] += scale[part] * middle
        scale[part] *= unit
        return replace(node, scale=_single(scale), shift=_single(shift))
    assert isinstance(node, Conv | ConvTranspose)
    if middle.any():
        moved = node.weight[:, part].astype(np.float64).sum(axis=(2, 3)) @ middle
        node = replace(node, bias=_single(node.bias + moved))
    return scaled_inputs(node, unit, offset)


def _single(array: Double) -> Array:
    return array.astype(np.float32)
