"""One engine measured once, in one process: warm up, time whole calls, time phases."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgedense.benchmark.measure import (
    LEAST_PHASES,
    MOST_PHASES,
    Nanoseconds,
    PhaseSamples,
    input_images,
    measure,
    measure_phases,
    warm_up,
)
from edgedense.benchmark.options import BenchmarkOptions
from edgedense.benchmark.state import settings_of
from edgedense.board import Summary
from edgedense.engines.runner import Floats, Images, Runner, is_phased
from edgedense.progress import SILENT, Progress

PHASES_SHARE = 0.25  # of the longest time that the whole calls may take


@dataclass(frozen=True, eq=False)
class Run:
    """Samples in ns in order of time, phases where the engine tells them apart, and conditions.

    ``watched`` is what the board did meanwhile, ``settings`` how the runner runs.
    """

    samples_ns: Nanoseconds
    phases: PhaseSamples | None = None
    watched: Summary | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; ``watched`` stays with whoever watched."""
        told = dict(self.phases.items()) if self.phases else None
        return {
            "samples_ns": self.samples_ns.tolist(),
            "phases_ms": {name: ms.tolist() for name, ms in told.items()} if told else None,
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, raw: dict[str, Any], watched: Summary | None) -> Run:
        """From what :meth:`to_dict` gave, after a round trip through JSON."""
        told = raw["phases_ms"]
        phases = (
            PhaseSamples(*(np.array(told[name]) for name in ("copy_in", "compute", "copy_out")))
            if told
            else None
        )
        return cls(np.array(raw["samples_ns"], np.int64), phases, watched, raw["settings"])


def measure_run(
    runner: Runner,
    options: BenchmarkOptions,
    *,
    name: str | None = None,
    golden: Floats | None = None,
    around: AbstractContextManager[object] | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Measure one engine; ``around`` is entered before the warm-up and left before the phases.

    Looking at the board for the first time may take a second, in which a device that has warmed up
    would lower its clocks again. Errors: InputError where the engine does not take the batch.
    """
    images = input_images(runner.interface, options.batch, options.seed, golden)
    with around or nullcontext():
        call_ns = warm_up(runner, images, options.warmup, options.warmup_seconds)
        count = options.span.count(call_ns)
        samples = measure(runner, images, count, options.max_seconds, name=name, progress=progress)
    phases = phases_of(runner, images, options, len(samples))
    return Run(samples, phases, settings=settings_of(runner))


def phases_of(
    runner: Runner, images: Images, options: BenchmarkOptions, calls: int
) -> PhaseSamples | None:
    """Phases of about as many calls as were timed whole; None where the engine has none."""
    if not is_phased(runner):
        return None
    count = min(max(calls, LEAST_PHASES), MOST_PHASES)
    return measure_phases(runner, images, count, PHASES_SHARE * options.max_seconds)
