import numpy as np
import pytest

from edgedense.stats import Estimate, ratio_of


def test_it_covers_the_ratio_of_two_lognormal_means():
    random = np.random.default_rng(0)
    logs = random.normal(np.log([1.1, 1.0])[:, None, None], 0.2, (2, 4000, 100))
    means, half = np.exp(logs.mean(axis=2)), 1.96 * logs.std(axis=2) / 10
    held = []
    for (top, low), (s, t) in zip(means.T, half.T, strict=True):
        ends = [Estimate(m, m * np.exp(-h), m * np.exp(h)) for m, h in ((top, s), (low, t))]
        found = ratio_of(*ends)
        assert found.value == pytest.approx(top / low)
        held.append(found.low <= 1.1 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_lopsided_intervals_stay_so():
    found = ratio_of(Estimate(2.0, 1.9, 2.6), Estimate(1.0, 1.0, 1.0))
    assert found.interval == pytest.approx((1.9, 2.6))
    turned = ratio_of(Estimate(1.0, 1.0, 1.0), Estimate(2.0, 1.9, 2.6))
    assert turned.interval == pytest.approx((1 / 2.6, 1 / 1.9))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_not_positive_has_no_ratio(bad):
    with pytest.raises(ValueError, match="no ratio"):
        ratio_of(Estimate(1.0, bad, 2.0), Estimate(1.0, 1.0, 1.0))
