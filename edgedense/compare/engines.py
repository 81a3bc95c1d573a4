"""Measure two engines on this device: accuracy on the same images, latency in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.benchmark import (
    BenchmarkOptions,
    ComparisonReport,
    compare_fresh,
    engine_subject,
)
from edgedense.compare.report import Contender, Speed, VerdictReport, candidate_first, facts_of
from edgedense.compare.verdict import Terms
from edgedense.data import ImageSet, Preprocess
from edgedense.engines.opening import open_engine
from edgedense.engines.reference import RecordedReference
from edgedense.engines.runner import Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress
from edgedense.validate import ValidateOptions, validate
from edgedense.validate.judge import Measured

ReferenceOf = Callable[[Artifact], Runner | RecordedReference]


@dataclass(frozen=True)
class CompareOptions:
    """The terms, and how long to measure: ``repeats`` of ``benchmark`` in fresh processes each."""

    terms: Terms = field(default_factory=Terms)
    benchmark: BenchmarkOptions = field(default_factory=BenchmarkOptions)
    repeats: int = 6


def compare_engines(
    first: Artifact,
    second: Artifact,
    images: ImageSet,
    preprocess: Preprocess,
    reference_of: ReferenceOf,
    options: CompareOptions | None = None,
    *,
    progress: Progress = SILENT,
) -> VerdictReport:
    """Validate both engines on ``images`` and time them in turns; the smaller precision is judged.

    ``reference_of`` gives the FP32 network of an engine, or what it recorded. Errors: InputError
    where the two do not belong together; those of validation and of the benchmark; MachineError
    where one cannot run here.
    """
    options = options or CompareOptions()
    _check_pair(first, second)
    if not candidate_first(facts_of(first), facts_of(second)):
        first, second = second, first
    sides = [
        _measured(engine, images, preprocess, reference_of, progress) for engine in (first, second)
    ]
    timed = compare_fresh(
        engine_subject(first.path),
        engine_subject(second.path),
        options.benchmark,
        options.repeats,
        progress=progress,
    )
    return VerdictReport(
        candidate=Contender(facts_of(first), sides[0], timed.engine.energy_mj),
        incumbent=Contender(facts_of(second), sides[1], timed.against.energy_mj),
        speed=_speed(timed),
        terms=options.terms,
    )


def _measured(
    engine: Artifact,
    images: ImageSet,
    preprocess: Preprocess,
    reference_of: ReferenceOf,
    progress: Progress,
) -> Measured:
    runner = open_engine(engine)
    try:
        found = validate(
            runner,
            images,
            preprocess,
            reference_of(engine),
            ValidateOptions(max_drop_pp=None),
            calibration=artifact.calibration_content(engine),
            progress=progress,
        )
    finally:
        runner.close()
    return found.measured


def _speed(timed: ComparisonReport) -> Speed:
    sides = timed.engine.to_dict(), timed.against.to_dict()
    return Speed(timed.speedup, timed.rounds, *sides)


def _check_pair(first: Artifact, second: Artifact) -> None:
    if first.sha256 == second.sha256:
        raise InputError(
            f"{first.path} and {second.path} are the same engine", "Give two different ones."
        )
    targets = [engine.fact("report", "target") for engine in (first, second)]
    if targets[0] != targets[1]:
        raise InputError(
            f"{first.path} is for {targets[0]}, but {second.path} for {targets[1]}",
            "Compare engines for one device: edgedense build-engine … --target NAME for both.",
        )
    if first.manifest.preprocess != second.manifest.preprocess:
        raise InputError(
            f"{first.path} and {second.path} take differently prepared images",
            "Build both from one quantize artifact: --precision int8 and --precision fp16.",
        )
