"""Channels stored more than once: the same function, with less rounding error."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import images, relative_error, sizes, specs, tiny, tiramisus, trained

from edgedense.graph.lower import lower
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.quantize.concats import families
from edgedense.quantize.copies import copied, copyables, with_copies
from edgedense.quantize.equalize import STEP, Span, equalize, producers
from edgedense.quantize.place import place_block
from edgedense.quantize.spans import WorthSpan

Floats = np.ndarray


def worth(low: Floats, high: Floats, rounding: Floats) -> WorthSpan:
    return WorthSpan(low, high, rounding, (low + high) / 2, rounding / 4)


def wide(graph: Graph) -> dict[str, WorthSpan]:
    """Spans that hold everything, and the last channel's rounding hurts most."""
    widths = graph.widths()
    return {
        name: worth(np.full(n, -1.0), np.full(n, 2.0), np.arange(n) + 1.0)
        for name, n in ((name, widths[name]) for name in producers(graph))
    }


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_copies_compute_the_same(data: st.DataObject) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    x = images(spec, size)
    before, found, widths = GraphRunner(graph)(x), wide(graph), graph.widths()
    spans: dict[str, Span] = {**found}
    for copyable in copyables(graph):
        copies = {0: 3, widths[copyable.producer] - 1: 2}
        span = found[copyable.producer]
        graph, spans[copyable.producer] = with_copies(graph, copyable, span, copies)
        assert graph.widths()[copyable.producer] == len(spans[copyable.producer].low)
    assert relative_error(before, GraphRunner(equalize(graph, spans))(x)) < 1e-4


def test_a_block_begins_no_wider_than_kernels_pad_to() -> None:
    """12 channels get 8 more, 30 get 2, 32 none; those whose rounding costs most come first."""
    graph = lower(trained(tiny((2, 2), 4)), (8, 8))
    free, _ = copied(graph, wide(graph), 8, ["denseblock1"])  # which rounds nothing then
    assert free.widths()["conv0"] == graph.widths()["conv0"]
    assert free.widths()["transition1.pool"] > graph.widths()["transition1.pool"]
    for width, more in ((12, 8), (30, 2), (32, 0)):
        graph = lower(trained(tiny((2,), 4, stem_width=width)), (8, 8))
        assert graph.widths()["conv0"] == width
        found, spans = copied(graph, wide(graph), 8)
        assert found.widths()["conv0"] == len(spans["conv0"].low) == width + more
        stem, before = next(found.weighted()).weight, next(graph.weighted()).weight
        added = {row.tobytes() for row in stem[width:]}
        assert added <= {row.tobytes() for row in before}
        assert (before[-1].tobytes() in added) == (more > 0)


def test_the_mean_of_copies_is_rounded_on_a_finer_grid() -> None:
    graph = lower(trained(tiny((1,), 4)), (8, 8))
    (copyable,) = copyables(graph)
    ones = np.ones(graph.widths()["conv0"])
    span = worth(-ones, ones, ones)
    _, found = with_copies(graph, copyable, span, {0: 4})
    low, high = (np.append(end[:1], end[len(ones) :]) for end in (found.low, found.high))
    x = np.linspace(-0.9, 0.9, 10001)[:, np.newaxis]
    centre, half = (low + high) / 2, (high - low) / 2
    codes = np.rint((x - centre) / half * 127) / 127 * half + centre
    one, all_four = codes[:, :1] - x, codes.mean(axis=1, keepdims=True) - x
    assert np.square(all_four).mean() < np.square(one).mean() / 15


def test_copies_lower_the_noise_of_a_concat() -> None:
    spec = tiny((2, 2), 4)
    graph = lower(trained(spec), (8, 8))
    x = images(spec, (8, 8), 8)
    peak: dict[str, Floats] = {}
    GraphRunner(graph)(x, lambda n, v: peak.setdefault(n, v.abs().transpose(0, 1).flatten(1)))
    peak = {name: np.asarray(value.amax(1), np.float64) for name, value in peak.items()}
    spans = {n: worth(-peak[n], peak[n], peak[n] ** 2) for n in producers(graph)}
    fine, ends = copied(graph, spans, 8)

    def noise(equalized: Graph) -> float:
        values = {name for family in families(equalized) for name in family.producers}
        scales = dict.fromkeys((*values, *(n.input for n in equalized.weighted())), STEP)
        layers = [node.name for node in equalized.weighted()]
        quiet = place_block(equalized, scales, skip=layers)
        return float(np.square(GraphRunner(quiet)(x) - GraphRunner(equalized)(x)).mean())

    assert noise(equalize(fine, ends)) < noise(equalize(graph, spans))
