from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import images, logits, relative_error, sizes, specs, tiny, tiramisus, trained

from edgedense.densenet.wiring import wires
from edgedense.graph.build import affine_of
from edgedense.graph.lower import lower
from edgedense.graph.nodes import (
    Affine,
    Concat,
    Conv,
    Graph,
    Linear,
    Node,
    Quantize,
    Relu,
    inputs_of,
)
from edgedense.graph.run import GraphRunner, fake_quantize
from edgedense.graph.weights import quantized_weight

ONE = np.ones(1, np.float32)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_lowered_graph_computes_what_the_network_does(data: st.DataObject) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    network = trained(spec, data.draw(st.integers(0, 99)))
    x = images(spec, size)
    graph = lower(network, size)
    before = x.copy()
    assert relative_error(logits(network, x), GraphRunner(graph)(x)) < 1e-5
    assert (x == before).all()
    assert graph.input_shape == (spec.in_channels, *size)
    assert graph.output_shape == GraphRunner(graph)(x).shape[1:]
    assert all(len(node.inputs) > 1 for node in graph.nodes if isinstance(node, Concat))


@settings(deadline=None, max_examples=25)
@given(specs() | tiramisus())
def test_nodes_are_in_an_order_in_which_they_can_run(spec: object) -> None:
    graph = lower(trained(spec), (64, 64))
    known = {graph.input}
    for node in graph.nodes:
        assert known >= set(inputs_of(node))
        assert node.name not in known
        known.add(node.name)
    assert len(list(graph.weighted())) == len(wires(spec))


def test_batch_norms_fold_where_they_can_and_stay_where_they_cannot() -> None:
    graph = lower(trained(tiny((2, 1), stem="imagenet")), (16, 16))
    kinds = {node.name: type(node) for node in graph.nodes}
    norms = {name for name, kind in kinds.items() if kind is Affine}
    assert norms == {
        "denseblock1.denselayer1.norm1",
        "denseblock1.denselayer2.norm1",
        "transition1.norm",
        "denseblock2.denselayer1.norm1",
        "norm5",
    }
    producers = {kinds.get(node.input) for node in graph.nodes if isinstance(node, Affine)}
    assert Conv not in producers


def test_affine_is_the_batch_norm_in_float64() -> None:
    norm = trained(tiny()).features.norm5
    scale, shift = affine_of(norm)
    x = torch.randn(2, len(scale), 1, 1, dtype=torch.float64)
    wanted = norm.double()(x).detach().numpy()
    found = x.numpy() * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def runs(*nodes: Node, x: np.ndarray) -> np.ndarray:
    return GraphRunner(Graph("x", x.shape[1:], nodes))(x)


X = np.array([[-3.0, -1.0, 2.0, 5.0]], np.float32).reshape(1, 1, 2, 2)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("node", [Relu("spent", "a"), Quantize("spent", "a", 2.0)])
def test_memory_is_not_written_over_while_others_read_it(node: Node, first: bool) -> None:
    """Both orders of two readers of one value; either would see the other's work if it did."""
    wanted = {
        "spent": np.maximum(X, 0) if isinstance(node, Relu) else np.rint(X / 2) * 2,
        "other": X * 10,
    }
    other = Affine("other", "a", 10 * ONE, 0 * ONE)
    pair = (node, other) if first else (other, node)
    join = Concat("join", ("spent", "other"))
    out = runs(Affine("a", "x", ONE, 0 * ONE), *pair, join, x=X.copy())
    np.testing.assert_array_equal(out, np.concatenate([wanted["spent"], wanted["other"]], 1))


def test_two_in_place_readers_of_one_value() -> None:
    nodes = (
        Affine("a", "x", ONE, 0 * ONE),
        Relu("r", "a"),
        Quantize("q", "a", 4.0),
        Concat("join", ("r", "q")),
    )
    wanted = np.concatenate([np.maximum(X, 0), np.rint(X / 4) * 4], 1)
    np.testing.assert_array_equal(runs(*nodes, x=X.copy()), wanted)


@pytest.mark.parametrize("node", [Relu("spent", "c1"), Quantize("spent", "c1", 2.0)])
def test_a_concat_that_a_longer_one_goes_on_from_is_not_written_over(node: Node) -> None:
    """Concats that grow share memory, so the last reader of one is not its last reader."""
    nodes = (
        Affine("a", "x", ONE, 0 * ONE),
        Affine("b", "x", 3 * ONE, 0 * ONE),
        Concat("c1", ("a", "b")),
        node,
        Concat("c2", ("a", "b", "x")),
        Concat("join", ("spent", "c2")),
    )
    c1 = np.concatenate([X, 3 * X], 1)
    spent = np.maximum(c1, 0) if isinstance(node, Relu) else np.rint(c1 / 2) * 2
    wanted = np.concatenate([spent, c1, X], 1)
    np.testing.assert_array_equal(runs(*nodes, x=X.copy()), wanted)


@pytest.mark.parametrize("node", [Relu("y", "x"), Quantize("y", "x", 2.0)])
def test_the_callers_images_are_never_written_over(node: Node) -> None:
    x = X.copy()
    runs(node, x=x)
    np.testing.assert_array_equal(x, X)


def test_observe_sees_every_value_as_it_is_made() -> None:
    network = trained(tiny())
    x = images(network.spec)
    graph = lower(network, (8, 8))
    seen: dict[str, np.ndarray] = {}
    out = GraphRunner(graph)(x, lambda name, value: seen.setdefault(name, value.numpy().copy()))
    assert list(seen) == ["images", *(node.name for node in graph.nodes)]
    np.testing.assert_array_equal(seen["images"], x)
    np.testing.assert_array_equal(seen["logits"], out)
    for node in graph.nodes:
        if isinstance(node, Affine):  # not as an in-place ReLU leaves it
            wanted = node.scale[:, None, None] * seen[node.input] + node.shift[:, None, None]
            np.testing.assert_allclose(seen[node.name], wanted, rtol=1e-5, atol=1e-6)
            assert (seen[node.name] < 0).any()


def test_values_are_freed_after_their_last_reader() -> None:
    layers = 12
    graph = lower(trained(tiny((layers,), 2)), (8, 8))
    alive: weakref.WeakValueDictionary[str, torch.Tensor] = weakref.WeakValueDictionary()
    peak = 0

    def observe(name: str, value: torch.Tensor) -> None:
        nonlocal peak
        alive[name] = value
        peak = max(peak, len(alive))

    GraphRunner(graph)(images(tiny()), observe)
    assert len(graph.nodes) > 70
    # the block's features, one concat, and the value and the input of the step at hand
    assert layers <= peak <= layers + 4


def reference_qdq(x: np.ndarray, scale: np.float32) -> np.ndarray:
    """ONNX QuantizeLinear and DequantizeLinear, int8, zero-point 0, by their specification."""
    steps = (x / scale).astype(np.float32)
    floor = np.floor(steps)
    up = (steps - floor > 0.5) | ((steps - floor == 0.5) & (floor % 2 == 1))
    return (np.clip(floor + up, -128, 127).astype(np.int8) * scale).astype(np.float32)


HALVES = st.floats(2.0**-14, 2.0**10, width=16)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=1, max_size=50), HALVES)
def test_fake_quantize_is_onnx_quantize_and_dequantize(values: list[float], scale: float) -> None:
    ties = (np.arange(-300, 300) + 0.5) * scale
    x = np.concatenate([np.array(values), ties, [0.0, -0.0]]).astype(np.float32)
    wanted = reference_qdq(x, np.float32(scale))
    np.testing.assert_array_equal(fake_quantize(torch.from_numpy(x), scale).numpy(), wanted)
    in_place = torch.from_numpy(x.copy())
    assert fake_quantize(in_place, scale, inplace=True) is in_place
    np.testing.assert_array_equal(in_place.numpy(), wanted)


def test_fake_quantize_rounds_ties_to_even_and_saturates() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 500.0, -127.5, -128.5, -500.0])
    wanted = [0, 2, 2, 0, -2, 126, 127, 127, -128, -128, -128]
    assert fake_quantize(x, 1.0).tolist() == wanted


def test_quantized_weights_have_one_scale_an_output_channel_and_no_minus_128() -> None:
    weight = np.array([[1.0, -2.0, 0.5], [10.0, 20.0, -40.0]], np.float32)
    scale = np.array([2 / 127, 20 / 127], np.float32)
    node = Linear("l", "x", weight, np.zeros(2, np.float32), scale)
    assert quantized_weight(node).tolist() == [[64, -127, 32], [64, 127, -127]]
    conv = Conv("c", "x", weight.reshape(2, 3, 1, 1), node.bias, weight_scale=scale)
    np.testing.assert_array_equal(quantized_weight(conv).reshape(2, 3), quantized_weight(node))


def test_the_runner_uses_the_quantized_weights() -> None:
    weight = np.array([[[[0.3]]], [[[-7.0]]]], np.float32)
    scale = np.array([0.25, 2.0], np.float32)
    conv = Conv("c", "x", weight, np.array([1.0, 0.0], np.float32), weight_scale=scale)
    out = runs(conv, x=np.full((1, 1, 1, 1), 8.0, np.float32))
    assert out.ravel().tolist() == [0.25 * 8 + 1, -8.0 * 8]  # round(-3.5) is -4
    plain = runs(replace(conv, weight_scale=None), x=np.full((1, 1, 1, 1), 8.0, np.float32))
    np.testing.assert_allclose(plain.ravel(), [3.4, -56], rtol=1e-6)


def test_map_makes_a_new_graph() -> None:
    graph = lower(trained(tiny()), (8, 8))
    doubled = graph.map(
        lambda node: replace(node, scale=2 * node.scale) if isinstance(node, Affine) else node
    )
    changed = [a is not b for a, b in zip(graph.nodes, doubled.nodes, strict=True)]
    assert changed == [isinstance(node, Affine) for node in graph.nodes]
