"""Channels behind a ReLU that have long tails, stored as two parts of their range.

Exact in FP32. With a knee t, x = min(x, t) + max(x - t, 0): the bulk of the values gets all codes
for [0, t], and the tail as many for what is above. Only one of both is ever between its ends, so
for a reader f, which is affine and ReLU, f(x) = f(min(x, t)) + f(t + max(x - t, 0)) - f(t), and the
last two terms are affine and ReLU again. After outlier channel splitting (Zhao et al. 2019, section
3), which halves values; here the range is divided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgedense.graph.nodes import (
    Affine,
    Concat,
    Conv,
    Graph,
    Linear,
    Node,
    Relu,
    Select,
    inputs_of,
)
from edgedense.quantize.concats import Reading
from edgedense.quantize.copies import Copyable, read_again, rounded_copyables
from edgedense.quantize.equalize import Span
from edgedense.quantize.spans import WorthSpan

Double = NDArray[np.float64]


def divided(
    graph: Graph,
    spans: Mapping[str, WorthSpan],
    most: int,
    float_concats: Iterable[str] = (),
) -> tuple[Graph, dict[str, Span]]:
    """The same function with ``most`` channels a stem in two parts, and the spans of the parts.

    Those that gain most by it, where the first part of a concat comes from a ReLU and its readers
    pad nothing: f(t) is no constant beside a border of zeros.
    """
    found: dict[str, Span] = {}
    nodes = {node.name: node for node in graph.nodes}
    for copyable in rounded_copyables(graph, float_concats):
        layers = [nodes[name] for _, name in copyable.readings]
        pads = any(isinstance(layer, Conv) and layer.padding for layer in layers)
        if copyable.relu and most and not pads:
            span = spans[copyable.producer]
            gains = span.rounding - span.divided
            channels = np.sort(np.argsort(-gains, kind="stable")[:most])
            graph, parts = with_parts(graph, copyable, span, channels)
            found |= parts
    return graph, found


def with_parts(
    graph: Graph, copyable: Copyable, span: WorthSpan, channels: NDArray[np.int64]
) -> tuple[Graph, dict[str, Span]]:
    """The same function with ``channels`` up to their knees, and what is above behind the others.

    Gives the spans of both too, by the names of their values.
    """
    nodes = {node.name: node for node in graph.nodes}
    name, width, knees = copyable.producer, len(span.low), span.knee[channels]
    read_again(nodes, copyable, width, channels)
    for reading, layer in copyable.readings:
        _read_tail(nodes, reading, layer, channels, width, knees)
    ends, high = np.full(width, np.inf, np.float32), span.high.copy()
    ends[channels] = high[channels] = knees
    ones = np.ones(width, np.float32)
    bulk = (
        Affine(f"{name}.bulk.affine", name, ones, np.zeros_like(ones)),
        Relu(f"{name}.bulk", f"{name}.bulk.affine", high=ends),
    )
    tail = (
        Select(f"{name}.tail.channels", name, channels),
        Affine(
            f"{name}.tail.affine",
            f"{name}.tail.channels",
            ones[channels],
            -knees.astype(np.float32),
        ),
        Relu(f"{name}.tail", f"{name}.tail.affine"),
    )
    rewired = _rewired(graph, nodes, name, (*bulk, *tail), (bulk[-1].name, tail[-1].name))
    above = Span(np.zeros_like(knees), span.high[channels] - knees)
    return rewired, {bulk[-1].name: Span(span.low, high), tail[-1].name: above}


def _rewired(
    graph: Graph,
    nodes: Mapping[str, Node],
    name: str,
    added: tuple[Node, ...],
    parts: tuple[str, ...],
) -> Graph:
    """``nodes`` with those ``added`` behind value ``name``, and ``parts`` wherever it was read."""
    first = next(n for n in graph.nodes if isinstance(n, Concat) and name in n.inputs)
    whole = Concat(f"{first.name.partition('.')[0]}.parts", parts)
    found: list[Node] = []
    for known in graph.nodes:
        node = nodes[known.name]
        if isinstance(node, Concat) and name in node.inputs:
            place = node.inputs.index(name)
            inputs = (*node.inputs[:place], *parts, *node.inputs[place + 1 :])
            node = replace(node, inputs=inputs)
        elif name in inputs_of(node):
            assert isinstance(node, Affine)
            node = replace(node, input=whole.name)
        found.append(node)
        if known.name == name:
            found += [*added, whole]
    return replace(graph, nodes=tuple(found))


def _read_tail(
    nodes: dict[str, Node],
    reading: Reading,
    name: str,
    channels: NDArray[np.int64],
    width: int,
    knees: Double,
) -> None:
    """Let a reader take the tails, which begin behind the ``width`` channels of the stem."""
    affine, layer = nodes[reading.node], nodes[name]
    assert isinstance(affine, Affine)
    assert isinstance(layer, Conv | Linear)
    lower = reading.offset + channels
    upper = slice(reading.offset + width, reading.offset + width + len(channels))
    scale, shift = affine.scale.copy(), affine.shift.copy()
    at_knee = scale[lower] * knees + shift[lower]
    falls = scale[lower] < 0
    # rising: what the ReLU lets through anyway is linear, of the rest it keeps the threshold.
    # falling: from f(t) down to 0, which a constant takes back; nothing where f(t) is 0
    shift[upper] = np.where(falls, np.maximum(at_knee, 0), np.minimum(at_knee, 0))
    scale[upper] = np.where(falls & (at_knee <= 0), 0, scale[lower])
    nodes[affine.name] = replace(affine, scale=scale, shift=shift)
    constant = np.where(falls, np.maximum(at_knee, 0), 0)
    sums = layer.weight[:, upper].astype(np.float64).reshape(len(layer.weight), len(channels), -1)
    bias = (layer.bias - sums.sum(axis=2) @ constant).astype(np.float32)
    nodes[name] = replace(layer, bias=bias)
