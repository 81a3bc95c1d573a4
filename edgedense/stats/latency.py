"""Latency samples: percentiles that admit when there are too few, spread, and ratios."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgedense.stats.paired import Estimate

Doubles = NDArray[np.float64]

STABILITY_BLOCKS = 10


def percentile(samples: Doubles, share: float) -> float | None:
    """The ``share`` quantile (0 < share < 1) of samples (n,), as the nearest-rank order statistic.

    None where ``share``^n > 0.05: then not even the largest sample is a 95 % upper bound on the
    quantile, and a number would promise what was not measured. The least n is 5 for the median,
    29 for p90 and 299 for p99.
    """
    n = len(samples)
    if n == 0 or share**n > 0.05:
        return None
    return float(np.sort(samples)[_nearest_rank(n, share)])


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
    """Ratio of two medians with a percentile interval from resampled rounds.

    Both arrays are (rounds, samples a round); row r of both was measured side by side, so rounds
    are drawn as pairs, which keeps slow drift out of the ratio. Medians are nearest-rank, as in
    :func:`percentile`. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993),
    sections 8.6 and 13.3.
    """
    rounds = len(numerator)
    draws = np.random.default_rng(seed).integers(0, rounds, size=(resamples, rounds))
    ratios = np.array([_median(numerator[d]) / _median(denominator[d]) for d in draws])
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(_median(numerator) / _median(denominator), float(low), float(high))


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
