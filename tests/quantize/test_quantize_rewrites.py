"""Rewrites that must not change the function, and the placement that they are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Floats, images, relative_error, sizes, specs, tiny, tiramisus, trained

from edgedense.graph.lower import lower
from edgedense.graph.nodes import Affine, Concat, Graph, Quantize, Relu, Weighted, inputs_of
from edgedense.graph.run import GraphRunner
from edgedense.quantize.concats import families
from edgedense.quantize.equalize import STEP, Span, equalize, producers
from edgedense.quantize.fullrange import full_range, move
from edgedense.quantize.migrate import migratables
from edgedense.quantize.place import place_block, place_conv, representable

any_specs = specs() | tiramisus()


def spans_of(graph: Graph, x: Floats) -> dict[str, Span]:
    found: dict[str, Span] = {}
    wanted = set(producers(graph))

    def observe(name: str, value: torch.Tensor) -> None:
        if name in wanted:
            axes = (0, 2, 3)
            found[name] = Span(value.amin(axes).double().numpy(), value.amax(axes).double().numpy())

    GraphRunner(graph)(x.copy(), observe)
    return found


def values_of(graph: Graph, x: Floats) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    GraphRunner(graph)(x.copy(), lambda name, value: found.update({name: value.numpy().copy()}))
    return found


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_equalization_computes_the_same_and_fills_the_range(data: st.DataObject) -> None:
    spec = data.draw(any_specs)
    size = data.draw(sizes(spec))
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    x = images(spec, size)
    equal = equalize(graph, spans_of(graph, x))
    other = images(spec, size, 5) * 3 + 1  # exact for any input, not for calibration images alone
    assert relative_error(GraphRunner(graph)(other), GraphRunner(equal)(other)) < 1e-4
    assert [type(node) for node in equal.nodes] == [type(node) for node in graph.nodes]
    if all(spans.high.size for spans in spans_of(graph, x).values()):
        seen = values_of(equal, x)
        for name in producers(graph):
            assert np.abs(seen[name]).max() < 1 + 1e-3


def test_equalized_channels_span_all_codes() -> None:
    graph = lower(trained(tiny((3, 2), 4)), (16, 16))
    x = images(tiny(), (16, 16), 4)
    seen = values_of(equalize(graph, spans_of(graph, x)), x)
    for name in producers(graph):
        np.testing.assert_allclose(seen[name].max(axis=(0, 2, 3)), 127 * STEP, atol=1e-4)
        np.testing.assert_allclose(seen[name].min(axis=(0, 2, 3)), -128 * STEP, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_moving_to_full_range_computes_the_same(data: st.DataObject) -> None:
    spec = data.draw(any_specs)
    size = data.draw(sizes(spec))
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    x = images(spec, size, 4)
    seen = values_of(graph, x)
    found = migratables(graph)
    scales = {m.value: float(representable(max(seen[m.value].max(), 0.1) / 255, "")) for m in found}
    moved = move(graph, scales)
    assert relative_error(GraphRunner(graph)(x), GraphRunner(moved)(x)) < 1e-4
    after = values_of(moved, x)
    for m in found:
        assert after[m.value].min() >= -128 * scales[m.value] * 1.0001
        assert after[m.value].max() <= 127.01 * scales[m.value]


def layers_of(graph: Graph) -> set[str]:
    return {node.name for node in graph.weighted() if ".denselayer" in node.name}


def test_what_can_be_moved_is_every_bottleneck_input_and_the_classifiers() -> None:
    graph = lower(trained(tiny((2, 2), 4)), (8, 8))
    layers = {f"denseblock{b}.denselayer{i}" for b in (1, 2) for i in (1, 2)}
    narrow = {*(f"{layer}.conv1" for layer in layers), "transition1.conv", "logits"}
    padded = {f"{layer}.conv2" for layer in layers}
    assert {m.reader for m in migratables(graph) if not m.padded} == narrow
    assert {m.reader for m in migratables(graph) if m.padded} == padded
    plain = lower(trained(tiny((2, 2), 4, bottleneck=False)), (8, 8))
    assert {m.reader for m in migratables(plain) if not m.padded} == {"transition1.conv", "logits"}
    assert {m.reader for m in migratables(plain) if m.padded} == layers_of(plain)
    layer = "denseblock1.denselayer1"
    both = {f"{layer}.conv1", f"{layer}.conv2"}
    for asked, wanted in ((False, {f"{layer}.conv1"}), (True, both)):
        assert full_range(graph, {*both, "conv0"}, padded=asked) == wanted


def test_large_maps_are_not_worth_the_codes() -> None:
    """Behind a padded convolution stands a value an output: 4 channels of 256x256, not of 257."""
    for side, moved in ((256, True), (257, False)):
        graph = lower(trained(tiny((1,), 4)), (side, side))
        found = full_range(graph, [node.name for node in graph.weighted()], padded=True)
        assert ("denseblock1.denselayer1.conv2" in found) == moved
        assert {"denseblock1.denselayer1.conv1", "logits"} <= found


@settings(deadline=None, max_examples=40)
@given(any_specs)
def test_in_block_placement_nothing_is_requantized_around_a_concat(spec: object) -> None:
    graph = lower(trained(spec), (64, 64))
    scales = {node.input: (2.0 + k) / 128 for k, node in enumerate(graph.weighted())}
    for k, family in enumerate(families(graph)):
        scales.update(dict.fromkeys(family.producers, 0.25 * (k + 1)))
    concatenated = {name for family in families(graph) for name in family.producers}
    placed = place_block(graph, scales)
    nodes = {node.name: node for node in placed.nodes}

    def scale_of(name: str) -> set[float]:
        node = nodes[name]
        if isinstance(node, Quantize):
            return {node.scale}
        assert isinstance(node, Concat), f"{name} reaches a concat in floating point"
        return set().union(*map(scale_of, node.inputs))

    for node in placed.nodes:
        if isinstance(node, Concat):
            assert len(scale_of(node.name)) == 1
        if isinstance(node, Quantize) and isinstance(nodes.get(node.input), Concat):
            assert {node.scale} == scale_of(node.input)  # idempotent: no second rounding
        if isinstance(node, Affine):
            assert node.input not in concatenated  # but what the concat holds of it, in INT8


def test_a_moved_bias_answers_for_the_weights_as_stored() -> None:
    """Zeros in front of the ReLU everywhere: a moved layer must give what the unmoved one gives."""
    graph = lower(trained(tiny((1,), 4)), (8, 8))
    target = migratables(graph)[0]
    dead = tuple(
        replace(n, scale=n.scale * 0, shift=n.shift * 0 - 1) if n.name == target.source else n
        for n in graph.nodes
    )
    graph = replace(graph, nodes=dead)
    scales = {node.input: 0.05 for node in graph.weighted()}
    x = images(tiny(), (8, 8))
    unmoved = values_of(place_conv(graph, scales), x)[target.reader]
    moved = values_of(place_conv(move(graph, {target.value: 0.05}), scales), x)[target.reader]
    np.testing.assert_allclose(moved, unmoved, atol=1e-5)


def test_families_are_joined_by_skips() -> None:
    from edgedense.densenet.fc_spec import FCDenseNetSpec

    found = families(lower(trained(FCDenseNetSpec.build([2, 2], 2, 3, num_classes=2)), (8, 8)))
    by_name = {name: family for family in found for name in family.producers}
    assert by_name["firstconv"] is by_name["up2.transition.conv"]
    assert by_name["up1.transition.conv"] is not by_name["firstconv"]
    classifier = lower(trained(tiny((2, 2, 2), 3)), (8, 8))
    assert len(families(classifier)) == 3
    readers = {r.node for f in families(classifier) for rs in f.readings.values() for r in rs}
    affines = {n.name for n in classifier.nodes if isinstance(n, Affine)}
    assert readers == affines
    assert all(inputs_of(n) for n in classifier.nodes if isinstance(n, Relu | Weighted))
