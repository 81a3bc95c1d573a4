"""What a benchmark found: raw samples, and the numbers derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from edgedense import stats
from edgedense.benchmark.measure import Milliseconds, Nanoseconds, PhaseSamples, joined
from edgedense.benchmark.run import Run
from edgedense.benchmark.stability import drift_between, drift_within, unstable_reasons
from edgedense.board import Summary

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}
_WITHOUT_POWER = "no power rail of this machine can be read"
_SHARED_POWER = "the engines took turns, and a power rail does not tell whose power it is"


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """Latency samples of one engine in ns, in the order of time.

    One sample is one call with ``batch`` images, copies in and out included. ``repeats`` are the
    numbers of samples of each repeat (empty: one repeat has all). ``phases`` are of other calls;
    None where the engine cannot tell them. ``watched`` is what the board did in each repeat, and
    ``alone`` whether nothing but this engine ran meanwhile.
    """

    engine_name: str
    batch: int
    samples_ns: Nanoseconds
    device: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    repeats: tuple[int, ...] = ()
    phases: PhaseSamples | None = None
    watched: tuple[Summary, ...] = ()
    alone: bool = True

    @cached_property
    def samples_ms(self) -> Milliseconds:
        """The samples in ms."""
        return self.samples_ns / 1e6

    @cached_property
    def repeats_ms(self) -> list[Milliseconds]:
        """The samples in ms, repeat by repeat."""
        return np.split(self.samples_ms, np.cumsum(self.repeats or (self.iterations,))[:-1])

    @classmethod
    def of_runs(
        cls,
        name: str,
        batch: int,
        runs: Sequence[Run],
        device: dict[str, Any],
        state: dict[str, Any],
    ) -> BenchmarkReport:
        """The runs of one engine, each a repeat that had the machine to itself."""
        told = [run.phases for run in runs if run.phases is not None]
        return cls(
            engine_name=name,
            batch=batch,
            samples_ns=np.concatenate([run.samples_ns for run in runs]),
            device=device,
            state=state,
            repeats=tuple(len(run.samples_ns) for run in runs),
            phases=joined(told) if told else None,
            watched=tuple(run.watched for run in runs if run.watched is not None),
        )

    @property
    def iterations(self) -> int:
        """Number of timed calls."""
        return len(self.samples_ns)

    @property
    def p50_ms(self) -> float | None:
        """Median; a percentile is None where the samples are too few for it."""
        return stats.percentile(self.samples_ms, 0.50)

    @property
    def p90_ms(self) -> float | None:
        """90th percentile; needs 64 samples."""
        return stats.percentile(self.samples_ms, 0.90)

    @property
    def p99_ms(self) -> float | None:
        """99th percentile; needs 662 samples."""
        return stats.percentile(self.samples_ms, 0.99)

    @property
    def throughput_ips(self) -> float:
        """Images in a second, one call at a time: all images by the total time of their calls."""
        return self.batch * 1000 / float(self.samples_ms.mean())

    @property
    def cov(self) -> float:
        """Coefficient of variation of all samples (standard deviation over mean)."""
        return stats.variation(self.samples_ms)

    @property
    def block_cov(self) -> float:
        """Coefficient of variation of the medians of ten consecutive blocks: drift in a repeat."""
        return drift_within(self.repeats_ms)

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why the numbers are not stable; none where they are."""
        return unstable_reasons(self.repeats_ms, self.phases, self.watched)

    @property
    def stable(self) -> bool:
        """Whether nothing speaks against holding the numbers against those of another day."""
        return not self.reasons

    @cached_property
    def energy_mj(self) -> float | None:
        """Energy of one image in mJ, the whole board's; None as ``energy_note`` says."""
        if not self.alone or not self.watched:
            return None
        pairs = zip(self.watched, self.repeats_ms, strict=True)
        found = [
            watched.energy_mj(float(ms.sum()) / 1000, self.batch * len(ms)) for watched, ms in pairs
        ]
        known = [energy for energy in found if energy is not None]
        return float(np.mean(known)) if known else None

    @property
    def energy_note(self) -> str | None:
        """Why there is no energy."""
        if self.energy_mj is not None:
            return None
        return _WITHOUT_POWER if self.alone else _SHARED_POWER

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what the numbers cannot say."""
        found = [
            f"{name}: not enough samples ({self.iterations}; "
            f"{stats.least_samples(share)} are needed)."
            for name, share in PERCENTILES.items()
            if self.iterations < stats.least_samples(share)
        ]
        return (*found, *(f"Unstable: {reason}." for reason in self.reasons))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; what was not measured is None, never NaN."""
        return {
            "engine_name": self.engine_name,
            "batch": self.batch,
            "iterations": self.iterations,
            **distribution(self.samples_ms),
            "throughput_ips": self.throughput_ips,
            "cov": self.cov,
            "block_cov": self.block_cov,
            "repeat_cov": drift_between(self.repeats_ms),
            "repeat_p50_ms": [float(np.median(ms)) for ms in self.repeats_ms],
            "stable": self.stable,
            "reasons": list(self.reasons),
            "copies_included": True,
            "phases": self._phases(),
            "energy_mj": self.energy_mj,
            "energy_note": self.energy_note,
            "notes": list(self.notes),
            "state": self.state,
            "device": self.device,
            "watched": [summary.to_dict() for summary in self.watched],
        }

    def _phases(self) -> dict[str, Any] | None:
        if self.phases is None:
            return None
        return {
            # a board whose memory is shared may copy nothing, and nothing does not vary
            name: {**distribution(ms), "cov": stats.variation(ms) if ms.any() else 0.0}
            for name, ms in self.phases.items()
        }


def distribution(samples_ms: Milliseconds) -> dict[str, Any]:
    """Percentiles with order-statistic intervals, MLPerf's early-stopping ones, least and mean."""
    found: dict[str, Any] = {}
    for name, share in PERCENTILES.items():
        interval = stats.percentile_interval(samples_ms, share)
        found[f"{name}_ms"] = value = stats.percentile(samples_ms, share)
        found[f"{name}_ci95_ms"] = None if value is None or interval is None else list(interval)
        if name != "p50":
            early = stats.early_stopping_percentile(samples_ms, share)
            found[f"{name}_early_stopping_ms"] = early
    return {**found, "min_ms": float(samples_ms.min()), "mean_ms": float(samples_ms.mean())}


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """Two engines measured interleaved; ``speedup`` is how many times faster ``engine`` is.

    ``rounds`` are turns in one process, or repeats in fresh ones (``fresh_processes``).
    """

    engine: BenchmarkReport
    against: BenchmarkReport
    speedup: stats.Estimate
    rounds: int
    fresh_processes: bool = False

    @property
    def stable(self) -> bool:
        """Whether both are."""
        return self.engine.stable and self.against.stable

    def to_dict(self) -> dict[str, Any]:
        """The engine's keys, the other engine below ``against``, and the speed-up."""
        return {
            **self.engine.to_dict(),
            "against": self.against.to_dict(),
            "speedup": self.speedup.value,
            "speedup_ci95": list(self.speedup.interval),
            "both_stable": self.stable,
            "rounds": self.rounds,
            "fresh_processes": self.fresh_processes,
        }
