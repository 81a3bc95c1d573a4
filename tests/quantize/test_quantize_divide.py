"""Channels behind a ReLU in two parts: the same function, and finer steps for the bulk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Floats, histograms, images, relative_error, sizes, specs, tiny, trained
from onnx_rules import File

from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.runner import Interface
from edgedense.graph.export import export_onnx
from edgedense.graph.export_integer import export_integer
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Affine, Conv, Graph, Node, Quantize, Relu
from edgedense.graph.run import GraphRunner
from edgedense.quantize.concats import families
from edgedense.quantize.copies import copyables
from edgedense.quantize.divide import divided, with_parts
from edgedense.quantize.equalize import STEP, Span, equalize, producers
from edgedense.quantize.place import named_families, place_block
from edgedense.quantize.spans import WorthSpan, spans

STEMS = ("imagenet", "deep", "deep-blur")


def long_tailed(seed: int = 0, size: tuple[int, int] = (64, 64)) -> tuple[Graph, Floats]:
    """A network with an ImageNet stem, and images with a few bright spots."""
    spec = tiny((2, 2), 4, stem="imagenet", stem_width=8)
    x = images(spec, size, 6) * np.float32(0.2)
    spots = np.random.default_rng(seed).random(x.shape) < 0.003
    x[spots] *= 60
    return lower(trained(spec, seed), size), x


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_parts_compute_the_same(data: st.DataObject) -> None:
    """For any knees, and beyond the ends that calibration saw, equalized or not."""
    stem = data.draw(st.sampled_from(STEMS))
    hidden = (2, 5) if stem.startswith("deep") else ()
    spec = replace(data.draw(specs(bottleneck=True)), stem=stem, stem_hidden=hidden)
    size = data.draw(sizes(spec))
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    x = images(spec, size)
    ends = dict[str, Span](spans(graph, histograms(graph, x)))
    other = images(spec, size, 5) * 3 + 1
    before = GraphRunner(graph)(other)
    for copyable in [found for found in copyables(graph) if found.relu]:
        span = ends[copyable.producer]
        assert isinstance(span, WorthSpan)
        width = len(span.low)
        picked = data.draw(st.sets(st.integers(0, width - 1), min_size=1))
        share = data.draw(st.floats(0.01, 1))
        knees = replace(span, knee=share * np.maximum(span.high, 1e-3))
        channels = np.array(sorted(picked))
        graph, parts = with_parts(graph, copyable, knees, channels)
        ends |= parts
        assert sum(graph.widths()[name] for name in parts) == width + len(channels)
        assert set(parts) <= set(producers(graph))
    assert relative_error(before, GraphRunner(graph)(other)) < 1e-4
    assert relative_error(before, GraphRunner(equalize(graph, ends))(other)) < 1e-4


def test_only_stems_behind_a_relu_are_divided_and_only_where_the_concat_is_rounded() -> None:
    graph, x = long_tailed()
    best = spans(graph, histograms(graph, x))
    found, ends = divided(graph, best, 5)
    assert set(ends) == {"pool0.bulk", "pool0.tail"}
    assert {name: found.widths()[name] for name in ends} == {"pool0.bulk": 8, "pool0.tail": 5}
    assert list(named_families(found)) == list(named_families(graph))
    assert len(families(found)[0].readings["pool0.tail"]) == 3  # two layers and the transition
    assert divided(graph, best, 0) == (graph, {})
    assert divided(graph, best, 5, ["denseblock1"]) == (graph, {})
    cifar = lower(trained(tiny((2, 2), 4)), (16, 16))
    known = spans(cifar, histograms(cifar, images(tiny(), (16, 16), 4)))
    assert divided(cifar, known, 5) == (cifar, {})


def test_those_whose_tails_are_longest_are_divided_and_the_knee_is_below_the_tail() -> None:
    graph, x = long_tailed()
    best = spans(graph, histograms(graph, x))["pool0"]
    assert (best.divided <= best.rounding * 0.2501).all()  # two halves are a quarter
    assert (best.knee <= best.high).all()
    few, _ = divided(graph, {"pool0": best} | spans(graph, histograms(graph, x)), 3)
    (select,) = [node for node in few.nodes if node.name == "pool0.tail.channels"]
    gains = best.rounding - best.divided
    assert set(select.channels) == set(np.argsort(-gains)[:3])  # type: ignore[union-attr]


def rounded(graph: Graph, ends: dict[str, Span]) -> tuple[Graph, Graph]:
    """Equalized, and with every concat in INT8 but no layer."""
    equal = equalize(graph, ends)
    scales = dict.fromkeys((n.input for n in equal.weighted()), 1.0)
    scales |= dict.fromkeys(producers(equal), STEP)
    return equal, place_block(equal, scales, [node.name for node in equal.weighted()])


@pytest.mark.parametrize("seed", range(3))
def test_long_tails_lose_less(seed: int) -> None:
    graph, x = long_tailed(seed)
    ends = spans(graph, histograms(graph, x))
    exact = GraphRunner(graph)(x)

    def error(found: Graph, known: dict[str, Span]) -> float:
        """What rounding the stem's values alone does to the logits."""
        placed = rounded(found, known)[1]
        widths = placed.widths()

        def stem_only(node: Node) -> Node:
            if not isinstance(node, Quantize) or node.input.startswith("pool0"):
                return node
            ones = np.ones(widths[node.name], np.float32)
            return Affine(node.name, node.input, ones, 0 * ones)

        return float(np.square(GraphRunner(placed.map(stem_only))(x) - exact).sum())

    two, parts = divided(graph, ends, 8)
    assert error(two, {**ends, **parts}) < error(graph, dict(ends)) / 3


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_the_file_does_what_the_simulation_does(rest: str, tmp_path: Path) -> None:
    graph, x = long_tailed()
    ends = dict[str, Span](spans(graph, histograms(graph, x)))
    graph, parts = divided(graph, spans(graph, histograms(graph, x)), 3)
    equal, placed = rounded(graph, ends | parts)
    interface = Interface(graph.input, graph.input_shape, graph.output, graph.output_shape)
    for known, name in ((equal, "plain"), (placed, "int8")):
        wanted = GraphRunner(known)(x)
        path = tmp_path / f"{name}.onnx"
        export_onnx(known, path, rest, {})  # type: ignore[arg-type]
        found = OnnxRunner(path, interface, threads=1, exact=True)(x)
        assert relative_error(wanted, found) < (0.02 if rest == "fp16" else 1e-3)
        if known is equal:  # of concats the rules know nothing
            assert File(onnx.load(path), rest).complaints() == []  # type: ignore[arg-type]


def test_ends_of_channels_survive_the_integer_file(tmp_path: Path) -> None:
    graph, x = long_tailed()
    ends = dict[str, Span](spans(graph, histograms(graph, x)))
    graph, parts = divided(graph, spans(graph, histograms(graph, x)), 3)
    placed = rounded(graph, ends | parts)[1]
    written = export_integer(placed, tmp_path / "cpu.onnx", {})
    interface = Interface(graph.input, graph.input_shape, graph.output, graph.output_shape)
    found = OnnxRunner(tmp_path / "cpu.onnx", interface, threads=1, exact=True)(x)
    assert relative_error(GraphRunner(written)(x), found) < 1e-3


def test_a_relu_cuts_channels_off_at_ends_of_their_own() -> None:
    high = np.array([2.0, np.inf], np.float32)
    weight = np.ones((2, 1, 1, 1), np.float32)
    bias = np.zeros(2, np.float32)
    nodes = (Conv("c", "x", weight, bias), Relu("r", "c", high=high))
    x = np.linspace(-3, 9, 12, dtype=np.float32).reshape(3, 1, 2, 2)
    found = GraphRunner(Graph("x", (1, 2, 2), nodes))(x)
    np.testing.assert_array_equal(found[:, 0], np.clip(x[:, 0], 0, 2))
    np.testing.assert_array_equal(found[:, 1], np.maximum(x[:, 0], 0))
