import itertools

import numpy as np
import pytest
import torch

from edgedense.prune.eliminate import Concat, Reader, eliminate, eliminate_shared
from edgedense.prune.gram import RIDGE, Gram


def problem(u: np.ndarray, outputs: int = 2, seed: int = 1) -> tuple[Gram, np.ndarray]:
    """Gram matrix and wanted outputs, which some weights give exactly."""
    weights = np.random.default_rng(seed).normal(size=(u.shape[1] + 1, outputs))
    y = u @ weights[:-1] + weights[-1]
    gram = Gram.empty(u.shape[1], outputs)
    gram.add(torch.from_numpy(u), torch.from_numpy(y))
    return gram.mean(), y


def features(width: int, area: int = 1, n: int = 400) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(size=(n, width * area)) @ random.normal(size=(width * area,) * 2)


def residual(u: np.ndarray, y: np.ndarray, kept: list[int]) -> float:
    """Mean square error, by numpy, of the best weights on ``kept`` with a bias."""
    columns = np.hstack([u[:, kept], np.ones((len(u), 1))])
    best = np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(((y - columns @ best) ** 2).sum() / len(u))


@pytest.mark.parametrize("area", [1, 4])
def test_costs_are_what_least_squares_loses_without_the_channel(area: int) -> None:
    u = features(5, area)
    gram, y = problem(u)
    columns = np.arange(5 * area).reshape(5, area)
    wanted = [residual(u, y, np.delete(columns, i, 0).ravel().tolist()) for i in range(5)]
    reader = Reader(gram, area)
    np.testing.assert_allclose(reader.costs(), wanted, rtol=0.05)
    reader.take([1])
    wanted = [residual(u, y, np.delete(columns, (1, i), 0).ravel().tolist()) for i in (0, 2, 3, 4)]
    gone = residual(u, y, np.delete(columns, 1, 0).ravel().tolist())
    assert reader.channels.tolist() == [0, 2, 3, 4]
    np.testing.assert_allclose(reader.costs() + gone, wanted, rtol=0.05)


def test_taking_several_at_once_is_taking_them_one_by_one() -> None:
    gram, _ = problem(features(6, 4))
    together, apart = Reader(gram, 4), Reader(gram, 4)
    together.take([1, 4])
    apart.take([4])
    apart.take([1])
    torch.testing.assert_close(together.costs(), apart.costs())
    assert together.channels.tolist() == apart.channels.tolist() == [0, 2, 3, 5]


def test_losses_add_up_to_the_error_of_what_is_left() -> None:
    u = features(6)
    gram, y = problem(u)
    ranking = eliminate(gram, 1)
    assert sorted(ranking.order) == list(range(6))
    for width in range(1, 6):
        kept = ranking.kept(width).tolist()
        assert ranking.losses[: 6 - width].sum() == pytest.approx(residual(u, y, kept), rel=0.02)


def test_dead_copied_and_mixed_channels_go_first_and_cost_nothing() -> None:
    u = features(4)
    u = np.hstack([u, np.zeros((len(u), 1)), u[:, 1:2], u[:, 2:4] @ [[3.0], [-1.0]]])
    gram, y = problem(u)
    ranking = eliminate(gram, 1)
    least = (y**2).mean()
    assert 4 in ranking.order[:3]
    assert ranking.losses[:3].sum() < 1e-2 * least
    assert residual(u, y, ranking.kept(4).tolist()) < 1e-6 * least
    assert ranking.losses[3] > RIDGE * least


def test_one_reader_shares_with_nobody() -> None:
    gram, _ = problem(features(7))
    alone = eliminate(gram, 1)
    concat = Concat(Reader(gram, 1), (("a", 7),))
    shared = eliminate_shared([concat], {"a": 3.0})["a"]
    assert shared.order.tolist() == alone.order.tolist()
    np.testing.assert_allclose(shared.losses[:-1], alone.losses[:-1])


def test_a_channel_costs_what_all_its_readers_lose() -> None:
    u = features(6)
    gram, _ = problem(u)
    other_gram, _ = problem(u[:, :4], seed=2)
    costs = Reader(gram, 1).costs()
    costs[:4] += Reader(other_gram, 1).costs()
    concats = [
        Concat(Reader(gram, 1), (("a", 4), ("b", 2))),
        Concat(Reader(other_gram, 1), (("a", 4),)),
    ]
    found = eliminate_shared(concats, {"a": 1.0})
    assert list(found) == ["a"]
    assert found["a"].order[0] == int(costs[:4].argmin())
    assert found["a"].losses[0] == pytest.approx(float(costs[:4].min()))
    assert found["a"].losses[-1] == np.inf


def test_what_saves_more_goes_first_and_every_group_keeps_one() -> None:
    gram, _ = problem(features(5))
    parts = (("a", 2), ("b", 3))
    for savings in itertools.permutations((1.0, 1e9)):
        concat = Concat(Reader(gram, 1), parts)
        found = eliminate_shared([concat], dict(zip("ab", savings, strict=True)))
        assert [len(found[name].order) for name in "ab"] == [2, 3]
        assert [np.isinf(found[name].losses).sum() for name in "ab"] == [1, 1]
