"""The stage itself: warm up, measure, report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgedense.benchmark.fresh import measure_fresh
from edgedense.benchmark.measure import input_images, take_turns, warm_up
from edgedense.benchmark.options import BenchmarkOptions
from edgedense.benchmark.report import BenchmarkReport, ComparisonReport
from edgedense.benchmark.run import Run, measure_run, phases_of
from edgedense.benchmark.state import settings_of, state_of
from edgedense.benchmark.subject import Subject
from edgedense.board import Watch, describe_device
from edgedense.engines.runner import Floats, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress
from edgedense.stats import bootstrap_ratio, ratio_of_repeats

Shape = tuple[int, int, int]


def benchmark(
    runner: Runner,
    options: BenchmarkOptions | None = None,
    *,
    name: str | None = None,
    golden: Floats | None = None,
    progress: Progress = SILENT,
) -> BenchmarkReport:
    """Latency distribution of one engine, in this process.

    ``golden`` images (any number, channels, height, width) are used where given, else seeded
    noise; ``name`` is how the report calls the engine. Errors: InputError where the engine does not
    take the batch.
    """
    options = options or BenchmarkOptions()
    device, watch = describe_device(), Watch()
    run = measure_run(runner, options, name=name, golden=golden, around=watch, progress=progress)
    return BenchmarkReport(
        name or runner.name,
        options.batch,
        run.samples_ns,
        device,
        state=state_of(options, run.settings),
        phases=run.phases,
        watched=(watch.summary(),),
    )


def benchmark_fresh(
    subject: Subject,
    options: BenchmarkOptions,
    repeats: int,
    *,
    progress: Progress = SILENT,
) -> BenchmarkReport:
    """Latency distribution of one engine over so many fresh processes.

    Errors: those of :func:`edgedense.benchmark.fresh.measure_fresh`.
    """
    device = describe_device()
    (runs,) = measure_fresh([subject], options, repeats, progress=progress)
    return _over_repeats(subject, options, runs, device, interleaved=False)


def compare_fresh(
    engine: Subject,
    against: Subject,
    options: BenchmarkOptions,
    repeats: int,
    *,
    progress: Progress = SILENT,
) -> ComparisonReport:
    """Latency of two engines in fresh processes that take turns, and the speed-up of the first.

    The speed-up is the geometric mean of the repeats' ratios of medians, its 95 % interval from
    their spread. Errors: InputError where there are fewer than two repeats or the two take
    different images; those of :func:`edgedense.benchmark.fresh.measure_fresh`.
    """
    if repeats < 2:
        raise InputError(
            f"{repeats} repeat has no spread to tell an interval from",
            "Give 2 repeats or more; 6 are usual.",
        )
    _check_same_shape(engine.name, engine.input_shape(), against.name, against.input_shape())
    device = describe_device()
    runs = measure_fresh([engine, against], options, repeats, progress=progress)
    own, other = (
        _over_repeats(subject, options, own, device)
        for subject, own in zip((engine, against), runs, strict=True)
    )
    speedup = ratio_of_repeats(other.repeats_ms, own.repeats_ms)
    return ComparisonReport(own, other, speedup, repeats, fresh_processes=True)


def compare(
    engine: Runner,
    against: Runner,
    options: BenchmarkOptions | None = None,
    *,
    golden: Floats | None = None,
    progress: Progress = SILENT,
) -> ComparisonReport:
    """Latency of two engines in this process, interleaved, and the speed-up of the first.

    The speed-up is the ratio of the medians, with a 95 % interval from resampled rounds. What a
    process is lucky with (see :mod:`edgedense.benchmark.fresh`) is in it; :func:`compare_fresh`
    takes longer and has that out of it.
    Errors: InputError where the engines take different images or not this batch.
    """
    return compare_all([engine], against, options, golden=golden, progress=progress)[0]


def compare_all(
    engines: Sequence[Runner],
    against: Runner,
    options: BenchmarkOptions | None = None,
    *,
    names: Sequence[str] | None = None,
    golden: Floats | None = None,
    progress: Progress = SILENT,
) -> list[ComparisonReport]:
    """:func:`compare` for several engines in the same rounds, so that all can be compared.

    The times that ``options`` give are for one engine: so many engines take so many times as long.
    ``names`` are how the reports call ``engines`` and ``against``, in this order.
    """
    options = options or BenchmarkOptions()
    for engine in engines:
        _check_same_input(engine, against)
    runners = [*engines, against]
    names = names or [runner.name for runner in runners]
    images = [input_images(r.interface, options.batch, options.seed, golden) for r in runners]
    device, watch = describe_device(), Watch()
    label = f"{' and '.join(dict.fromkeys(names[:-1]))} against {names[-1]}"
    span = options.span.longer(len(engines))
    with watch:
        calls_ns = [
            warm_up(runner, fed, options.warmup, options.warmup_seconds)
            for runner, fed in zip(runners, images, strict=True)
        ]
        samples = take_turns(runners, images, span, calls_ns, label, progress=progress)
    reports = [
        BenchmarkReport(
            name,
            options.batch,
            found.reshape(-1),
            device,
            state=state_of(options, settings_of(runner), interleaved=True),
            phases=phases_of(runner, fed, options, found.size),
            watched=(watch.summary(),),
            alone=False,
        )
        for name, runner, fed, found in zip(names, runners, images, samples, strict=True)
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


def _over_repeats(
    subject: Subject,
    options: BenchmarkOptions,
    runs: Sequence[Run],
    device: dict[str, Any],
    *,
    interleaved: bool = True,
) -> BenchmarkReport:
    state = state_of(
        options,
        runs[0].settings,
        repeats=len(runs),
        interleaved=interleaved,
        fresh_processes=True,
    )
    return BenchmarkReport.of_runs(subject.name, options.batch, runs, device, state)


def _check_same_input(engine: Runner, against: Runner) -> None:
    own, other = engine.interface.input_shape, against.interface.input_shape
    _check_same_shape(engine.name, own, against.name, other)


def _check_same_shape(name: str, own: Shape, other_name: str, other: Shape) -> None:
    if tuple(own) != tuple(other):
        raise InputError(
            f"{name} takes images of {tuple(own)}, but {other_name} of {tuple(other)}",
            "Compare engines that take the same images (channels, height, width).",
        )
