"""Channels of a concat that matter most, stored more than once: finer than one INT8 value can be.

Exact in FP32. The copies of a channel are rounded on grids that are offset against each other by a
fraction of a step, and each reader takes their mean behind its ReLU: m copies divide the power of
the rounding error by up to m**2. After outlier channel splitting (Zhao et al. 2019, section 3),
which halves values; here the values stay and the grid moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgedense.graph.nodes import Affine, Conv, Graph, Linear, Node
from edgedense.quantize.concats import Reading, behind, families
from edgedense.quantize.equalize import LEVELS, Span, route_of
from edgedense.quantize.place import family_name, named_families
from edgedense.quantize.spans import WorthSpan

# INT8 kernels pad channels to a multiple of it: up to there copies need no further memory
_PADDED_TO = 32


@dataclass(frozen=True)
class Copyable:
    """``source`` (a convolution) makes the channels of ``producer``, the first part of a concat.

    ``relu`` is a ReLU between both, or None. ``readings`` are of BN, perhaps ReLU or pooling, and
    the one layer that adds the channels up.
    """

    producer: str
    source: str
    relu: str | None
    readings: tuple[tuple[Reading, str], ...]


def copyables(graph: Graph) -> tuple[Copyable, ...]:
    """The first producer of each family of concats, where all its readers can add channels up."""
    nodes = {node.name: node for node in graph.nodes}
    users = graph.readers()
    found = []
    for family in families(graph):
        producer = family.producers[0]
        route = route_of(producer, nodes, users)
        if not route or not route.shifts or not isinstance(nodes[route.source], Conv):
            continue
        chains = [(r, behind(r, nodes, users)) for r in family.readings[producer]]
        # a layer that reads the concat without BN takes no mean behind a ReLU
        if all(len(c) > 1 and isinstance(c[-1], Conv | Linear) for _, c in chains):
            readings = tuple((reading, chain[-1].name) for reading, chain in chains)
            found.append(Copyable(producer, route.source, route.relu, readings))
    return tuple(found)


def rounded_copyables(graph: Graph, float_concats: Iterable[str]) -> tuple[Copyable, ...]:
    """Those whose concat is not left in floating point."""
    named, left = named_families(graph), {family_name(graph, name) for name in float_concats}
    in_float = {producer for name in left for producer in named[name].producers}
    return tuple(found for found in copyables(graph) if found.producer not in in_float)


def copied(
    graph: Graph,
    spans: Mapping[str, WorthSpan],
    most: int,
    float_concats: Iterable[str] = (),
) -> tuple[Graph, dict[str, Span]]:
    """The same function with the channels stored again whose rounding costs most, and all spans.

    At most ``most`` a block, as all of its layers read them, and no more than its first part has
    left to a multiple of 32 channels. None in families of ``float_concats``, which round nothing,
    and none behind a ReLU, where no grid can be offset: see :mod:`divide`.
    """
    found: dict[str, Span] = dict(spans)
    for copyable in rounded_copyables(graph, float_concats):
        if copyable.relu:
            continue
        span = spans[copyable.producer]
        free = min(-len(span.low) % _PADDED_TO, most)
        if not free:
            continue
        copies = _worth_most(span.rounding, free)
        graph, found[copyable.producer] = with_copies(graph, copyable, span, copies)
    return graph, found


def with_copies(
    graph: Graph, copyable: Copyable, span: Span, copies: Mapping[int, int]
) -> tuple[Graph, Span]:
    """The same function with channel c stored ``copies[c]`` times, and the producer's span.

    The new channels follow the producer's own.
    """
    nodes = {node.name: node for node in graph.nodes}
    added = np.array([c for c, count in copies.items() for _ in range(count - 1)], np.int64)
    read_again(nodes, copyable, len(span.low), added)
    for reading, name in copyable.readings:
        layer = nodes[name]
        assert isinstance(layer, Conv | Linear)
        weight = layer.weight.copy()
        for c, count in copies.items():
            places = reading.offset + np.append(c, len(span.low) + np.flatnonzero(added == c))
            weight[:, places] /= count
        nodes[name] = replace(layer, weight=weight)
    source = nodes[copyable.source]
    assert isinstance(source, Conv)
    nodes[source.name] = replace(
        source,
        weight=np.concatenate([source.weight, source.weight[added]]),
        bias=np.concatenate([source.bias, source.bias[added]]),
    )
    found = replace(graph, nodes=tuple(nodes[node.name] for node in graph.nodes))
    return found, _offset(span, copies)


def read_again(
    nodes: dict[str, Node], copyable: Copyable, width: int, added: NDArray[np.int64]
) -> None:
    """Let the readers take as many channels more behind ``width``, each as they take ``added``.

    To change either of both so that the sum stays what it was is left to the caller.
    """
    for reading, name in copyable.readings:
        affine, layer = nodes[reading.node], nodes[name]
        assert isinstance(affine, Affine)
        assert isinstance(layer, Conv | Linear)
        place, picked = [reading.offset + width] * len(added), reading.offset + added
        nodes[affine.name] = replace(
            affine,
            scale=np.insert(affine.scale, place, affine.scale[picked]),
            shift=np.insert(affine.shift, place, affine.shift[picked]),
        )
        weight = np.insert(layer.weight, place, layer.weight[:, picked], axis=1)
        nodes[name] = replace(layer, weight=weight)


def _worth_most(rounding: NDArray[np.float64], free: int) -> dict[int, int]:
    """How often each channel is stored, by channel; those stored once are left out."""
    count = np.ones(len(rounding), np.int64)
    for _ in range(free):
        gain = rounding * (1 / count**2 - 1 / (count + 1) ** 2)
        count[gain.argmax()] += 1
    return {int(channel): int(count[channel]) for channel in np.flatnonzero(count > 1)}


def _offset(span: Span, copies: Mapping[int, int]) -> Span:
    """``span`` and those of the copies, each moved by its part of a step."""
    moves = [(c, part / count) for c, count in copies.items() for part in range(1, count)]
    channels = np.array([c for c, _ in moves], np.int64)
    by = (span.high - span.low)[channels] / LEVELS * np.array([part for _, part in moves])
    return Span(
        np.concatenate([span.low, span.low[channels] + by]),
        np.concatenate([span.high, span.high[channels] + by]),
    )
