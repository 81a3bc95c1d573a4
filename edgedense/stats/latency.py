"""Latency samples: percentiles that admit when there are too few, spread, and ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import count
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgedense.stats.paired import Estimate

Doubles = NDArray[np.float64]

STABILITY_BLOCKS = 10
EARLY_STOPPING_CONFIDENCE = 0.99
_STEEPEST = 0.97  # a higher estimate of the correlation would ask for blocks as long as the data


def percentile(samples: Doubles, share: float) -> float | None:
    """The ``share`` quantile (0 < share < 1) of samples (n,), as the nearest-rank order statistic.

    None below :func:`least_samples`: a number would promise what was not measured.
    """
    n = len(samples)
    if n < least_samples(share):
        return None
    return float(np.sort(samples)[_nearest_rank(n, share)])


@cache
def least_samples(share: float) -> int:
    """Fewest samples for a ``share`` quantile: 11 for the median, 64 for p90, 662 for p99.

    The least n with P(Binomial(n, 1 - share) <= 1) <= 0.01, from which on the largest sample is a
    99 % upper bound, with one more above it to spare. Source: MLPerf inference policies, appendix
    "Early Stopping Criterion" (one query over the latency, tolerance 0, confidence 0.99).
    """
    return next(
        n
        for n in count(1)
        if share**n + n * (1 - share) * share ** (n - 1) <= 1 - EARLY_STOPPING_CONFIDENCE
    )


def early_stopping_discards(n: int, share: float) -> int | None:
    """How many of the slowest of n samples MLPerf leaves out of its estimate; None: n is too small.

    One less than the largest t with P(Binomial(n, 1 - share) <= t) <= 0.01. Source: MLPerf
    inference policies, appendix "Early Stopping Criterion"; LoadGen's summary prints it as
    "Would discard".
    """
    if n < least_samples(share):
        return None
    cdf = _binomial_cdf(n, 1 - share)
    return int(np.searchsorted(cdf, 1 - EARLY_STOPPING_CONFIDENCE, side="right")) - 2


def early_stopping_percentile(samples: Doubles, share: float) -> float | None:
    """MLPerf's early-stopping estimate of the ``share`` quantile: a 99 % upper bound on it.

    The slowest sample but :func:`early_stopping_discards`; None below :func:`least_samples`. It is
    a statistic of MLPerf's, and no MLPerf result.
    """
    discards = early_stopping_discards(len(samples), share)
    return None if discards is None else float(np.sort(samples)[-1 - discards])


def percentile_interval(
    samples: Doubles, share: float, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of the ``share`` quantile from two order statistics, for any distribution.

    Ranks l < u with P(l <= Binomial(n, share) < u) >= level, equal tails; None where n is too
    small for both ends. It supposes independent samples: drift (see :func:`block_variation`) makes
    it too narrow. Source: David and Nagaraja, Order Statistics (3rd ed., 2003), section 7.1.
    """
    n = len(samples)
    if n == 0:
        return None
    cdf = _binomial_cdf(n, share)
    tail = (1 - level) / 2
    # X(l) <= quantile unless Binomial < l, and quantile <= X(u) unless Binomial >= u
    low = int(np.searchsorted(cdf, tail, side="right"))
    high = int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    if low < 1 or high > n:
        return None
    ordered = np.sort(samples)
    return float(ordered[low - 1]), float(ordered[high - 1])


def variation(samples: Doubles) -> float:
    """Coefficient of variation: standard deviation (n - 1) over mean; 0 for one sample."""
    if len(samples) < 2:
        return 0.0
    return float(np.std(samples, ddof=1) / np.mean(samples))


def block_variation(samples: Doubles, blocks: int = STABILITY_BLOCKS) -> float:
    """Coefficient of variation of the medians of consecutive blocks of samples (in time order).

    Single outliers do not move it; heat, changing clocks and other load do.
    """
    count = max(1, min(blocks, len(samples) // 2))
    return variation(np.array([np.median(block) for block in np.array_split(samples, count)]))


def bootstrap_ratio(
    numerator: Doubles,
    denominator: Doubles,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Ratio of two medians with an interval from resampled blocks of rounds.

    Both arrays are (rounds, samples a round); row r of both was measured side by side, so rounds
    are drawn as pairs, which keeps slow drift out of the ratio. A disturbance that lasts longer
    than a round makes neighbours alike: rounds are drawn as circular blocks, of the length that
    :func:`block_length` finds. The quantiles are those of Student's t for as many values as there
    are blocks. Medians are nearest-rank, as in :func:`percentile`. Sources: Politis and Romano, A
    Circular Block-Resampling Procedure for Stationary Data (1992); Hesterberg, What Teachers Should
    Know About the Bootstrap (2015): the expanded percentile interval.
    """
    rounds = len(numerator)
    length = block_length(np.log(np.median(numerator, axis=1) / np.median(denominator, axis=1)))
    starts = np.random.default_rng(seed).integers(0, rounds, (resamples, -(-rounds // length)))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(resamples, -1)[:, :rounds] % rounds
    ratios = np.array([_median(numerator[d]) / _median(denominator[d]) for d in drawn])
    tail = _expanded_tail((1 - level) / 2, max(2, rounds // length))
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Estimate(_median(numerator) / _median(denominator), float(low), float(high))


def block_length(series: Doubles) -> int:
    """Rounds in a block that is about independent of the others, for a series (rounds,).

    The length with the least squared error for an autoregression of first order, whose correlation
    is that of neighbours; at most a quarter of the series. Source: Carlstein, The Use of Subseries
    Values for Estimating the Variance (1986).
    """
    n = len(series)
    off = series - series.mean()
    power = float(off @ off)
    if power == 0 or n < 4:
        return 1
    # 1/n: the estimate from n values is too low by about that
    rho = min(max(float(off[1:] @ off[:-1]) / power + 1 / n, 0.0), _STEEPEST)
    best: float = (math.sqrt(6) * rho / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)
    return max(1, min(math.ceil(best), n // 4))


def ratio_of_repeats(
    numerators: Sequence[Doubles], denominators: Sequence[Doubles], *, level: float = 0.95
) -> Estimate:
    """Ratio of two latencies, measured in so many repeats that are independent of each other.

    Each repeat gives the ratio of its two medians; the value is their geometric mean, its interval
    that of Student's t on their logarithms. What happens inside a repeat, correlated or not, is in
    its median; a repeat as a whole is the block. (A percentile bootstrap over 5 repeats covers
    92 % instead of 95.) Sources: Georges, Buytaert and Eeckhout, Statistically Rigorous Java
    Performance Evaluation (2007); Kalibera and Jones, Rigorous Benchmarking in Reasonable Time
    (2013). Errors: ValueError for fewer than two repeats.
    """
    pairs = zip(numerators, denominators, strict=True)
    logs = np.log([_median(top) / _median(bottom) for top, bottom in pairs])
    n = len(logs)
    if n < 2:
        raise ValueError(f"{n} repeat has no spread")
    half = student_quantile((1 + level) / 2, n - 1) * float(logs.std(ddof=1)) / math.sqrt(n)
    value = float(logs.mean())
    return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half))


@cache
def student_quantile(share: float, dof: int) -> float:
    """The ``share`` quantile (0.5 < share < 1) of Student's t with ``dof`` degrees of freedom."""
    low, high = 0.0, 1.0
    while _student_cdf(high, dof) < share:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_cdf(middle, dof) < share else (low, middle)
    return (low + high) / 2


def _student_cdf(t: float, dof: int) -> float:
    """P(T <= t) for t >= 0; the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(dof))
    cos, sin = math.cos(angle), math.sin(angle)
    term = total = 1.0 if dof % 2 == 0 else cos
    for k in range(2 if dof % 2 == 0 else 3, dof, 2):
        term *= cos * cos * (k - 1) / k
        total += term
    if dof % 2 == 0:
        inside = sin * total
    else:
        inside = 2 / math.pi * (angle + (sin * total if dof > 1 else 0.0))
    return (1 + inside) / 2


def _expanded_tail(tail: float, blocks: int) -> float:
    """The tail to cut off the bootstrap's ratios, where normal quantiles are too short for few."""
    wide = student_quantile(1 - tail, blocks - 1) * math.sqrt(blocks / (blocks - 1))
    return NormalDist().cdf(-wide)


def _median(samples: Doubles) -> float:
    flat = samples.reshape(-1)
    rank = _nearest_rank(len(flat), 0.5)
    return float(np.partition(flat, rank)[rank])


def _nearest_rank(n: int, share: float) -> int:
    # 0.9 * 10 is 9.000000000000002 in floats and would round up to rank 10
    return max(0, math.ceil(share * n - 1e-9) - 1)


def _binomial_cdf(n: int, share: float) -> Doubles:
    """P(Binomial(n, share) <= k) for k = 0 … n."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_pmf = log_factorial[n] - log_factorial - log_factorial[::-1]
    log_pmf += k * math.log(share) + (n - k) * math.log1p(-share)
    cdf: Doubles = np.minimum(np.cumsum(np.exp(log_pmf)), 1.0)
    return cdf
