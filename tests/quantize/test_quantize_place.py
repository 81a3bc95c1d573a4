from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import specs, tiny, tiramisus, trained

from edgedense.errors import InputError
from edgedense.graph.lower import lower
from edgedense.graph.nodes import (
    Affine,
    Concat,
    Conv,
    ConvTranspose,
    Graph,
    Quantize,
    Weighted,
    inputs_of,
)
from edgedense.graph.weights import quantized_weight
from edgedense.quantize.place import place_conv, quantized_nodes, representable, weight_scales


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 65504), min_size=1, max_size=20))
def test_representable_rounds_up_to_fp16(scales: list[float]) -> None:
    wanted = np.array(scales)
    found = representable(wanted, "x")
    assert found.dtype == np.float32
    half = found.astype(np.float16)
    np.testing.assert_array_equal(half.astype(np.float32), found)
    assert (found > 0).all()
    assert (found >= np.float64(wanted)).all()
    # and not further than one step
    below = np.nextafter(half, np.float16(0)).astype(np.float64)
    assert (below < np.maximum(wanted, 2.0**-20)).all()


def test_representable_keeps_what_fits_and_has_a_floor() -> None:
    assert representable(0.5, "x") == 0.5
    assert representable(0.0, "x") == 2.0**-20
    assert representable(65504.0, "x") == 65504


def test_a_scale_beyond_fp16_is_left_alone_for_fp32_files() -> None:
    scales = np.array([75_000.1, 0.1, 1e-9])
    found = representable(scales, "norm5.relu", "fp32")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, scales.astype(np.float32))
    assert representable(0.0, "norm5.relu", "fp32") > 0
    with pytest.raises(InputError, match=r"norm5\.relu: an INT8 scale of 7.5e\+04") as caught:
        representable(scales, "norm5.relu")
    assert "--rest fp32" in caught.value.remedy
    with pytest.raises(InputError, match=r"norm5\.relu: an INT8 scale of inf"):
        representable(np.inf, "norm5.relu", "fp32")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(1e-9, 1e3))
def test_weight_scales_never_clip_and_waste_little(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    gains = size * 10.0 ** rng.uniform(-3, 0, (6, 1, 1, 1))
    weight = (rng.normal(size=(6, 3, 3, 3)) * gains).astype(np.float32)
    weight[0] = 0
    scale = weight_scales(Conv("c", "x", weight, np.zeros(6, np.float32)))
    peak = np.abs(weight).max(axis=(1, 2, 3))
    assert (peak <= scale * np.float32(127.49)).all()
    codes = quantized_weight(Conv("c", "x", weight, scale * 0, weight_scale=scale))
    error = np.abs(codes * scale[:, None, None, None] - weight)
    assert (error <= scale[:, None, None, None] * 0.5001).all()
    full = peak / 127 > 2.0**-14  # where FP16 is precise
    assert (np.abs(codes).reshape(6, -1).max(axis=1)[full] >= 126).all()


def test_weight_scales_of_a_transposed_convolution_are_by_output_channel() -> None:
    weight = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2)
    node = ConvTranspose("t", "x", weight, np.zeros(3, np.float32), 2)
    np.testing.assert_array_equal(
        weight_scales(node), representable(weight.max(axis=(0, 2, 3)) / 127.0, "t")
    )


def scales_of(graph: Graph) -> dict[str, float]:
    return {node.input: (2.0 + i) / 128 for i, node in enumerate(graph.weighted())}


@settings(deadline=None, max_examples=25)
@given(specs() | tiramisus(), st.data())
def test_every_weighted_node_reads_one_pair_unless_skipped(
    spec: object, data: st.DataObject
) -> None:
    graph = lower(trained(spec), (64, 64))
    names = [node.name for node in graph.weighted()]
    skip = data.draw(st.lists(st.sampled_from(names), unique=True))
    before = [vars(node).copy() for node in graph.nodes]
    scales = scales_of(graph)
    placed = place_conv(graph, scales, skip)

    assert [vars(node) for node in graph.nodes] == before
    assert {node.name for node in quantized_nodes(graph, skip)} == set(names) - set(skip)
    by_name = {node.name: node for node in placed.nodes}
    readers = Counter(name for node in placed.nodes for name in inputs_of(node))
    for node in graph.weighted():
        now = by_name[node.name]
        source = by_name.get(now.input)
        if node.name in skip:
            assert now is node
            continue
        assert isinstance(source, Quantize)
        assert source.input == node.input
        assert source.scale == scales[node.input]
        np.testing.assert_array_equal(now.weight_scale, weight_scales(node))
        assert now.weight is node.weight
    pairs = [node for node in placed.nodes if isinstance(node, Quantize)]
    assert len(pairs) == len(names) - len(skip)
    for pair in pairs:
        assert {type(n) for n in placed.nodes if pair.name in inputs_of(n)} <= set(
            get_args(Weighted)
        )
        assert readers[pair.name] == 1
        assert not isinstance(by_name.get(pair.input), Affine | Quantize)
    others = [node for node in placed.nodes if not isinstance(node, Weighted | Quantize)]
    assert others == [n for n in graph.nodes if not isinstance(n, Weighted)]


def test_readers_of_one_value_share_its_pair() -> None:
    one = np.ones((1, 1, 1, 1), np.float32)
    convs = [Conv(f"c{i}", "x", one, one.ravel()) for i in range(3)]
    graph = Graph("x", (1, 2, 2), (*convs, Concat("y", ("c0", "c1", "c2"))))
    placed = place_conv(graph, {"x": 0.5}, skip=["c1"])
    assert [node.name for node in placed.nodes] == ["x.qdq", "c0", "c1", "c2", "y"]
    assert [node.input for node in placed.nodes[1:4]] == ["x.qdq", "x", "x.qdq"]


def test_placing_comes_before_the_reader() -> None:
    placed = place_conv(graph := lower(trained(tiny()), (8, 8)), scales_of(graph))
    known = {placed.input}
    for node in placed.nodes:
        assert known >= set(inputs_of(node))
        known.add(node.name)
