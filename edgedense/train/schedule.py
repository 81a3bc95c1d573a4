"""The learning rate over the course of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

Schedule = Literal["step", "cosine", "exponential"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)

_DECAY = 0.995


def learning_rate(
    schedule: Schedule, base: float, milestones: Sequence[float], epoch: float, epochs: int
) -> float:
    """At ``epoch`` (from 0; its fraction is how much of it is done) of ``epochs``.

    ``step`` divides by 10 at each of ``milestones``, shares of all epochs (paper, section 4.2);
    ``cosine`` falls to 0 (Loshchilov and Hutter, arXiv 1608.03983, without restarts);
    ``exponential`` is multiplied by 0.995 after each epoch (arXiv 1611.09326, section 4.1).
    """
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * epoch / epochs)) / 2
    if schedule == "exponential":
        return float(base * _DECAY ** math.floor(epoch))
    passed = sum(math.floor(epoch) >= round(share * epochs, 6) for share in milestones)
    rate: float = base / 10**passed
    return rate
