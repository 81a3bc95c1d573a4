"""The whole job: a checkpoint in, engines with their evidence out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedense.artifact import REFERENCE_FILE, Artifact
from edgedense.data import content_hashes, refuse_overlap
from edgedense.densenet.checkpoints import check_channels
from edgedense.engines.reference import check_classes, load_reference, require_labels
from edgedense.pipeline.outcome import ANSWER
from edgedense.pipeline.steps import REHEARSAL, DeployOptions, Inputs, steps
from edgedense.progress import SILENT, Progress
from edgedense.quantize import QuantizeOptions, draw_calibration
from edgedense.run import Run, Step


@dataclass(frozen=True)
class Planned:
    """One line of the plan: a stage, what it does, and whether an earlier result serves."""

    stage: str
    what: str
    reused: bool


@dataclass(frozen=True)
class DeployReport:
    """What came out: the verdict on what ran here, and every stage's report.

    ``task`` is classification or segmentation; ``judged_on`` are the targets whose engines ran
    here. ``elsewhere`` tells, for each stage that this machine cannot do, why and what to run
    where.
    """

    run: str
    task: str
    verdict: str
    reasons: tuple[str, ...]
    judged_on: tuple[str, ...]
    stages: dict[str, dict[str, Any]]
    reused: tuple[str, ...]
    elsewhere: dict[str, str]

    @property
    def answer(self) -> tuple[str, str]:
        """What accuracy is called in a report, and by people."""
        return ANSWER[self.task]

    @property
    def exit_code(self) -> int:
        """0 passed; 1 a gate failed; 3 a target's engine must be built on another machine."""
        if self.verdict != "pass":
            return 1
        return 3 if any(name.startswith("engine-") for name in self.elsewhere) else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def deploy(
    inputs: Inputs, destination: Path, options: DeployOptions, progress: Progress = SILENT
) -> DeployReport:
    """Run all stages into the run directory ``destination``; finished stages are not repeated.

    Errors: InputError for inputs that do not fit together, before any work is done.
    """
    run = Run(destination)
    done: dict[str, Artifact] = {}
    reused, elsewhere = run.work(_checked(inputs, run, options, progress), done, progress)
    run.note(_asked(inputs, options))
    return _report(inputs.model.spec.task, destination, done, reused, elsewhere)


def plan(
    inputs: Inputs, destination: Path, options: DeployOptions, progress: Progress = SILENT
) -> list[Planned]:
    """What :func:`deploy` would do, with all checks of the inputs and none of the work."""
    run = Run(destination)
    done: dict[str, Artifact] = {}
    planned = []
    for step in _checked(inputs, run, options, progress):
        if found := run.reusable(step, done):
            done[step.name] = found
        planned.append(Planned(step.name, step.what, step.name in done))
    return planned


def _asked(inputs: Inputs, options: DeployOptions) -> dict[str, Any]:
    return {
        "targets": list(options.names()),
        "precision": options.precision,
        "batch": list(options.batch),
        "max_drop_pp": options.validate.max_drop_pp,
        "min_speedup": options.validate.min_speedup,
        "evaluation": str(Path(inputs.evaluation.source).absolute()),
    }


def _checked(
    inputs: Inputs, run: Run, options: DeployOptions, progress: Progress
) -> Iterator[Step]:
    """The steps, once the inputs were seen to fit together."""
    chain = list(steps(inputs, options, progress))
    check_inputs(inputs, run, chain[0], options.quantize, progress)
    yield from chain


def check_inputs(
    inputs: Inputs,
    run: Run,
    reference: Step,
    quantize: QuantizeOptions,
    progress: Progress = SILENT,
) -> None:
    """Raise InputError unless the inputs fit together; ``reference`` is the first step."""
    check_channels(inputs.model.spec, inputs.preprocess.channels)
    check_classes(inputs.interface, inputs.evaluation)
    require_labels(inputs.evaluation)
    sample = draw_calibration(inputs.calibration, quantize)
    if recorded := run.reusable(reference, {}):
        evaluation = load_reference(recorded.file(REFERENCE_FILE)).content
    else:
        evaluation = content_hashes(inputs.evaluation, inputs.preprocess, progress=progress)
    refuse_overlap(
        content_hashes(sample, inputs.preprocess, progress=progress),
        evaluation,
        [item.name for item in sample.items],
        [item.name for item in inputs.evaluation.items],
    )


def _report(
    task: str,
    destination: Path,
    done: dict[str, Artifact],
    reused: tuple[str, ...],
    elsewhere: dict[str, str],
) -> DeployReport:
    stages = {name: made.manifest.report for name, made in done.items()}
    judged = [name.removeprefix("validate-") for name in stages if name.startswith("validate-")]
    verdicts = {target: stages[f"validate-{target}"]["verdict"] for target in judged}
    real = [target for target in judged if target != REHEARSAL] or judged
    found = [verdicts[target] for target in real]
    worst = next((v for v in ("fail", "inconclusive", "pass") if v in found), "inconclusive")
    reasons = tuple(
        f"{target}: {reason}"
        for target in real
        for reason in stages[f"validate-{target}"]["reasons"]
    )
    return DeployReport(
        run=str(destination),
        task=task,
        verdict=worst,
        reasons=reasons,
        judged_on=tuple(real),
        stages=stages,
        reused=reused,
        elsewhere=elsewhere,
    )
