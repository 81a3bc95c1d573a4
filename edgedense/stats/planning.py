"""Before anything runs: which drops can a set of so many images tell apart at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from edgedense.stats.paired import POWER, PairedCounts, paired_difference

# shares of images on which exactly one of the two networks is right: equal networks, and what INT8
# networks show, good ones and worse ones
SUPPOSED_DISCORDANT = (0.0, 0.01, 0.05)


@dataclass(frozen=True)
class Resolution:
    """What ``n`` images resolve if ``discordant`` of them were right for one network only (shares).

    ``excluded``: the smallest drop outside the interval if just as many were gained as lost.
    ``detectable``: the drop that is excluded with 80 % power if the networks are equally good.
    """

    n: int
    discordant: float
    excluded: float
    detectable: float


def resolution(n: int, discordant: float, level: float = 0.95) -> Resolution:
    """What ``n`` images can tell apart, for a supposed share of ``discordant`` images.

    ``excluded`` is the upper end of Tango's interval of a table without any difference;
    ``detectable`` is (z_level + z_power) * sqrt(discordant / n), the formula of
    :func:`edgedense.stats.images_to_decide` to first order, solved for the margin, and never below
    ``excluded``.
    """
    each = math.ceil(n * discordant / 2 - 1e-9)
    excluded = paired_difference(PairedCounts(n, min(each, n // 2), min(each, n // 2)), level).high
    z = NormalDist().inv_cdf(0.5 + level / 2) + NormalDist().inv_cdf(POWER)
    return Resolution(n, discordant, excluded, max(excluded, z * math.sqrt(discordant / n)))


def images_to_exclude(drop: float, level: float = 0.95) -> int | None:
    """The fewest images that can exclude ``drop`` (a share) at all: those of two equal networks.

    Without a discordant pair Tango's interval ends at z^2 / (n + z^2). None for a drop of zero,
    which no number of equal answers excludes.
    """
    if drop <= 0:
        return None
    z = NormalDist().inv_cdf(0.5 + level / 2)
    return max(1, math.ceil(z * z * (1 - drop) / drop - 1e-9))
