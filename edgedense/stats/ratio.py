"""The ratio of two values that were estimated apart from each other."""

from __future__ import annotations

import math

from edgedense.stats.paired import Estimate


def ratio_of(numerator: Estimate, denominator: Estimate) -> Estimate:
    """Ratio of two independent positive estimates, from their intervals of the same level.

    Square-and-add on the logarithms, which needs no more than the two intervals and lets them be
    lopsided. Source: method of variance estimates recovery, Zou and Donner, Statistics in Medicine
    27 (2008) 1693-1702. Errors: ValueError where an end is not positive.
    """
    ends = (*numerator.interval, *denominator.interval, numerator.value, denominator.value)
    if not all(0 < end < math.inf for end in ends):
        raise ValueError(f"no ratio of {numerator} and {denominator}")
    value = math.log(numerator.value / denominator.value)
    down = math.hypot(_below(numerator), _above(denominator))
    up = math.hypot(_above(numerator), _below(denominator))
    return Estimate(math.exp(value), math.exp(value - down), math.exp(value + up))


def _below(estimate: Estimate) -> float:
    return math.log(estimate.value / estimate.low)


def _above(estimate: Estimate) -> float:
    return math.log(estimate.high / estimate.value)
