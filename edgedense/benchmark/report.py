"""What a benchmark found: raw samples, and the numbers derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense import artifact, stats
from edgedense.benchmark.measure import Nanoseconds

SAMPLES_FILE = "samples.json"
STABLE_VARIATION = 0.025


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """Latency samples of one engine in ns, in the order of time.

    One sample is one call with ``batch`` images, copies in and out included.
    """

    engine_name: str
    batch: int
    samples_ns: Nanoseconds
    device: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def samples_ms(self) -> NDArray[np.float64]:
        """The samples in ms."""
        return self.samples_ns / 1e6

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
        """90th percentile; needs 29 samples."""
        return stats.percentile(self.samples_ms, 0.90)

    @property
    def p99_ms(self) -> float | None:
        """99th percentile; needs 299 samples."""
        return stats.percentile(self.samples_ms, 0.99)

    @property
    def throughput_ips(self) -> float | None:
        """Images in a second at the median latency, one call at a time."""
        p50_ms = self.p50_ms
        return None if p50_ms is None else self.batch * 1000 / p50_ms

    @property
    def cov(self) -> float:
        """Coefficient of variation of all samples (standard deviation over mean)."""
        return stats.variation(self.samples_ms)

    @property
    def block_cov(self) -> float:
        """Coefficient of variation of the medians of ten consecutive blocks: drift."""
        return stats.block_variation(self.samples_ms)

    @property
    def stable(self) -> bool:
        """Whether the medians of ten consecutive blocks vary by at most 2.5 %.

        2.5 % is trtexec's limit for GPU times. It is held against medians of blocks because on a
        processor that others use too, single late calls are normal; drift is what spoils a
        comparison.
        """
        return self.block_cov <= STABLE_VARIATION

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what the numbers cannot say."""
        found = []
        for name, value, least in (("p90", self.p90_ms, 29), ("p99", self.p99_ms, 299)):
            if value is None:
                found.append(f"{name} is not given: {self.iterations} samples, {least} are needed.")
        if not self.stable:
            found.append(
                f"Unstable: medians of consecutive blocks vary by {100 * self.block_cov:.1f} % "
                f"(limit {100 * STABLE_VARIATION:g} %); other load or changing clocks."
            )
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; what was not measured is None, never NaN."""
        return {
            "engine_name": self.engine_name,
            "batch": self.batch,
            "iterations": self.iterations,
            "p50_ms": self.p50_ms,
            "p50_ci95_ms": _listed(stats.percentile_interval(self.samples_ms, 0.50)),
            "p90_ms": self.p90_ms,
            "p90_ci95_ms": _listed(stats.percentile_interval(self.samples_ms, 0.90)),
            "p99_ms": self.p99_ms,
            "p99_ci95_ms": _listed(stats.percentile_interval(self.samples_ms, 0.99)),
            "min_ms": float(self.samples_ms.min()),
            "mean_ms": float(self.samples_ms.mean()),
            "throughput_ips": self.throughput_ips,
            "cov": self.cov,
            "block_cov": self.block_cov,
            "stable": self.stable,
            "copies_included": True,
            "notes": list(self.notes),
            "device": self.device,
        }


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """Two engines measured interleaved; ``speedup`` is how many times faster ``engine`` is."""

    engine: BenchmarkReport
    against: BenchmarkReport
    speedup: stats.Estimate
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """The engine's keys, the other engine below ``against``, and the speed-up."""
        return {
            **self.engine.to_dict(),
            "against": self.against.to_dict(),
            "speedup": self.speedup.value,
            "speedup_ci95": list(self.speedup.interval),
            "rounds": self.rounds,
        }


def write_report(
    path: Path,
    report: BenchmarkReport | ComparisonReport,
    *,
    parents: Mapping[str, str],
    options: Mapping[str, Any],
    seed: int | None = None,
) -> None:
    """Write a ``benchmark`` artifact: the report, and every sample in ``samples.json``.

    Errors: InputError where ``path`` exists; MachineError on a full disk.
    """
    samples = {}
    if isinstance(report, ComparisonReport):
        samples["against_ms"] = report.against.samples_ms.tolist()
        samples["samples_ms"] = report.engine.samples_ms.tolist()
    else:
        samples["samples_ms"] = report.samples_ms.tolist()
    with artifact.create(path, "benchmark", parents=parents, options=options, seed=seed) as draft:
        artifact.write_json(draft.path / SAMPLES_FILE, samples)
        draft.report = report.to_dict()


def _listed(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
