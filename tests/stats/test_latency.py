import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats

from edgedense.stats import (
    block_variation,
    bootstrap_ratio,
    percentile,
    percentile_interval,
    variation,
)


@pytest.mark.parametrize(("share", "least"), [(0.50, 5), (0.90, 29), (0.99, 299)])
def test_a_percentile_needs_enough_samples(share, least):
    assert percentile(np.arange(least - 1.0), share) is None
    assert percentile(np.arange(float(least)), share) is not None


def test_no_samples_no_percentile():
    assert percentile(np.zeros(0), 0.5) is None
    assert percentile_interval(np.zeros(0), 0.5) is None


@given(
    hnp.arrays(np.float64, st.integers(299, 700), elements=st.floats(0.01, 1e4)),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_percentile_is_the_nearest_rank(samples, share):
    expected = np.quantile(samples, share, method="inverted_cdf")
    assert percentile(samples, share) == expected


def test_percentile_of_ten_times_ninety_percent_is_the_ninth_of_ten():
    samples = np.repeat(np.arange(1.0, 11.0), 10)
    assert percentile(samples, 0.9) == 9.0


@pytest.mark.parametrize(("n", "share"), [(10, 0.5), (100, 0.9), (700, 0.99), (29, 0.5)])
def test_percentile_interval_has_its_level_and_is_tight(n, share):
    low, high = percentile_interval(np.arange(1.0, n + 1), share)
    below = scipy_stats.binom(n, share).cdf

    def tails(low: float, high: float) -> tuple[float, float]:
        return below(low - 1), 1 - below(high - 1)

    assert max(tails(low, high)) <= 0.025 + 1e-12
    assert tails(low + 1, high)[0] > 0.025
    assert tails(low, high - 1)[1] > 0.025


def test_percentile_interval_of_a_published_table():
    # median of 10: 2nd and 9th, exact level 97.85 % (David and Nagaraja, section 7.1)
    assert percentile_interval(np.arange(1.0, 11.0), 0.5) == (2.0, 9.0)


@pytest.mark.parametrize(("n", "share"), [(5, 0.5), (35, 0.9), (367, 0.99)])
def test_percentile_interval_needs_enough_samples(n, share):
    assert percentile_interval(np.arange(float(n)), share) is None


def test_percentile_interval_is_there_from_368_for_p99():
    assert percentile_interval(np.arange(368.0), 0.99) is not None


def test_variation():
    assert variation(np.array([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])) == pytest.approx(
        np.sqrt(32 / 7) / 5
    )
    assert variation(np.array([3.0])) == 0.0


def test_block_variation_sees_drift_and_not_single_outliers():
    quiet = np.full(200, 10.0)
    spiky = quiet.copy()
    spiky[::10] = 50.0
    drifting = np.linspace(10.0, 12.0, 200)
    assert block_variation(quiet) == 0.0
    assert block_variation(spiky) == 0.0
    assert variation(spiky) > 0.5
    assert block_variation(drifting) > 0.05


@pytest.mark.parametrize("n", [1, 2, 3, 10])
def test_block_variation_of_few_samples(n):
    assert block_variation(np.full(n, 7.0)) == 0.0


def rounds_of(rng: np.random.Generator, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    drift = 1 + 0.2 * np.linspace(0, 1, 40)[:, None]
    noise = rng.lognormal(0, 0.05, size=(2, 40, 10))
    return ratio * drift * noise[0], drift * noise[1]


def test_bootstrap_ratio_finds_the_ratio_and_is_repeatable():
    slow, fast = rounds_of(np.random.default_rng(0), 2.0)
    found = bootstrap_ratio(slow, fast, seed=5)
    assert found == bootstrap_ratio(slow, fast, seed=5)
    assert found != bootstrap_ratio(slow, fast, seed=6)
    assert found.low < 2.0 < found.high
    assert found.high - found.low < 0.1


def test_bootstrap_ratio_is_the_ratio_of_the_medians():
    slow, fast = rounds_of(np.random.default_rng(0), 3.0)
    expected = percentile(slow.reshape(-1), 0.5) / percentile(fast.reshape(-1), 0.5)
    assert bootstrap_ratio(slow, fast).value == expected


def test_bootstrap_ratio_covers():
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        slow = 2 * rng.lognormal(0, 0.05, (40, 10))
        found = bootstrap_ratio(slow, rng.lognormal(0, 0.05, (40, 10)), resamples=400)
        hits += found.low <= 2 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_bootstrap_ratio_of_constant_times_has_no_width():
    found = bootstrap_ratio(np.full((20, 5), 6.0), np.full((20, 5), 3.0))
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)
