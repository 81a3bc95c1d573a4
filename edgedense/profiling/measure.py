"""Times of a few engines against each other: what one network takes more than another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedense.benchmark.measure import input_images, warm_up
from edgedense.engines.runner import Images, Runner

Clock = Callable[[], int]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``rounds`` of one block each, a block of about ``block_ms``."""

    rounds: int = 15
    block_ms: float = 5.0
    warmup_seconds: float = 0.05

    @property
    def seconds(self) -> float:
        """About how long one engine takes, its warm-up with it."""
        return self.warmup_seconds + self.rounds * 1.5 * self.block_ms / 1e3


QUICK = Effort(rounds=5, block_ms=1.0, warmup_seconds=0.005)


def interleaved(
    runners: Sequence[Runner], effort: Effort, clock: Clock = time.perf_counter_ns
) -> Doubles:
    """Microseconds a call, (rounds, runners): a row is measured side by side, its order in turn.

    The first call of each block is not kept: it pays for caches that the others filled.
    """
    images = [input_images(runner.interface, 1, 0, None) for runner in runners]
    calls = [
        max(1, int(effort.block_ms * 1e6 / warm_up(*pair, 3, effort.warmup_seconds, clock)))
        for pair in zip(runners, images, strict=True)
    ]
    found = np.zeros((effort.rounds, len(runners)))
    for turn in range(effort.rounds):
        order = range(len(runners))
        for which in order if turn % 2 == 0 else reversed(order):
            found[turn, which] = _block(runners[which], images[which], calls[which], clock)
    return found


def difference_us(times: Doubles, longer: int, shorter: int, count: int) -> float | None:
    """What each of ``count`` layers takes that one runner has more: the median of all rounds.

    None where it is lost in the noise: not above 0 in three rounds of four.
    """
    found = (times[:, longer] - times[:, shorter]) / count
    return float(np.median(found)) if np.quantile(found, 0.25) > 0 else None


def _block(runner: Runner, images: Images, calls: int, clock: Clock) -> float:
    runner(images)
    samples = []
    for _ in range(calls):
        began = clock()
        runner(images)
        samples.append(clock() - began)
    return float(np.median(samples)) / 1e3
