"""Spans of concats' channels: what no reader sees gets no code."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import histograms, images, relative_error, tiny, trained

from edgedense.graph.lower import lower
from edgedense.graph.nodes import Affine, Concat, Conv, Graph, Relu
from edgedense.graph.run import GraphRunner
from edgedense.quantize.equalize import STEP, Span, equalize, producers
from edgedense.quantize.place import place_block
from edgedense.quantize.spans import ChannelHistograms, spans


def eye(name: str, value: str, channels: int) -> Conv:
    weight = np.eye(channels, dtype=np.float32)[:, :, None, None]
    return Conv(name, value, weight, np.zeros(channels, np.float32))


def reading(threshold: float, slope: float = 1.0) -> Graph:
    """Two values, their concat, and BN and ReLU that pass what is above ``threshold``."""
    ones = np.full(2, slope, np.float32)
    return Graph(
        "images",
        (1, 32, 32),
        (
            eye("first", "images", 1),
            eye("second", "images", 1),
            Concat("both", ("first", "second")),
            Affine("norm", "both", ones, -ones * np.float32(threshold)),
            Relu("relu", "norm"),
            eye("out", "relu", 2),
        ),
    )


def noise(count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 1, 32, 32)).astype(np.float32)


def test_values_below_every_threshold_get_no_code() -> None:
    x = noise()
    graph = reading(1.5)
    for span in spans(graph, histograms(graph, x)).values():
        assert 1.2 < span.low[0] <= 1.55
        assert span.high[0] > 3
    low = spans(reading(-9.0), histograms(reading(-9.0), x))["first"].low[0]
    assert low < -3  # everything passes: nothing is free to clip


def test_a_falling_bn_sees_the_other_end() -> None:
    graph = reading(-1.5, slope=-1.0)  # passes what is below -1.5
    span = spans(graph, histograms(graph, noise()))["first"]
    assert -1.55 <= span.high[0] < -1.2
    assert span.low[0] < -3


def test_clipping_what_no_reader_sees_changes_nothing() -> None:
    """All values of the concat cut to their spans give the same answers."""
    graph, x = reading(1.5), noise()
    span = spans(graph, histograms(graph, x))["first"]
    whole = GraphRunner(graph)(x)
    cut = GraphRunner(graph)(np.maximum(x, np.float32(span.low[0])))
    assert relative_error(whole, cut) < 1e-3


def test_the_scale_of_a_readers_weights_counts_for_nothing() -> None:
    """One reader multiplied by a million is heard no louder: its BN or its readers divide."""
    x = images(tiny((2, 2), 4), (16, 16), 16)
    graph = lower(trained(tiny((2, 2), 4)), (16, 16))
    loud = []
    for node in graph.nodes:
        new = node
        if node.name == "denseblock1.denselayer2.conv1":
            new = Conv(node.name, node.input, node.weight * 1e6, node.bias * 1e6)
        if node.name == "denseblock1.denselayer2.conv2":
            new = Conv(node.name, node.input, node.weight / 1e6, node.bias, 1, node.padding)
        loud.append(new)
    other = Graph(graph.input, graph.input_shape, tuple(loud))
    quiet, found = spans(graph, histograms(graph, x)), spans(other, histograms(other, x))
    for name, span in quiet.items():
        np.testing.assert_allclose(found[name].low, span.low, rtol=0.1, atol=0.1)
        np.testing.assert_allclose(found[name].high, span.high, rtol=0.1, atol=0.1)


def test_histograms_count_everything_whatever_comes_first() -> None:
    x = torch.from_numpy(noise())
    found = ChannelHistograms(x[:1] * 0.1)
    for part in (x[:1] * 0.1, x[1:]):
        found.add(part)
    assert found.counts.sum() == x.numel()
    assert found.high[0] == float(x[1:].max())
    constant = ChannelHistograms(torch.zeros(2, 3, 4, 4))
    constant.add(torch.zeros(2, 3, 4, 4))
    assert constant.counts.sum() == 96
    assert np.isfinite(constant.centres()).all()


def test_spans_beat_the_whole_range_in_block_placement() -> None:
    graph = lower(trained(tiny((3, 3), 8)), (16, 16))
    x = images(tiny((3, 3), 8), (16, 16), 64)
    seen = histograms(graph, x)
    exact = GraphRunner(graph)(x)
    whole = {name: Span(found.low, found.high) for name, found in seen.items()}

    def error(chosen: dict[str, Span]) -> float:
        equal = equalize(graph, chosen)
        scales = dict.fromkeys((n.input for n in equal.weighted()), 1.0)
        scales.update(dict.fromkeys(producers(equal), STEP))
        placed = place_block(equal, scales, [n.name for n in equal.weighted()])
        return float(np.square(GraphRunner(placed)(x) - exact).sum())

    assert error(spans(graph, seen)) < error(whole)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-8, 8), min_size=1, max_size=6), st.integers(0, 99))
def test_bins_reach_what_comes_later_and_lose_nothing(powers: list[float], seed: int) -> None:
    draw = np.random.default_rng(seed)
    parts = [2.0**power * draw.normal(draw.normal(), 1, (2, 3, 4, 4)) for power in powers]
    values = [torch.from_numpy(part.astype(np.float32)) for part in parts]
    found = ChannelHistograms(values[0])
    for value in values:
        found.add(value)
    whole = torch.cat(values).transpose(0, 1).flatten(1).double().numpy()
    assert (found.counts.sum(axis=1) == whole.shape[1]).all()
    assert (found.low == whole.min(axis=1)).all()
    assert (found.high == whole.max(axis=1)).all()
    # the middle of a bin is within half a width of its values, and no bin is wasted on more than
    # three times what there is
    width = 3 * (found.high - found.low) / (found.counts.shape[1] / 2)
    mean = (found.shares() * found.centres()).sum(axis=1)
    assert (np.abs(mean - whole.mean(axis=1)) <= width).all()
    square = (found.shares() * np.square(found.centres())).sum(axis=1)
    most = np.abs(whole).max(axis=1)
    assert (np.abs(square - np.square(whole).mean(axis=1)) <= 2 * width * most).all()


def test_a_dead_channel_that_comes_to_life_gets_its_bins() -> None:
    found = ChannelHistograms(torch.zeros(1, 1, 2, 2))
    found.add(torch.zeros(1, 1, 2, 2))
    found.add(torch.full((1, 1, 2, 2), -40.0))
    used = np.flatnonzero(found.counts[0])
    assert found.counts[0, used].tolist() == [4, 4]
    assert abs(found.centres()[0, used[0]] + 40) < 0.5
