"""Weights rounded for what a layer's outputs become."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import images, tiny, trained

from edgedense.data import Batch
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Conv, Linear
from edgedense.graph.run import GraphRunner
from edgedense.graph.weights import quantized_weight
from edgedense.quantize.place import weight_scales
from edgedense.quantize.rounding import Inputs, gptq, groups, observe_inputs, rounded


def correlated(width: int, seed: int, rows: int = 400) -> torch.Tensor:
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(width, width))
    return torch.from_numpy(random.normal(size=(rows, width)) @ mixing + random.normal(size=width))


def of(rows: torch.Tensor) -> Inputs:
    return Inputs(torch.cov(rows.T, correction=0), rows.mean(0))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 90), st.integers(1, 6), st.integers(0, 99))
def test_outputs_are_nearer_than_with_the_nearest_weights(width: int, out: int, seed: int) -> None:
    rows = correlated(width, seed)
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(out, width)))
    scale = weight.abs().amax(1) / 7  # few codes: rounding matters
    inputs = of(rows)
    found = gptq(weight, scale, inputs.covariance)
    codes = found / scale[:, None]
    np.testing.assert_allclose(codes, codes.round(), atol=1e-9)
    assert codes.abs().max() <= 127
    nearest = torch.round(weight / scale[:, None]) * scale[:, None]

    def error(candidate: torch.Tensor) -> float:
        lost = weight - candidate
        return float(((lost @ inputs.covariance) * lost).sum())

    assert error(found) <= error(nearest) * (1 + 1e-9)
    if width >= 32 and out >= 4:
        assert error(found) < 0.8 * error(nearest)


def test_independent_inputs_take_the_nearest() -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 20)))
    scale = weight.abs().amax(1) / 127
    found = gptq(weight, scale, torch.eye(20, dtype=torch.float64))
    np.testing.assert_allclose(found, torch.round(weight / scale[:, None]) * scale[:, None])


@pytest.mark.parametrize("size", [1, 1e-30, 1e30])  # float32 holds no squares of the last two
@pytest.mark.parametrize("width", [6, 900])
@pytest.mark.parametrize("same", [0, 1])
def test_dead_and_equal_inputs_are_safe(width: int, same: float, size: float) -> None:
    covariance = torch.full((width, width), same * size**2, dtype=torch.float64)
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(3, width)))
    found = gptq(weight, weight.abs().amax(1) / 127, covariance)
    assert torch.isfinite(found).all()


def test_the_mean_of_each_output_stays_also_for_moved_inputs() -> None:
    rows = correlated(12, 0)
    weight = np.random.default_rng(1).normal(size=(5, 12)).astype(np.float32)
    node = Linear("logits", "x", weight, np.zeros(5, np.float32))
    scale = (np.abs(weight).max(axis=1) / 7).astype(np.float32)
    for down in (0.0, 3.0):
        found = rounded(node, scale, of(rows), down)
        x = (rows - down).numpy()
        means = (x @ weight.T.astype(np.float64)).mean(0)
        np.testing.assert_allclose((x @ found.weight.T + found.bias).mean(0), means, atol=1e-4)
        np.testing.assert_array_equal(quantized_weight(found) * scale[:, None], found.weight)


def test_inputs_are_what_the_convolution_multiplies_with() -> None:
    """With every position of every image: the covariance predicts the outputs' variance."""
    spec = tiny((2, 2), 4)
    graph = lower(trained(spec), (16, 16))
    x = images(spec, (16, 16), 4)
    layers = [n for n in graph.weighted() if isinstance(n, Conv)]
    seen: dict[str, torch.Tensor] = {}
    GraphRunner(graph)(x.copy(), lambda n, v: seen.update({n: v.double().clone()}))
    found = observe_inputs(graph, [n.name for n in layers], 4, [_batch(x)], 0)
    for node in layers:
        weight = torch.from_numpy(node.weight).double().flatten(1)
        inputs = found[node.name].inputs()
        outputs = seen[node.name].transpose(0, 1).flatten(1)
        mean = weight @ inputs.mean + torch.from_numpy(node.bias).double()
        variance = ((weight @ inputs.covariance) * weight).sum(1)
        np.testing.assert_allclose(mean, outputs.mean(1), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(variance, outputs.var(1, correction=0), rtol=1e-3, atol=1e-4)


def _batch(x: np.ndarray) -> Batch:
    class Only:
        images = x

    return Only()  # type: ignore[return-value]


def test_layers_are_taken_together_as_memory_allows() -> None:
    graph = lower(trained(tiny((2, 2), 4)), (16, 16))
    layers = list(graph.weighted())
    assert list(groups(layers, 1 << 40)) == [[n.name for n in layers]]
    assert list(groups(layers, 1)) == [[n.name] for n in layers]
    some = list(groups(layers, 200_000))
    assert [name for lot in some for name in lot] == [n.name for n in layers]
    for lot in some:
        sizes = [4 * n.weight[0].size ** 2 for n in layers if n.name in lot]
        assert len(lot) == 1 or sum(sizes) <= 200_000


def test_scales_fit_the_weights() -> None:
    graph = lower(trained(tiny()), (16, 16))
    node = next(n for n in graph.weighted() if isinstance(n, Conv))
    width = node.weight[0].size
    inputs = Inputs(torch.eye(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64))
    found = rounded(node, weight_scales(node), inputs)
    assert np.abs(quantized_weight(found)).max() == 127
