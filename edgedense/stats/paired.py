"""Two classifiers on the same images: how much worse is the second, and how sure is that.

A drop is judged by Tango's interval; Newcombe's and McNemar's tests stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A value with the two ends of its interval, all in the same unit."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit, ``factor`` > 0 to one."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        return (self.low, self.high)


@dataclass(frozen=True)
class PairedCounts:
    """How two classifiers split ``n`` images.

    ``lost``: only the first was right (n10). ``gained``: only the second was right (n01).
    ``both`` were right (n11): Newcombe's interval needs it, nothing else; None where not known.
    """

    n: int
    lost: int
    gained: int
    both: int | None = None

    @classmethod
    def of(cls, first: Bools, second: Bools) -> PairedCounts:
        """From "was right" of each image, two arrays (n,) in the same order."""
        return cls(
            n=len(first),
            lost=int(np.count_nonzero(first & ~second)),
            gained=int(np.count_nonzero(~first & second)),
            both=int(np.count_nonzero(first & second)),
        )

    @property
    def drop(self) -> float:
        """Share of right answers that the second loses: (n10 - n01) / n; negative is a gain."""
        return (self.lost - self.gained) / self.n

    @property
    def discordant(self) -> float:
        """Share of images on which exactly one of the two is right."""
        return (self.lost + self.gained) / self.n


def paired_difference(counts: PairedCounts, level: float = 0.95) -> Estimate:
    """Drop from the first to the second classifier, with Tango's score interval (shares, not %).

    The ends solve (b - c - n*l) / sqrt(n * (2*q + l*(1 - l))) = +-z for l, where q is the
    maximum-likelihood estimate of P(only the second is right) under a drop of l, in closed form.
    It holds its level for few images and for no discordant pair at all, where Wald's does not.
    Source: Tango, Statistics in Medicine 17 (1998) 891-908, section 4.
    """
    if counts.n < 1 or min(counts.lost, counts.gained) < 0:
        raise ValueError(f"not a paired table: {counts}")
    z = _z(level)
    low = _root(lambda drop: _tango_score(counts, drop) - z, -1.0, counts.drop)
    high = _root(lambda drop: _tango_score(counts, drop) + z, counts.drop, 1.0)
    return Estimate(counts.drop, low, high)


def newcombe_difference(counts: PairedCounts, level: float = 0.95) -> Estimate:
    """The same drop with Newcombe's interval: Wilson's of both shares, squared and added.

    d - sqrt(dl1^2 - 2*phi*dl1*du2 + du2^2) and d + sqrt(du1^2 - 2*phi*du1*dl2 + dl2^2), where dl
    and du reach from each share down and up to the ends of its Wilson interval. phi is the
    correlation of the table, its numerator brought nearer to zero by n/2 where it is positive, and
    zero where a margin is. It is another road to the same end: a check of Tango's.
    Source: method 10 of Newcombe, Statistics in Medicine 17 (1998) 2635-2650.
    Errors: ValueError where ``counts.both`` is not known or does not fit.
    """
    n, lost, gained, both = counts.n, counts.lost, counts.gained, counts.both
    if both is None or min(both, lost, gained) < 0 or both + lost + gained > n:
        raise ValueError(f"not a whole paired table: {counts}")
    first, second = wilson(both + lost, n, level), wilson(both + gained, n, level)
    phi = _corrected_phi(n, lost, gained, both)
    below, above = first.value - first.low, second.high - second.value
    low = counts.drop - _third_side(below, above, phi)
    below, above = second.value - second.low, first.high - first.value
    return Estimate(counts.drop, low, counts.drop + _third_side(below, above, phi))


def mcnemar_p(counts: PairedCounts) -> float:
    """Exact two-sided McNemar test that both classifiers are equally often right.

    Twice the tail of a binomial (lost + gained, 1/2), at most 1.
    Source: McNemar, Psychometrika 12 (1947) 153-157; exact form after Fagerland, Lydersen and
    Laake, BMC Medical Research Methodology 13:91 (2013).
    """
    trials, few = counts.lost + counts.gained, min(counts.lost, counts.gained)
    return min(1.0, 2.0 * math.fsum(_half_binomial(trials, k) for k in range(few + 1)))


def mcnemar_mid_p(counts: PairedCounts) -> float:
    """McNemar's mid-p test: what is more extreme, and half of what is as extreme as the table.

    It holds its level nearly always and is less timid than the exact test, which never exceeds it.
    1 where no image is right for one of the two alone.
    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013).
    """
    trials, few = counts.lost + counts.gained, min(counts.lost, counts.gained)
    if not trials:
        return 1.0
    here = _half_binomial(trials, few)
    if counts.lost == counts.gained:
        return 1.0 - here / 2
    return 2.0 * math.fsum(_half_binomial(trials, k) for k in range(few)) + here


def wilson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A proportion with its score interval (shares, not %).

    Source: Wilson, Journal of the American Statistical Association 22 (1927) 209-212; method 3
    in Newcombe, Statistics in Medicine 17 (1998) 857-872.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"not a proportion: {successes} of {n}")
    z = _z(level)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high)


def images_to_decide(counts: PairedCounts, margin: float, level: float = 0.95) -> int | None:
    """About how many images would settle on which side of ``margin`` (a share) the drop lies.

    n = (z_level * sqrt(v0) + z_power * sqrt(v1))^2 / (margin - drop)^2 at 80 % power, with the
    variance of one image's drop if it were ``margin`` (v0, which Tango's interval has) and as it
    was measured (v1 = discordant - drop^2); z of the two-sided ``level`` because the gate reads one
    end of that interval. Always more than ``counts.n`` where that interval holds the margin. None
    where the drop sits on the margin itself.
    Source: the sample size of a paired non-inferiority test, Nam, Biometrics 53 (1997) 1422-1430.
    """
    distance = margin - counts.drop
    if distance == 0:
        return None
    on_margin = math.sqrt(max(0.0, _variance(counts, margin)))
    measured = math.sqrt(max(0.0, counts.discordant - counts.drop**2))
    width = _z(level) * on_margin + NormalDist().inv_cdf(POWER) * measured
    return math.ceil((width / distance) ** 2)


def _tango_score(counts: PairedCounts, drop: float) -> float:
    n, lost, gained = counts.n, counts.lost, counts.gained
    variance = n * _variance(counts, drop)
    distance = lost - gained - n * drop
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _variance(counts: PairedCounts, drop: float) -> float:
    """Of one image's drop, if its mean were ``drop``."""
    return 2 * _restricted_gain(counts, drop) + drop * (1 - drop)


def _restricted_gain(counts: PairedCounts, drop: float) -> float:
    n, lost, gained = counts.n, counts.lost, counts.gained
    a = 2 * n
    b = -lost - gained + (2 * n - lost + gained) * drop
    c = -gained * drop * (1 - drop)
    return (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)


def _root(decreasing: Callable[[float], float], low: float, high: float) -> float:
    while high - low > 1e-12:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if decreasing(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _corrected_phi(n: int, lost: int, gained: int, both: int) -> float:
    neither = n - both - lost - gained
    margins = (both + lost) * (both + gained) * (neither + lost) * (neither + gained)
    product = float(both * neither - lost * gained)
    if product > 0:
        product = max(0.0, product - n / 2)
    return product / math.sqrt(margins) if margins else 0.0


def _third_side(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))


def _half_binomial(trials: int, k: int) -> float:
    log_choose = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
    return math.exp(log_choose + trials * math.log(0.5))


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
