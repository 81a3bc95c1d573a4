"""Migration keeps the function and lowers the noise that it models."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Floats, images, relative_error, sizes, specs, tiny, tiramisus, trained

from edgedense.graph.lower import lower
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.quantize.migrate import Moments, migratables, migrate
from edgedense.quantize.place import place_conv, representable

any_specs = specs() | tiramisus()


def moments(graph: Graph, x: Floats) -> dict[str, Moments]:
    widths = graph.widths()
    found = {m.relu: Moments(widths[m.relu]) for m in migratables(graph)}
    GraphRunner(graph)(x.copy(), lambda n, v: found[n].add(v) if n in found else None)
    return found


def peaks(graph: Graph, x: Floats) -> dict[str, float]:
    found: dict[str, float] = {}
    GraphRunner(graph)(x.copy(), lambda n, v: found.update({n: float(v.abs().max())}))
    return found


def readers(graph: Graph) -> list[str]:
    return [m.reader for m in migratables(graph)]


def test_moments_are_those_of_all_batches_together() -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=(6, 3, 4, 4)), 0).astype(np.float32)
    found = Moments(3)
    for part in (values[:2], values[2:]):
        found.add(torch.from_numpy(part))
    np.testing.assert_allclose(found.peak, values.max(axis=(0, 2, 3)))
    np.testing.assert_allclose(found.mean_square, np.square(values).mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.active, (values > 0).mean(axis=(0, 2, 3)))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_function_and_the_largest_values_stay(data: st.DataObject) -> None:
    spec = data.draw(any_specs)
    size = data.draw(sizes(spec))
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    x = images(spec, size, 3)
    found = migrate(graph, moments(graph, x), readers(graph))
    other = images(spec, size, 2) * 3 + 1
    assert relative_error(GraphRunner(graph)(other), GraphRunner(found)(other)) < 1e-4
    before, after = peaks(graph, x), peaks(found, x)
    for m in migratables(graph):
        assert after[m.relu] <= before[m.relu] * 1.001 + 1e-6


def test_a_channel_that_outgrows_the_others_no_longer_costs_them_their_codes() -> None:
    graph = lower(trained(tiny((2, 2), 4)), (16, 16))
    name = "denseblock1.denselayer2"
    wide = []
    for node in graph.nodes:
        new = node
        if node.name == f"{name}.norm1":
            factor = np.ones_like(node.scale)
            factor[0] = 200
            new = type(node)(node.name, node.input, node.scale * factor, node.shift * factor)
        if node.name == f"{name}.conv1":
            weight = node.weight.copy()
            weight[:, 0] /= 200
            new = type(node)(node.name, node.input, weight, node.bias, node.stride, node.padding)
        wide.append(new)
    spoilt = Graph(graph.input, graph.input_shape, tuple(wide))
    x = images(tiny(), (16, 16), 8)
    exact = GraphRunner(graph)(x)
    assert relative_error(exact, GraphRunner(spoilt)(x)) < 1e-4

    def error(found: Graph) -> float:
        seen = peaks(found, x)
        scales = {n.input: float(representable(seen[n.input] / 127, "")) for n in found.weighted()}
        only = [n.name for n in found.weighted() if n.name != f"{name}.conv1"]
        placed = place_conv(found, scales, only)
        return float(np.square(GraphRunner(placed)(x) - exact).sum())

    cured = migrate(spoilt, moments(spoilt, x), [f"{name}.conv1"])
    assert error(cured) < error(spoilt) / 100


def test_only_what_is_asked_is_migrated() -> None:
    graph = lower(trained(tiny()), (16, 16))
    assert migrate(graph, moments(graph, images(tiny(), (16, 16))), ()).nodes == graph.nodes
