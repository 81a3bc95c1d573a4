"""Validation with all that may be asked of it: what the command line and the pytest plugin run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedense.cli import params
from edgedense.cli.engines import fp32_of, opened, reference_of
from edgedense.distributed import joined
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.benchmark import ComparisonReport
    from edgedense.data import ImageSet
    from edgedense.engines.runner import Runner
    from edgedense.progress import Progress
    from edgedense.validate import (
        Baseline,
        BaselineTolerance,
        Identity,
        Timing,
        ValidateReport,
    )

# a median needs no more; both times of a baseline are measured alike
_BASELINE_CALLS, _BASELINE_SECONDS, _BASELINE_LONGEST_SECONDS = 300, 1.0, 10.0


@dataclass(frozen=True)
class Asked:
    """What is asked of an engine beside its answers; see ``edgedense validate --help``."""

    reference: Path | None = None
    max_drop: float = 1.0
    min_speedup: float | None = None
    baseline: Path | None = None
    write_baseline: Path | None = None
    max_regression: float = 0.0
    max_slowdown: float = 10.0
    latency: bool = True
    ignore_class: tuple[int, ...] = ()
    force: bool = False

    @property
    def remembers(self) -> bool:
        """Whether a baseline is read or written."""
        return self.baseline is not None or self.write_baseline is not None

    @property
    def tolerance(self) -> BaselineTolerance:
        """How far the engine may fall behind its baseline. Errors: InputError out of range."""
        from edgedense.validate import BaselineTolerance

        return BaselineTolerance(self.max_regression, self.max_slowdown)


def read_set(data: Path, asked: Asked) -> ImageSet:
    """The evaluation set. Errors: InputError where what is asked does not fit its kind."""
    from edgedense.validate import no_baseline

    images = params.read_set(data)
    if images.has_masks and asked.remembers:
        raise no_baseline()
    if asked.ignore_class and not images.has_masks:
        raise InputError(
            f"--ignore-class is for masks, and {images.source} has none", "Leave it away."
        )
    return images.ignoring(asked.ignore_class) if asked.ignore_class else images


def prove(source: Artifact, images: ImageSet, asked: Asked, progress: Progress) -> ValidateReport:
    """Judge an engine artifact on an evaluation set, against FP32 and against a baseline.

    The baseline asked for is written where everything passed. Errors: InputError where something
    does not fit, before minutes of work where it can be told by then.
    """
    from edgedense import validate as stage
    from edgedense.artifact import calibration_content
    from edgedense.engines.reference import require_labels

    require_labels(images)
    remembered = stage.read_baseline(asked.baseline) if asked.baseline else None
    _check(asked)
    with opened(source) as runner:
        who = _identity(source, runner, remembered, asked)
        with joined():
            found = stage.validate(
                runner,
                images,
                params.choose_preprocess(None, source.manifest.preprocess, images),
                reference_of(source, asked.reference),
                stage.ValidateOptions(max_drop_pp=asked.max_drop),
                calibration=calibration_content(source),
                progress=progress,
            )
        # the other processes have finished: they would disturb the timing
        timed = _compared(runner, source, asked, progress)
        if timed is not None and asked.min_speedup is not None:
            found = found.sped_up(timed.speedup, asked.min_speedup)
        if who is None:
            return found
        current = stage.baseline_of(found, who, _timing(runner, remembered, asked, progress))
    return _held(found, current, remembered, asked, progress)


def _identity(
    source: Artifact, runner: Runner, remembered: Baseline | None, asked: Asked
) -> Identity | None:
    """Who the engine is; None where no baseline is in play. A stranger's baseline is refused."""
    from edgedense import validate as stage
    from edgedense.benchmark import describe_device

    if not asked.remembers:
        return None
    who = stage.identity_of(source, describe_device(), getattr(runner, "gpu", None))
    if remembered is not None and not asked.force:
        stage.refuse_strangers(who, remembered)
    return who


def _held(
    found: ValidateReport,
    current: Baseline,
    remembered: Baseline | None,
    asked: Asked,
    progress: Progress,
) -> ValidateReport:
    """The same held against the baseline; what passes is written where that is asked."""
    from edgedense import validate as stage

    if remembered is not None:
        judged = stage.compare_baseline(current, remembered, asked.tolerance, force=asked.force)
        found = found.judged_also(judged)
    if asked.write_baseline is not None:
        if found.verdict == "pass":
            stage.write_baseline(asked.write_baseline, current)
            progress.say(f"baseline: {asked.write_baseline}")
        else:
            progress.say(f"no baseline written: the verdict is {found.verdict}")
    return found


def _check(asked: Asked) -> None:
    """What is out of range, or cannot be done, is told before anything runs."""
    from edgedense.validate import ValidateOptions

    _ = asked.tolerance
    if asked.min_speedup is None:
        return
    ValidateOptions(min_speedup=asked.min_speedup)
    if asked.reference is None:
        raise InputError(
            "--min-speedup measures against FP32 PyTorch, which needs the network",
            "Give it with --reference MODEL.",
        )


def _compared(
    runner: Runner, source: Artifact, asked: Asked, progress: Progress
) -> ComparisonReport | None:
    from edgedense.benchmark import BenchmarkOptions, compare

    if asked.min_speedup is None or asked.reference is None:
        return None
    options = BenchmarkOptions(batch=_least_batch(runner))
    return compare(runner, fp32_of(asked.reference, source), options, progress=progress)


def _timing(
    runner: Runner,
    remembered: Baseline | None,
    asked: Asked,
    progress: Progress,
) -> Timing | None:
    """Median latency, alone on the machine; None where nobody will look at it.

    The turns of a comparison are no substitute: another engine ran between them.
    """
    from edgedense.benchmark import BenchmarkOptions, benchmark
    from edgedense.stats import percentile_interval
    from edgedense.validate import Timing

    wanted = remembered is None or remembered.timing is not None or asked.write_baseline
    if not asked.latency or not wanted:
        return None
    report = benchmark(
        runner,
        BenchmarkOptions(
            batch=_least_batch(runner),
            iterations=_BASELINE_CALLS,
            min_seconds=_BASELINE_SECONDS,
            max_seconds=_BASELINE_LONGEST_SECONDS,
        ),
        progress=progress,
    )
    if not report.stable:
        progress.say(f"  {' '.join(report.notes)}")
    interval = percentile_interval(report.samples_ms, 0.50)
    p50_ms = report.p50_ms
    if p50_ms is None or interval is None:
        return None
    return Timing(report.batch, p50_ms, interval, report.stable)


def _least_batch(runner: Runner) -> int:
    return runner.interface.batch[0] if runner.interface.batch else 1
