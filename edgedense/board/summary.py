"""What a watch has seen, as the numbers that a latency is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from edgedense.board.rails import RAPL, total_mw
from edgedense.board.sample import Sample
from edgedense.board.snapshot import Snapshot


@dataclass(frozen=True)
class Spread:
    """Of ``count`` readings over the time of the watch."""

    median: float
    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Summary:
    """State before and after, and what happened between; what the machine lacks is None.

    ``power_mw`` is of the rail, or sum of rails, that ``power_rail`` names. ``throttled`` is False
    only where the machine would have told. ``gpu_drift`` and ``cpu_drift`` are the distance of the
    median clocks of the last third and the first, by the median of all.
    """

    before: Snapshot
    after: Snapshot
    seconds: float
    interval_s: float
    power_rail: str | None
    power_mw: Spread | None
    gpu_mhz: Spread | None
    emc_mhz: Spread | None
    cpu_mhz: Spread | None
    gpu_drift: float | None
    cpu_drift: float | None
    throttled: bool | None
    throttled_by: tuple[str, ...]

    @property
    def clock_drift(self) -> float | None:
        """Relative change of the GPU's clock, of the processor's where no GPU has one."""
        return self.cpu_drift if self.gpu_drift is None else self.gpu_drift

    @property
    def temperature_rise_c(self) -> float | None:
        """Of the zone that got warmer most, from before to after."""
        after = self.after.temperatures_c
        rises = [after[n] - v for n, v in self.before.temperatures_c.items() if n in after]
        return max(rises, default=None)

    def energy_mj(self, seconds: float, inferences: int) -> float | None:
        """Millijoules an inference: mean power times ``seconds``, shared among ``inferences``."""
        if self.power_mw is None or inferences < 1 or seconds <= 0:
            return None
        return self.power_mw.mean * seconds / inferences

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        derived = {
            "clock_drift": self.clock_drift,
            "temperature_rise_c": self.temperature_rise_c,
        }
        return asdict(self) | derived


def summarize(
    before: Snapshot,
    after: Snapshot,
    samples: Sequence[Sample],
    *,
    seconds: float,
    interval_s: float,
) -> Summary:
    """Bring the samples, in the order of time, into numbers."""
    power_rail, powers = _powers(samples)
    gpu, emc, cpu = (_series(samples, key) for key in (_gpu, _emc, _cpu))
    names = _throttles(before, after, samples)
    return Summary(
        before=before,
        after=after,
        seconds=seconds,
        interval_s=interval_s,
        power_rail=power_rail,
        power_mw=spread(powers),
        gpu_mhz=spread(gpu),
        emc_mhz=spread(emc),
        cpu_mhz=spread(cpu),
        gpu_drift=drift(gpu),
        cpu_drift=drift(cpu),
        throttled=None if names is None else bool(names),
        throttled_by=names or (),
    )


def spread(values: Sequence[float]) -> Spread | None:
    """Of any values; None of none."""
    if not values:
        return None
    return Spread(median(values), fmean(values), min(values), max(values), len(values))


def drift(clocks: Sequence[float]) -> float | None:
    """How far the last third is from the first, relative; None of fewer than six readings."""
    third = len(clocks) // 3
    if third < 2:
        return None
    return abs(median(clocks[-third:]) - median(clocks[:third])) / median(clocks)


def _powers(samples: Sequence[Sample]) -> tuple[str | None, list[float]]:
    """Readings of one rail: those of files and of a GPU's tool are not the same thing."""
    series: dict[str, list[float]] = {}
    for sample in samples:
        total = total_mw(sample.rails_mw)
        if total:
            series.setdefault(total[1], []).append(total[0])
    if not series:
        return None, []
    name = min(series, key=lambda rail: (rail == RAPL, -len(series[rail])))
    return name, series[name]


def _throttles(
    before: Snapshot, after: Snapshot, samples: Sequence[Sample]
) -> tuple[str, ...] | None:
    """What slowed the machine down meanwhile; None where nothing tells."""
    told = [s.throttled_by for s in samples] + [before.throttled_by, after.throttled_by]
    alarms = [names for names in told if names is not None]
    counters = set(before.throttle_events) & set(after.throttle_events)
    if not alarms and not counters:
        return None
    rose = {n for n in counters if after.throttle_events[n] > before.throttle_events[n]}
    return tuple(sorted(rose.union(*alarms)))


def _series(samples: Sequence[Sample], key: Callable[[Sample], float | None]) -> list[float]:
    return [value for value in map(key, samples) if value is not None]


def _gpu(sample: Sample) -> float | None:
    return sample.gpu_mhz


def _emc(sample: Sample) -> float | None:
    return sample.emc_mhz


def _cpu(sample: Sample) -> float | None:
    return sample.cpu_mhz
