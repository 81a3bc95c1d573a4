import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats

from edgedense.stats import (
    block_length,
    block_variation,
    bootstrap_ratio,
    early_stopping_discards,
    early_stopping_percentile,
    least_samples,
    percentile,
    percentile_interval,
    ratio_of_repeats,
    student_quantile,
    variation,
)


@pytest.mark.parametrize(("share", "least"), [(0.50, 11), (0.90, 64), (0.99, 662)])
def test_a_percentile_needs_enough_samples(share, least):
    assert least_samples(share) == least  # MLPerf's numbers for p90 and p99
    assert percentile(np.arange(least - 1.0), share) is None
    assert percentile(np.arange(float(least)), share) is not None
    assert early_stopping_percentile(np.arange(least - 1.0), share) is None
    assert early_stopping_discards(least - 1, share) is None
    assert early_stopping_percentile(np.arange(float(least)), share) == least - 1


# LoadGen's published logs: "Processed at least 64 queries (2048). Would discard 172 highest …"
@pytest.mark.parametrize(
    ("n", "discards"), [(64, 0), (2048, 172), (2116, 178), (2145, 181), (7469, 685)]
)
def test_early_stopping_discards_what_loadgen_discards(n, discards):
    assert early_stopping_discards(n, 0.90) == discards
    samples = np.random.default_rng(n).permutation(n).astype(np.float64)
    assert early_stopping_percentile(samples, 0.90) == n - 1 - discards


@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.99]))
def test_early_stopping_by_the_exact_binomial(n, share):
    discards = early_stopping_discards(n, share)
    over = scipy_stats.binom(n, 1 - share).cdf  # P(so many or fewer are over the quantile)
    if discards is None:
        assert over(1) > 0.01
    else:
        assert over(discards + 1) <= 0.01 < over(discards + 2)


def test_early_stopping_is_an_upper_bound_of_99_percent():
    rng = np.random.default_rng(0)
    true = scipy_stats.lognorm(0.3).ppf(0.9)
    drawn = rng.lognormal(0, 0.3, (3000, 200))
    above = np.mean([early_stopping_percentile(row, 0.9) >= true for row in drawn])
    assert 0.985 <= above <= 0.999


def test_no_samples_no_percentile():
    assert percentile(np.zeros(0), 0.5) is None
    assert percentile_interval(np.zeros(0), 0.5) is None


@given(
    hnp.arrays(np.float64, st.integers(662, 900), elements=st.floats(0.01, 1e4)),
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


def disturbed(rng: np.random.Generator, rounds: int, correlation: float) -> np.ndarray:
    """Times (rounds, 3) whose rounds are an AR(1) series, as under another program's load."""
    steps = rng.normal(0, 0.03 * np.sqrt(1 - correlation**2), rounds)
    level = np.empty(rounds)
    level[0] = rng.normal(0, 0.03)
    for k in range(1, rounds):
        level[k] = correlation * level[k - 1] + steps[k]
    return np.exp(level[:, None] + rng.normal(0, 0.01, (rounds, 3)))


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.89), (0.5, 0.87), (0.8, 0.78)])
def test_bootstrap_ratio_covers_under_disturbances_longer_than_a_round(correlation, least):
    # resampling single rounds covers 0.93, 0.81 and 0.57 of them
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(150):
        slow, fast = 2 * disturbed(rng, 120, correlation), disturbed(rng, 120, correlation)
        found = bootstrap_ratio(slow, fast, resamples=200)
        hits += found.low <= 2 <= found.high
    assert least <= hits / 150 <= 0.995


def test_blocks_are_as_long_as_the_disturbances():
    rng = np.random.default_rng(1)
    lengths = [
        np.mean([block_length(np.log(disturbed(rng, 200, rho)[:, 0])) for _ in range(30)])
        for rho in (0.0, 0.5, 0.9)
    ]
    assert lengths[0] < 3 < lengths[1] < 9 < lengths[2] <= 50
    assert block_length(np.full(20, 7.0)) == 1
    assert block_length(np.arange(3.0)) == 1
    assert block_length(np.arange(20.0)) <= 5


@pytest.mark.parametrize("repeats", [2, 3, 5, 6])
def test_ratio_of_repeats_covers(repeats):
    rng = np.random.default_rng(repeats)
    hits = 0
    for _ in range(400):
        # every process has its luck, and its calls are correlated
        sides = [
            [
                np.exp(rng.normal(0, 0.02)) * disturbed(rng, 40, 0.6).reshape(-1)
                for _ in range(repeats)
            ]
            for _ in range(2)
        ]
        found = ratio_of_repeats([3 * samples for samples in sides[0]], sides[1])
        hits += found.low <= 3 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_ratio_of_repeats_by_hand():
    slow = [np.full(11, ms) for ms in (4.0, 6.0, 9.0)]
    fast = [np.full(n, 2.0) for n in (11, 20, 30)]  # repeats need not be of the same length
    found = ratio_of_repeats(slow, fast)
    logs = np.log([2.0, 3.0, 4.5])
    assert found.value == pytest.approx(3.0)
    half = 4.302652729911275 * logs.std(ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((3 * np.exp(-half), 3 * np.exp(half)))
    with pytest.raises(ValueError, match="1 repeat"):
        ratio_of_repeats(slow[:1], fast[:1])


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 5, 11, 30, 199])
@pytest.mark.parametrize("share", [0.6, 0.95, 0.975, 0.9995])
def test_student_quantile(dof, share):
    assert student_quantile(share, dof) == pytest.approx(scipy_stats.t.ppf(share, dof), rel=1e-9)
