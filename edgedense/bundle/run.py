"""``run-bundle``: unpack, build, benchmark, validate and judge on the device, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgedense.artifact import Artifact
from edgedense.bundle.archive import Bundle
from edgedense.bundle.form import EVALUATION, QUANTIZE, REHEARSAL, options_of
from edgedense.bundle.steps import Timing, bundle_steps, peer_of
from edgedense.environment import has_gpu, require
from edgedense.errors import InputError, MachineError
from edgedense.progress import SILENT, Progress
from edgedense.run import Run, Step
from edgedense.targets import ONNXRUNTIME, find_target


@dataclass(frozen=True)
class RunBundleReport:
    """What came out on this machine: the verdict, and every stage's report.

    ``signed``: None without a signature, else whether it was verified. ``golden_sqnr_db`` is how
    near the engine is to FP32 on the few inputs that travel along, which no decoder has touched
    here. ``left_out`` tells why nothing stands for the speed-up, where that is so.
    """

    run: str
    bundle: str
    sha256: str
    signed: bool | None
    target: str
    task: str
    verdict: str
    reasons: tuple[str, ...]
    golden_sqnr_db: float | None
    stages: dict[str, dict[str, Any]]
    reused: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 where every gate is proved to hold, else 1: what is inconclusive has not passed."""
        return 0 if self.verdict == "pass" else 1

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class PlannedStage:
    """One line of the plan: a stage, what it does, and whether an earlier result serves."""

    stage: str
    what: str
    reused: bool


def run_bundle(
    bundle: Bundle,
    destination: Path,
    target: str | None = None,
    timing: Timing | None = None,
    progress: Progress = SILENT,
) -> RunBundleReport:
    """Prove a bundle on this machine, in the run directory ``destination``.

    Finished stages are not repeated. ``target`` None is that of the bundle.
    Errors: InputError for a target that the bundle is not for; MachineError where this machine is
    not it, or cannot build its engine.
    """
    name = choose_target(bundle, target)
    run, done = Run(destination), dict[str, Artifact]()
    _check_machine(name)
    steps = bundle_steps(bundle, name, timing, done, progress)
    reused, left_out = run.work(steps, done, progress)
    run.note({"bundle": bundle.sha256, **options_of(bundle.contents)})
    return _report(bundle, name, destination, done, reused, left_out)


def plan_bundle(
    bundle: Bundle,
    destination: Path,
    target: str | None = None,
    timing: Timing | None = None,
) -> list[PlannedStage]:
    """What :func:`run_bundle` would do, with all checks and none of the work."""
    name = choose_target(bundle, target)
    run, done = Run(destination), dict[str, Artifact]()
    _check_machine(name)
    return [
        PlannedStage(step.name, step.what, reused)
        for step, reused in _looked_up(bundle, name, timing, run, done)
    ]


def choose_target(bundle: Bundle, asked: str | None) -> str:
    """The target to build: what was asked, or the one of the bundle.

    Errors: InputError where the bundle was packed for others, or for several.
    """
    packed = bundle.contents.targets
    if asked is None:
        if len(packed) == 1:
            return find_target(packed[0]).name
        raise InputError(
            f"{bundle.path} is for several targets: {', '.join(packed)}",
            f"Say which this machine is: --target {packed[0]}",
        )
    name = find_target(asked).name
    if name not in (*packed, REHEARSAL):
        raise InputError(
            f"{bundle.path} was packed for {', '.join(packed)}, not for {name}",
            f"Pack it with --target {name}; {REHEARSAL} is always possible, as a rehearsal.",
        )
    return name


def _check_machine(name: str) -> None:
    if find_target(name).backend == ONNXRUNTIME:
        require("onnxruntime", "an engine for cpu")
    elif not has_gpu():
        raise MachineError(
            f"a bundle for {name} runs on that GPU, and there is none here",
            "Copy the file to that machine, or rehearse here: --target cpu",
        )


def _looked_up(
    bundle: Bundle,
    name: str,
    timing: Timing | None,
    run: Run,
    done: dict[str, Artifact],
) -> Iterator[tuple[Step, bool]]:
    peer = peer_of(bundle.contents, name)
    planned = _Planned(done, peer)
    for step in bundle_steps(bundle, name, timing, planned, SILENT):
        if found := run.reusable(step, done):
            done[step.name] = found
        yield step, step.name in done


class _Planned(Mapping[str, Artifact]):
    """Finished stages, with the engine to compare with as if it were there."""

    def __init__(self, done: Mapping[str, Artifact], peer: str | None) -> None:
        self._done, self._peer = done, peer

    def __getitem__(self, name: str) -> Artifact:
        return self._done[name]

    def __iter__(self) -> Iterator[str]:
        yield from {*self._done, *([self._peer] if self._peer else [])}

    def __len__(self) -> int:
        return len(set(self))

    def __contains__(self, name: object) -> bool:
        return name == self._peer or name in self._done


def _report(
    bundle: Bundle,
    target: str,
    destination: Path,
    done: Mapping[str, Artifact],
    reused: tuple[str, ...],
    left_out: dict[str, str],
) -> RunBundleReport:
    judged = done[f"validate-{target}"].manifest.report
    return RunBundleReport(
        run=str(destination),
        bundle=str(bundle.path),
        sha256=bundle.sha256,
        signed=bundle.signed,
        target=target,
        task=judged["task"],
        verdict=judged["verdict"],
        reasons=tuple(judged["reasons"]),
        golden_sqnr_db=done[f"engine-{target}"].manifest.report.get("golden_sqnr_db"),
        stages={
            name: made.manifest.report
            for name, made in done.items()
            if name not in (QUANTIZE, EVALUATION)
        },
        reused=reused,
        left_out=left_out,
    )
