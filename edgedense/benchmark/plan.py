"""What would be measured, and how long it would take: nothing is opened for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedense import stats
from edgedense.benchmark.fresh import turns
from edgedense.benchmark.options import BenchmarkOptions

# a process that imports a runtime and opens an engine; PyTorch and TensorRT take that long
_START_SECONDS = 3.0


@dataclass(frozen=True)
class Plan:
    """Measurements one after another, each with its own warm-up; ``what`` names them in order."""

    what: tuple[str, ...]
    options: BenchmarkOptions
    fresh_processes: bool
    interleaved: bool

    @property
    def seconds(self) -> tuple[float, float]:
        """At least and at most; the time for starting and opening is an estimate."""
        own = _START_SECONDS if self.fresh_processes else 0.0
        ready = own + self.options.warmup_seconds
        times = self.options.min_seconds, self.options.max_seconds
        once = 0.0 if self.fresh_processes else _START_SECONDS
        least, most = (once + len(self.what) * (ready + time) for time in times)
        return least, most

    def lines(self) -> list[str]:
        """As sentences."""
        options, (least, most) = self.options, self.seconds
        count = len(self.what)
        where = "each in a fresh process" if self.fresh_processes else "in this process"
        several = f"{count} measurements" if count > 1 else "1 measurement"
        letters = {name: chr(ord("A") + k) for k, name in enumerate(dict.fromkeys(self.what))}
        order = " ".join(letters[name] for name in self.what)
        return [
            f"would measure: {several} {where}" + (f": {order}" if self.interleaved else ""),
            *(f"  {letter}: {name}" for name, letter in letters.items()),
            f"each: warm-up of {options.warmup_seconds:g} s, then {options.iterations} calls and "
            f"{options.min_seconds:g} s, at most {options.max_seconds:g} s",
            f"takes {_time(least)} to {_time(most)}",
            f"a p90 needs {stats.least_samples(0.90)} calls, a p99 {stats.least_samples(0.99)}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        least, most = self.seconds
        return {
            "dry_run": True,
            "measurements": list(self.what),
            "fresh_processes": self.fresh_processes,
            "interleaved": self.interleaved,
            "options": vars(self.options),
            "seconds_at_least": least,
            "seconds_at_most": most,
        }


def plan(
    names: Sequence[str], options: BenchmarkOptions, repeats: int, *, fresh_processes: bool
) -> Plan:
    """Of one engine, or of two that take turns; in one process they do so in short rounds."""
    which = turns(len(names), repeats) if fresh_processes else range(len(names))
    ordered = tuple(names[k] for k in which)
    return Plan(ordered, options, fresh_processes, interleaved=len(names) > 1)


def sweep_plan(
    name: str, batches: Sequence[int], streams: Sequence[int], options: BenchmarkOptions
) -> Plan:
    """Of every batch size with every number of streams."""
    cells = tuple(
        f"{name} batch {b} x {s} stream{'' if s == 1 else 's'}" for b in batches for s in streams
    )
    return Plan(cells, options, fresh_processes=False, interleaved=False)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
