"""Throughput against latency: several batch sizes, and several streams at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from edgedense import stats
from edgedense.benchmark.measure import Milliseconds, Nanoseconds, input_images
from edgedense.benchmark.options import BenchmarkOptions
from edgedense.benchmark.report import PERCENTILES, distribution
from edgedense.benchmark.stability import unstable_reasons
from edgedense.benchmark.state import settings_of, state_of
from edgedense.benchmark.streams import lanes, together
from edgedense.board import Summary, Watch, describe_device
from edgedense.engines.runner import Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress


@dataclass(frozen=True, eq=False)
class Cell:
    """One batch size with so many streams: their calls, in the order in which they ended.

    ``samples_ns`` (calls,) are latencies of single calls while all streams were at work;
    ``seconds`` is how long they were.
    """

    batch: int
    streams: int
    samples_ns: Nanoseconds
    seconds: float
    watched: Summary | None = None

    @property
    def samples_ms(self) -> Milliseconds:
        """The samples in ms."""
        return self.samples_ns / 1e6

    @property
    def throughput_ips(self) -> float:
        """Images in a second, of all streams together, by the clock on the wall."""
        return self.batch * len(self.samples_ns) / self.seconds

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the numbers are not stable; none where they are."""
        watched = [self.watched] if self.watched else []
        return unstable_reasons([self.samples_ms], None, watched, alone=self.streams == 1)

    def latency_ms(self, percentile: str) -> float | None:
        """``p50``, ``p90`` or ``p99``; None where the samples are too few."""
        return stats.percentile(self.samples_ms, PERCENTILES[percentile])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        images = self.batch * len(self.samples_ns)
        return {
            "batch": self.batch,
            "streams": self.streams,
            "iterations": len(self.samples_ns),
            **distribution(self.samples_ms),
            "throughput_ips": self.throughput_ips,
            "cov": stats.variation(self.samples_ms),
            "stable": not self.reasons,
            "reasons": list(self.reasons),
            "energy_mj": self.watched.energy_mj(self.seconds, images) if self.watched else None,
        }


@dataclass(frozen=True, eq=False)
class SweepReport:
    """All cells of an engine; ``max_latency_ms`` is what a call may take, None: no limit."""

    engine_name: str
    cells: tuple[Cell, ...]
    max_latency_ms: float | None
    device: dict[str, Any]
    state: dict[str, Any]

    @property
    def percentile(self) -> str:
        """The highest percentile that every cell has samples enough for: it is what is judged."""
        enough = [
            name for name in PERCENTILES if all(c.latency_ms(name) is not None for c in self.cells)
        ]
        return enough[-1]

    @property
    def front(self) -> tuple[Cell, ...]:
        """Cells that no other one beats in throughput without losing in latency."""
        return tuple(c for c in self.cells if not any(self._beats(o, c) for o in self.cells))

    @property
    def best(self) -> Cell | None:
        """The most throughput within the limit; None where no cell keeps it.

        Without a limit the knee: the cell with the most power, throughput over latency. Source:
        Kleinrock, Power and Deterministic Rules of Thumb for Probabilistic Problems in Computer
        Communications (1979).
        """
        if self.max_latency_ms is None:
            return max(self.cells, key=lambda c: c.throughput_ips / self._latency(c))
        within = [c for c in self.cells if self._latency(c) <= self.max_latency_ms]
        return max(within, key=lambda c: c.throughput_ips, default=None)

    @property
    def stable(self) -> bool:
        """Whether all cells are."""
        return not any(cell.reasons for cell in self.cells)

    @property
    def remark(self) -> str:
        """Which cell to choose, in a sentence."""
        best, limit = self.best, self.max_latency_ms
        if best is None:
            fastest = min(self.cells, key=self._latency)
            return (
                f"No cell keeps {self.percentile} within {limit:g} ms: the fastest is batch "
                f"{fastest.batch} with {fastest.streams} stream{_s(fastest.streams)} "
                f"({self._latency(fastest):.2f} ms)."
            )
        what = "most throughput over latency (the knee)"
        if limit is not None:
            what = f"most throughput with {self.percentile} within {limit:g} ms"
        return (
            f"{what[0].upper()}{what[1:]}: batch {best.batch}, {best.streams} "
            f"stream{_s(best.streams)}: {best.throughput_ips:.1f} images/s at "
            f"{self.percentile} {self._latency(best):.2f} ms."
        )

    def to_dict(self) -> dict[str, Any]:
        """The keys of a benchmark, of the best cell (else the first), and all cells."""
        shown, front = self.best or self.cells[0], self.front
        return {
            "engine_name": self.engine_name,
            **shown.to_dict(),
            "stable": self.stable,
            "reasons": [
                f"batch {c.batch}, {c.streams} stream{_s(c.streams)}: {reason}"
                for c in self.cells
                for reason in c.reasons
            ],
            "device": self.device,
            "state": self.state,
            "percentile": self.percentile,
            "max_latency_ms": self.max_latency_ms,
            "within_limit": self.best is not None,
            "remark": self.remark,
            "cells": [
                {**c.to_dict(), "front": c in front, "best": c is self.best} for c in self.cells
            ],
        }

    def _latency(self, cell: Cell) -> float:
        found = cell.latency_ms(self.percentile)
        return float("inf") if found is None else found

    def _beats(self, one: Cell, other: Cell) -> bool:
        latency = self._latency(one) - self._latency(other)
        throughput = one.throughput_ips - other.throughput_ips
        return latency <= 0 <= throughput and (latency < 0 or throughput > 0)


def sweep(
    open_runner: Callable[[], Runner],
    name: str,
    batches: Sequence[int],
    streams: Sequence[int],
    options: BenchmarkOptions,
    *,
    max_latency_ms: float | None = None,
    progress: Progress = SILENT,
) -> SweepReport:
    """Measure every batch size with every number of streams; the times of ``options`` are a cell's.

    A stream is a thread with a runner of its own: a fork of the first where there are such (one
    engine in memory, a CUDA stream each), else opened again. Errors: InputError where the engine
    does not take a batch, or a number is below 1.
    """
    if min(*batches, *streams) < 1 or (max_latency_ms is not None and not max_latency_ms > 0):
        raise InputError(
            "a batch, a number of streams or a latency is not positive", "Give 1 or more."
        )
    cells = []
    grid = list(product(batches, streams))
    with lanes(open_runner, max(streams)) as runners:
        for batch in batches:  # before minutes of work, not after
            input_images(runners[0].interface, batch, options.seed, None)
        for batch, count in progress.track(grid, f"benchmark {name}", len(grid)):
            cells.append(_measure(runners[:count], replace(options, batch=batch)))
        settings = settings_of(runners[0])
    state = {**state_of(options, settings), "batch": list(batches), "streams": list(streams)}
    return SweepReport(name, tuple(cells), max_latency_ms, describe_device(), state)


def _measure(runners: Sequence[Runner], options: BenchmarkOptions) -> Cell:
    feeds = [input_images(r.interface, options.batch, options.seed, None) for r in runners]
    with Watch() as watch:
        samples, seconds = together(runners, feeds, options)
    return Cell(options.batch, len(runners), samples, seconds, watch.summary())


def _s(count: int) -> str:
    return "" if count == 1 else "s"
