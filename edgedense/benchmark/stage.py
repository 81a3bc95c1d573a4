"""The stage itself: warm up, measure, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedense.benchmark.device import describe_device
from edgedense.benchmark.measure import Span, input_images, measure, take_turns, warm_up
from edgedense.benchmark.report import BenchmarkReport, ComparisonReport
from edgedense.engines.runner import Floats, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress
from edgedense.stats import bootstrap_ratio


@dataclass(frozen=True)
class BenchmarkOptions:
    """How long to measure, and with how many images a call.

    At least ``iterations`` calls (700 give p99 an interval) and ``min_seconds``, at most
    ``max_seconds``; before it ``warmup`` calls and ``warmup_seconds`` at least, not kept.
    """

    batch: int = 1
    iterations: int = 700
    min_seconds: float = 2.0
    max_seconds: float = 30.0
    warmup: int = 10
    warmup_seconds: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.iterations < 1 or self.warmup < 0:
            raise InputError(
                f"batch {self.batch}, iterations {self.iterations}, warm-up {self.warmup}: "
                "too small",
                "Give a batch and iterations of 1 or more.",
            )
        if not 0 <= self.min_seconds <= self.max_seconds < float("inf"):
            raise InputError(
                f"{self.min_seconds:g} to {self.max_seconds:g} seconds is no span of time",
                "Give 0 <= minimum <= maximum.",
            )

    @property
    def span(self) -> Span:
        """The times alone."""
        return Span(self.iterations, self.min_seconds, self.max_seconds)


def benchmark(
    runner: Runner,
    options: BenchmarkOptions | None = None,
    *,
    golden: Floats | None = None,
    progress: Progress = SILENT,
) -> BenchmarkReport:
    """Latency distribution of one engine.

    ``golden`` images (any number, channels, height, width) are used where given, else seeded
    noise. Errors: InputError where the engine does not take the batch.
    """
    options = options or BenchmarkOptions()
    images = input_images(runner.interface, options.batch, options.seed, golden)
    device = describe_device()
    call_ns = warm_up(runner, images, options.warmup, options.warmup_seconds)
    count = options.span.count(call_ns)
    samples = measure(runner, images, count, options.max_seconds, progress=progress)
    return BenchmarkReport(runner.name, options.batch, samples, device)


def compare(
    engine: Runner,
    against: Runner,
    options: BenchmarkOptions | None = None,
    *,
    golden: Floats | None = None,
    progress: Progress = SILENT,
) -> ComparisonReport:
    """Latency of two engines in the same run, interleaved, and the speed-up of the first.

    The speed-up is the ratio of the medians, with a 95 % interval from resampled rounds.
    Errors: InputError where the engines take different images or not this batch.
    """
    return compare_all([engine], against, options, golden=golden, progress=progress)[0]


def compare_all(
    engines: Sequence[Runner],
    against: Runner,
    options: BenchmarkOptions | None = None,
    *,
    golden: Floats | None = None,
    progress: Progress = SILENT,
) -> list[ComparisonReport]:
    """:func:`compare` for several engines in the same rounds, so that all can be compared.

    The times that ``options`` give are for one engine: so many engines take so many times as long.
    """
    options = options or BenchmarkOptions()
    for engine in engines:
        _check_same_input(engine, against)
    runners = [*engines, against]
    images = [input_images(r.interface, options.batch, options.seed, golden) for r in runners]
    device = describe_device()
    calls_ns = [
        warm_up(runner, fed, options.warmup, options.warmup_seconds)
        for runner, fed in zip(runners, images, strict=True)
    ]
    label = f"{' and '.join(dict.fromkeys(e.name for e in engines))} against {against.name}"
    span = options.span.longer(len(engines))
    samples = take_turns(runners, images, span, calls_ns, label, progress=progress)
    reports = [
        BenchmarkReport(runner.name, options.batch, found.reshape(-1), device)
        for runner, found in zip(runners, samples, strict=True)
    ]
    other = samples[-1].astype(np.float64)
    return [
        ComparisonReport(
            engine=report,
            against=reports[-1],
            speedup=bootstrap_ratio(other, own.astype(np.float64), seed=options.seed),
            rounds=len(own),
        )
        for report, own in zip(reports[:-1], samples, strict=False)
    ]


def _check_same_input(engine: Runner, against: Runner) -> None:
    own, other = tuple(engine.interface.input_shape), tuple(against.interface.input_shape)
    if own != other:
        raise InputError(
            f"{engine.name} takes images of {own}, but {against.name} of {other}",
            "Compare engines that take the same images (channels, height, width).",
        )
