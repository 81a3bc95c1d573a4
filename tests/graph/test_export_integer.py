from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Floats, images, sizes, specs, tiny, tiramisus, trained

from edgedense.densenet.family import Spec
from edgedense.engines import onnxruntime as engine
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.runner import Interface
from edgedense.graph.export_integer import export_integer
from edgedense.graph.lower import lower
from edgedense.graph.nodes import (
    Affine,
    Concat,
    Conv,
    GlobalPool,
    Graph,
    Linear,
    Node,
    Pool,
    Quantize,
    Relu,
)
from edgedense.graph.run import GraphRunner
from edgedense.quantize.concats import families
from edgedense.quantize.fullrange import move
from edgedense.quantize.migrate import migratables
from edgedense.quantize.place import place_block, place_conv
from edgedense.stats import logit_sqnr_db

SIZE = (16, 16)


def placed(
    spec: Spec,
    size: tuple[int, int],
    x: Floats,
    *,
    block: bool,
    seed: int = 0,
    padded: bool = False,
) -> Graph:
    """A quantized network: scales from running on ``x``, moved where it can be.

    With ``padded`` also in front of convolutions that pad.
    """
    graph = lower(trained(spec, seed), size)
    peak: dict[str, float] = {}
    GraphRunner(graph)(x, lambda name, value: peak.setdefault(name, float(value.abs().max())))
    moved = {movable.value for movable in migratables(graph) if padded or not movable.padded}
    for family in families(graph):
        widest = max(peak[name] for name in family.producers)
        peak.update(dict.fromkeys(family.producers, widest))
    scales = {
        name: float(np.float16(max(value, 0.1) / (250 if name in moved else 120)))
        for name, value in peak.items()
    }
    graph = move(graph, {name: scales[name] for name in moved})
    return place_block(graph, scales) if block else place_conv(graph, scales)


def run(path: Path, graph: Graph, x: Floats, *, exact: bool = False) -> Floats:
    interface = Interface(graph.input, graph.input_shape, graph.output, graph.output_shape)
    return OnnxRunner(path, interface, threads=1, exact=exact)(x)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Graph], onnx.ModelProto]:
    def write(graph: Graph) -> onnx.ModelProto:
        export_integer(graph, tmp_path / "int8.onnx", {"edgedense.activation": "softmax"})
        return onnx.load(tmp_path / "int8.onnx")

    return write


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_the_integer_file_computes_what_the_simulation_does(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    x = images(spec, size)
    block, padded, seed = *data.draw(st.tuples(*[st.booleans()] * 2)), data.draw(st.integers(0, 99))
    graph = placed(spec, size, x, block=block, seed=seed, padded=padded)
    path = tmp_path_factory.getbasetemp() / "int8.cpu.onnx"
    simulated = GraphRunner(export_integer(graph, path, {}))(x)
    noise_db = logit_sqnr_db(GraphRunner(lower(trained(spec, seed), size))(x), simulated)
    for exact in (True, False):
        found_db = logit_sqnr_db(simulated, run(path, graph, x, exact=exact))
        assert found_db > min(noise_db, 40) - 3


def test_a_block_network_is_integer_from_the_images_to_the_last_concat(
    written: Callable[[Graph], onnx.ModelProto],
) -> None:
    spec = tiny((3, 3), stem="imagenet", num_classes=3)
    model = written(placed(spec, (32, 32), images(spec, (32, 32)), block=True))
    kinds = [node.op_type for node in model.graph.node]
    last = max(k for k, kind in enumerate(kinds) if kind == "Concat")
    counted = Counter(kinds[: last + 1])
    # stem, 6 layers of BN and 2 convolutions, BN and convolution of the transition
    assert counted.pop("QLinearConv") == 1 + 6 * 3 + 2
    # behind the stem and in front of each padded convolution
    assert counted.pop("Clip") == 1 + 6
    assert counted == {"QuantizeLinear": 1, "MaxPool": 1, "Concat": 6}
    concats = [node for node in model.graph.node if node.op_type == "Concat"]
    assert all(len(node.input) == 2 for node in concats)
    everything = written(placed(spec, (32, 32), images(spec, (32, 32)), block=True, padded=True))
    # code 0 is where these ReLUs end, and what these convolutions pad with: left are the stem's,
    # and the one behind the last concat, in floating point
    assert [node.op_type for node in everything.graph.node].count("Clip") == 2
    assert "softmax" in {prop.value for prop in model.metadata_props}
    types = {array.name: array.data_type for array in model.graph.initializer}
    convs = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    assert {types[node.input[2]] for node in convs} == {onnx.TensorProto.UINT8}
    assert {types[node.input[3]] for node in convs} == {onnx.TensorProto.INT8}


def whole(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.integers(-127, 128, shape).astype(np.float32)


def conv(name: str, value: str, weight: Floats, **window: Any) -> Conv:
    """Weights that are their own codes; the bias keeps sums off the border of two codes."""
    ones = np.ones(len(weight), np.float32)
    return Conv(name, value, weight, 10 + ones / 4, weight_scale=ones, **window)


def exact_graph(*middle: Node, images_scale: float = 0.25) -> Graph:
    head = Linear("y", "mean", np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    nodes = (Quantize("q", "x", images_scale), *middle, GlobalPool("mean", middle[-1].name), head)
    return Graph("x", (4, 8, 8), nodes)


RNG = np.random.default_rng(0)
PADDED = conv("c", "q", whole(RNG, 4, 4, 3, 3), stride=2, padding=1)
POINTWISE = conv("c", "q", whole(RNG, 4, 4, 1, 1))
NORM = Affine(
    "n", "q", np.array([0.5, -1, 2, 0], np.float32), np.array([2.3, -4.7, 8.3, 5.3], np.float32)
)
CHAINS = {
    "convolution": (PADDED, Quantize("z", "c", 32.0)),
    "convolution, all clipped": (PADDED, Quantize("z", "c", 0.5)),
    "convolution, relu": (PADDED, Relu("r", "c"), Quantize("z", "r", 32.0)),
    "convolution, relu, max pool": (
        PADDED,
        Relu("r", "c"),
        Pool("p", "r", "max", 3, 2, 1),
        Quantize("z", "p", 32.0),
    ),
    "convolution, average pool": (
        POINTWISE,
        Pool("p", "c", "avg", 2, 2),
        Quantize("z", "p", 13.0),
    ),
    "convolution, overlapping average pool": (
        POINTWISE,
        Pool("p", "c", "avg", 2, 1),
        Quantize("z", "p", 13.0),
    ),
    "norm": (NORM, Quantize("z", "n", 1.0)),
    "norm, relu": (NORM, Relu("r", "n"), Quantize("z", "r", 1.0)),
    "norm, relu at the least code": (NORM, Relu("r", "n", -128.0), Quantize("z", "r", 1.0)),
    "norm, relu between": (NORM, Relu("r", "n", -50.0), Quantize("z", "r", 1.0)),
    "relu read twice": (
        PADDED,
        Relu("r", "c"),
        Quantize("z1", "r", 32.0),
        Quantize("z2", "r", 64.0),
        conv("d1", "z1", whole(RNG, 4, 4, 1, 1)),
        conv("d2", "z2", whole(RNG, 4, 4, 1, 1)),
        Quantize("z3", "d1", 2.0**13),
        Quantize("z4", "d2", 2.0**13),
        Concat("k", ("z3", "z4")),
        conv("d3", "k", whole(RNG, 4, 8, 1, 1)),
    ),
    "concat of two scales": (
        Quantize("z", "x", 0.5),
        Concat("k", ("q", "z")),
        Quantize("z2", "k", 0.125),
        conv("d", "z2", whole(RNG, 4, 8, 1, 1)),
    ),
    "concats that share nothing but their first": (
        POINTWISE,
        Quantize("z", "c", 0.25),
        Concat("k1", ("q", "z")),
        Concat("k2", ("q", "q", "z")),
        Concat("k3", ("k2", "k1")),
        conv("d", "k3", whole(RNG, 4, 20, 1, 1)),
    ),
    "a quantized concat": (
        POINTWISE,
        Quantize("z", "c", 0.25),
        Concat("k", ("q", "z")),
        Quantize("same", "k", 0.25),
        conv("d", "same", whole(RNG, 4, 8, 1, 1)),
    ),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_codes_are_the_same_where_sums_are_exact(
    chain: str, written: Callable[[Graph], onnx.ModelProto], tmp_path: Path
) -> None:
    """Powers of two for scales, and no sum on a border: no code may flip."""
    graph = exact_graph(*CHAINS[chain], images_scale=0.25 if "norm" not in chain else 1.0)
    x = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    x *= 8 if "norm" not in chain else 80
    written(graph)
    wanted = GraphRunner(graph)(x.copy())
    assert len(np.unique(wanted)) > 4
    found = run(tmp_path / "int8.onnx", graph, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())


def test_a_dead_channel_with_a_bias_stays_within_int32(
    written: Callable[[Graph], onnx.ModelProto], tmp_path: Path
) -> None:
    weight = whole(RNG, 4, 4, 1, 1)
    weight[1] = 0
    scale = np.array([1, 2.0**-20, 1, 1], np.float32)
    bias = np.array([0.25, 300.0, 0.25, 0.25], np.float32)
    dead = Conv("c", "q", weight, bias, weight_scale=scale)
    norm = replace(NORM, input="z", shift=np.array([2.3, -4.7, 8.3, 2000.3], np.float32))
    graph = exact_graph(dead, Quantize("z", "c", 4.0), norm, Quantize("z2", "n", 16.0),
                        images_scale=2.0**-14)  # fmt: skip
    x = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    written(graph)
    found = run(tmp_path / "int8.onnx", graph, x)
    np.testing.assert_allclose(found, GraphRunner(graph)(x), rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(found[:, 3], 16.0 * 125)


def test_a_classifier_is_one_integer_operator(
    written: Callable[[Graph], onnx.ModelProto], tmp_path: Path
) -> None:
    weight = whole(RNG, 4, 4)
    head = Linear("y", "z", weight, np.arange(4, dtype=np.float32), np.ones(4, np.float32))
    nodes = (GlobalPool("mean", "x"), Quantize("z", "mean", 0.25), head)
    graph = Graph("x", (4, 8, 8), nodes)
    x = 8 * np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    written(graph)
    np.testing.assert_array_equal(run(tmp_path / "int8.onnx", graph, x), GraphRunner(graph)(x))


def test_kernels_that_cannot_saturate_give_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All weights and activations at their largest: pairs of products leave 16 bits."""
    weight = np.full((16, 16, 1, 1), 127, np.float32)
    wide = Conv("c", "q", weight, np.zeros(16, np.float32), weight_scale=np.ones(16, np.float32))
    head = Linear("y", "mean", np.eye(16, dtype=np.float32), np.zeros(16, np.float32))
    nodes = (Quantize("q", "x", 1.0), wide, Quantize("z", "c", 4096.0), GlobalPool("mean", "z"))
    graph = Graph("x", (16, 8, 8), (*nodes, head))
    export_integer(graph, tmp_path / "int8.onnx", {})
    x = np.full((1, 16, 8, 8), 127, np.float32)
    for vnni in (True, False) if engine.has_vnni() else (False,):
        monkeypatch.setattr(engine, "has_vnni", lambda known=vnni: known)
        found = run(tmp_path / "int8.onnx", graph, x)
        np.testing.assert_array_equal(found, GraphRunner(graph)(x.copy()))
