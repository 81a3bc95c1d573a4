"""``sweep``: several networks in one run, each stage made once and kept."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.densenet.count import describe
from edgedense.densenet.specs import spec_from_dict
from edgedense.errors import InputError
from edgedense.latency import predict
from edgedense.pipeline.deploy import Planned
from edgedense.pipeline.outcome import ANSWER, PointReport, SweepReport, markdown, starred
from edgedense.pipeline.parallel import Parallel
from edgedense.pipeline.points import Point, Sources, SweepOptions
from edgedense.pipeline.steps import REHEARSAL
from edgedense.pipeline.timing import LATENCY
from edgedense.pipeline.work import Work
from edgedense.progress import SILENT, Progress
from edgedense.targets import find_target

JSON_FILE, PAGE_FILE = "sweep.json", "sweep.md"


@dataclass(frozen=True)
class SweepPlan:
    """What :func:`sweep` would do; ``seconds`` of one job's time, None where nothing tells it.

    ``cached`` are the points whose accuracy is known; ``seconds`` go by what pruning and
    quantizing took for other points of this run.
    """

    points: tuple[Point, ...]
    cached: tuple[str, ...]
    stages: tuple[Planned, ...]
    seconds: float | None


def sweep(
    sources: Sources,
    destination: Path,
    options: SweepOptions,
    parallel: Parallel | None = None,
    progress: Progress = SILENT,
) -> SweepReport:
    """Make all points of ``options`` into the run directory ``destination``, several at a time.

    Finished stages are not repeated. A point that cannot be made does not keep the others from
    being made. Latency is measured at the end, when nothing else runs. Its processes load the
    calling script too, which needs ``if __name__ == "__main__":`` as multiprocessing wants it.
    Errors: InputError for inputs that do not fit together, before any work; MachineError where a
    process was killed.
    """
    parallel = parallel or Parallel()
    parallel.check()
    work = Work.prepare(sources, destination, options, progress)
    for name in work.done:
        progress.say(f"{name}: unchanged, reused")
    reused = tuple(work.done)
    with contextlib.closing(work.make(parallel)) as making:
        for line in progress.track(making, "stages", len(work.steps) - len(reused)):
            if line:
                progress.say(line)
    timed, was_kept = work.time()
    report = _report(work, timed, (*reused, LATENCY) if was_kept else reused)
    if others := _points_of(destination) - {point.name for point in report.points}:
        progress.say(
            f"{PAGE_FILE} and {JSON_FILE} now tell of these points alone. Of the call before, "
            f"{', '.join(sorted(others))} keep their stages: name all to compare all"
        )
    with artifact.disk_errors(destination):
        artifact.write_json(destination / JSON_FILE, report.to_dict())
        artifact.write_whole(destination / PAGE_FILE, markdown(report).encode())
    return report


def _points_of(destination: Path) -> set[str]:
    """Points of the table that an earlier call wrote."""
    try:
        kept = json.loads((destination / JSON_FILE).read_text(encoding="utf-8"))
        return {str(point["name"]) for point in kept["points"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def plan_sweep(
    sources: Sources, destination: Path, options: SweepOptions, progress: Progress = SILENT
) -> SweepPlan:
    """What :func:`sweep` would do, with all checks of the inputs and none of the work."""
    work = Work.prepare(sources, destination, options, progress)
    stages = [Planned(step.name, step.what, step.name in work.done) for step in work.steps.values()]
    engines = work.engines()
    kept = len(engines) == len(work.points) and work.run.reusable(work.latency(engines), work.done)
    what = f"latency of {len(work.points)} engines and FP32 PyTorch, taking turns"
    return SweepPlan(
        points=work.points,
        cached=tuple(p.name for p in work.points if f"validate-{p.name}" in work.done),
        stages=(*stages, Planned(LATENCY, what, bool(kept))),
        seconds=work.estimate(),
    )


def _report(work: Work, timed: dict[str, Any], reused: tuple[str, ...]) -> SweepReport:
    spec, size = work.inputs.model.spec, work.inputs.preprocess.input_size
    whole = describe(spec, size)
    rows = [_row(work, point, timed) for point in work.points]
    judged_on, points = starred(rows, work.options.names())
    references = [
        stage.manifest.report["reference"]
        for name, stage in work.done.items()
        if name.startswith("validate-")
    ]
    return SweepReport(
        run=str(work.run.path),
        task=spec.task,
        judged_on=judged_on,
        fp32={
            "macs": whole["macs"],
            "params": whole["params"],
            "accuracy": references[0][ANSWER[spec.task][0]] if references else None,
            "latency_ms": timed["against"]["p50_ms"] if timed else None,
        },
        points=points,
        reused=reused,
    )


def _row(work: Work, point: Point, timed: dict[str, Any]) -> PointReport:
    stages = work.options.stages(point)
    if point.macs == 1:
        del stages["prune"]
    asked = PointReport(
        name=point.name,
        share=point.macs,
        precision=point.precision,
        placement=point.placement,
        effort=point.effort,
        stages={kind.removesuffix(f"-{REHEARSAL}"): name for kind, name in stages.items()},
        predicted_ms=dict.fromkeys(work.options.names()),
    )
    last = stages[f"validate-{REHEARSAL}"]
    if last not in work.done:
        why = work.failed[last]
        return replace(asked, failed=f"{why.what}. {why.remedy}".strip())
    quantized = work.done[stages["quantize"]]
    validated, clocked = work.done[last].manifest.report, timed["points"][point.name]
    drop_ci95, speedup_ci95 = validated["drop_ci95"], clocked["speedup_ci95"]
    return replace(
        asked,
        macs=quantized.fact("model", "macs"),
        params=quantized.fact("model", "params"),
        accuracy=validated["engine"][ANSWER[work.inputs.model.spec.task][0]],
        drop_pp=validated["drop_pp"],
        drop_ci95=(drop_ci95[0], drop_ci95[1]) if drop_ci95 else None,
        agreement=validated["agreement"],
        logit_sqnr_db=validated["logit_sqnr_db"],
        onnx_bytes=quantized.manifest.files[_gpu_file(work.options, point)].bytes,
        engine_bytes=work.done[stages[f"engine-{REHEARSAL}"]].fact("report", "engine_bytes"),
        latency_ms=clocked["p50_ms"],
        speedup=clocked["speedup"],
        speedup_ci95=(speedup_ci95[0], speedup_ci95[1]),
        stable=clocked["stable"],
        predicted_ms={t: _predicted_ms(work, point, quantized, t) for t in asked.predicted_ms},
    )


def _gpu_file(options: SweepOptions, point: Point) -> str:
    rest = options.quantize.rest
    return f"int8.{rest}.onnx" if point.precision == "int8" else f"{point.precision}.onnx"


def _predicted_ms(work: Work, point: Point, quantized: Artifact, target: str) -> float | None:
    try:
        return predict(
            spec_from_dict(quantized.fact("model", "spec")),
            work.inputs.preprocess.input_size,
            find_target(target),
            precision=point.precision,
            placement=point.placement or "conv",
            batch=work.options.benchmark.batch,
        ).latency_ms
    except InputError:  # the target's rates are not known
        return None
