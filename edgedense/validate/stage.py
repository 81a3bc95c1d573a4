"""The stage itself: measure, then judge."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgedense.data import ImageSet, Preprocess
from edgedense.engines.reference import RecordedReference, is_dense
from edgedense.engines.runner import Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress
from edgedense.stats import Estimate
from edgedense.validate.judge import Gates, judge, judge_speedup
from edgedense.validate.masks import measure_segmentation
from edgedense.validate.measure import measure
from edgedense.validate.plan import Plan, plan
from edgedense.validate.report import ValidateReport


@dataclass(frozen=True)
class ValidateOptions:
    """Gates (None leaves one open) and the number of images run at once.

    ``max_drop_pp`` in percentage points of top-1 or mean IoU, 0 … 100; ``min_speedup`` as a factor.
    """

    max_drop_pp: float | None = 1.0
    min_speedup: float | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.max_drop_pp is not None and not 0 <= self.max_drop_pp <= 100:
            raise InputError(
                f"--max-drop {self.max_drop_pp:g} is not in 0 … 100",
                "Give percentage points, such as 1.0.",
            )
        if self.min_speedup is not None and not 0 < self.min_speedup < float("inf"):
            raise InputError(
                f"--min-speedup {self.min_speedup:g} is not a positive factor",
                "Give a factor, such as 1.5.",
            )
        if self.batch_size < 1:
            raise InputError(f"batch {self.batch_size} is less than 1", "Give 1 or more.")

    @property
    def gates(self) -> Gates:
        """The gates alone."""
        return Gates(self.max_drop_pp, self.min_speedup)


def validate(
    engine: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    reference: Runner | RecordedReference | None,
    options: ValidateOptions | None = None,
    *,
    calibration: Collection[str] = (),
    speedup: Estimate | None = None,
    progress: Progress = SILENT,
) -> ValidateReport:
    """Prove an engine against its reference on an evaluation set, and judge it.

    Images with labels for a classifier, with masks for a segmentation network. ``reference`` is
    the FP32 model or what it recorded (no torch needed); None leaves accuracy and a baseline only.
    Before it runs anything it says which drops the set can show at all.
    ``calibration`` are content hashes that must not turn up in ``images``. ``speedup`` is what an
    interleaved benchmark measured. Errors: InputError as in
    :func:`edgedense.validate.measure`, and where a speed-up is asked but was not measured.
    """
    options = options or ValidateOptions()
    if options.min_speedup is not None:
        judge_speedup(speedup, options.min_speedup)  # before minutes of work, not after
    foreseen = _plan(images, reference, options)
    for sentence in foreseen.sentences if foreseen else ():
        progress.say(f"  {sentence}")
    run = measure_segmentation if is_dense(engine.interface) else measure
    measured = run(
        engine,
        images,
        preprocess,
        reference,
        calibration=calibration,
        batch_size=options.batch_size,
        progress=progress,
    )
    return ValidateReport(
        engine_name=engine.name,
        reference_name=reference.name if reference is not None else None,
        measured=measured,
        gates=options.gates,
        judgement=judge(measured, options.gates, speedup),
        speedup=speedup,
        plan=foreseen,
    )


def _plan(
    images: ImageSet, reference: Runner | RecordedReference | None, options: ValidateOptions
) -> Plan | None:
    """What the labelled images can show; None where nothing of the kind will be judged."""
    labelled = int((images.labels >= 0).sum())
    if options.max_drop_pp is None or reference is None or not labelled:
        return None
    return plan(labelled, options.max_drop_pp)
