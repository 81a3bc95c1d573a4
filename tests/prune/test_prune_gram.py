import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedense.errors import InputError
from edgedense.prune.gram import (
    RIDGE,
    Gram,
    area_of,
    columns,
    set_weights,
    solve,
    weights_of,
)

LAYERS = {
    "1x1": lambda: nn.Conv2d(5, 3, 1, bias=False),
    "3x3": lambda: nn.Conv2d(5, 3, 3, padding=1),
    "up": lambda: nn.ConvTranspose2d(5, 3, 3, stride=2),
}


def rows(y: Tensor) -> Tensor:
    return y.flatten(2).transpose(1, 2).flatten(0, 1)


def gram_of(u: np.ndarray, y: np.ndarray) -> Gram:
    gram = Gram.empty(u.shape[1], y.shape[1])
    gram.add(torch.from_numpy(u), torch.from_numpy(y))
    return gram.mean()


def data(n: int = 60, d: int = 7, outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=(n, d)), random.normal(size=(n, outputs))


@torch.no_grad()
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_its_columns_times_its_weights(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = LAYERS[kind](), torch.randn(2, 5, 4, 6)
    y = layer(x)
    positions = torch.stack([torch.randperm(y[0, 0].numel())[:11] for _ in x])
    u = columns(x, layer, positions).double()
    assert u.shape == (22, 5 * area_of(layer))
    found = u @ weights_of(layer)[:-1] + weights_of(layer)[-1]
    wanted = y.flatten(2).gather(2, positions[:, None].expand(-1, 3, -1))
    np.testing.assert_allclose(found, wanted.transpose(1, 2).flatten(0, 1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_are_set_as_they_are_read(kind: str) -> None:
    source, target = LAYERS[kind](), LAYERS[kind]()
    set_weights(target, weights_of(source))
    assert torch.equal(target.weight, source.weight)


@given(st.sets(st.integers(0, 6), min_size=1))
def test_the_solution_is_that_of_numpys_lstsq(kept: set[int]) -> None:
    u, y = data()
    index = sorted(kept)
    prior = torch.ones(8, 3, dtype=torch.float64)
    found = solve(gram_of(u, y), torch.tensor(index), prior).numpy()
    # ridge regression as plain least squares: one more row a column, which asks for the prior
    strength = np.sqrt(RIDGE * (u**2).mean() * len(u))
    ones = np.ones((len(u), 1))
    tall = np.vstack(
        [np.hstack([u[:, index], ones]), strength * np.eye(len(index), len(index) + 1)]
    )
    wide = np.vstack([y, strength * np.ones((len(index), 3))])
    wanted = np.linalg.lstsq(tall, wide, rcond=None)[0]
    np.testing.assert_allclose(found[[*index, 7]], wanted, rtol=1e-6, atol=1e-7)
    assert not found[sorted(set(range(7)) - kept)].any()


def test_batches_add_up() -> None:
    u, y = data()
    parts = Gram.empty(7, 3)
    for some in np.array_split(np.arange(60), 4):
        parts.add(torch.from_numpy(u[some]), torch.from_numpy(y[some]))
    torch.testing.assert_close(parts.mean().inputs, gram_of(u, y).inputs)
    torch.testing.assert_close(parts.mean().cross, gram_of(u, y).cross)


def test_dead_and_dependent_columns_are_safe_and_cost_nothing() -> None:
    u, _ = data()
    u = np.hstack([u, u[:, :2] @ [[1.0], [-2.0]], np.zeros((60, 1)), u[:, 3:4]])
    weights = np.random.default_rng(1).normal(size=(11, 3))
    y = u @ weights[:-1] + weights[-1]
    found = solve(gram_of(u, y), torch.tensor([0, 1, 2, 3, 4, 5, 6]), torch.from_numpy(weights))
    np.testing.assert_allclose(u @ found.numpy()[:-1] + found.numpy()[-1], y, atol=1e-2)
    everything = solve(gram_of(u, y), torch.arange(10), torch.from_numpy(weights))
    np.testing.assert_allclose(everything, weights, atol=1e-6)


def test_what_the_rows_do_not_tell_stays_as_it_was() -> None:
    prior = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    silent = gram_of(np.zeros((9, 4)), np.full((9, 2), 3.0))
    found = solve(silent, torch.arange(4), prior)
    torch.testing.assert_close(found[:-1], prior[:-1])
    torch.testing.assert_close(found[-1], torch.full((2,), 3.0).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    u, y = data()
    u[3, 2] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        gram_of(u, y)
