"""The stages of a sweep being made: what is there, what is left, what could not be."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.pipeline.deploy import check_inputs
from edgedense.pipeline.parallel import Failure, Job, Parallel, started
from edgedense.pipeline.points import (
    REFERENCE,
    Point,
    Sources,
    SweepOptions,
    point_steps,
    read_inputs,
)
from edgedense.pipeline.steps import Inputs
from edgedense.pipeline.timing import latency_step
from edgedense.progress import Progress
from edgedense.run import Run, Step


@dataclass(frozen=True)
class Work:
    """The stages of all points: ``steps`` in an order in which they can be made, ``owner`` of each.

    ``done`` and ``failed`` grow while they are made.
    """

    sources: Sources
    inputs: Inputs
    options: SweepOptions
    run: Run
    progress: Progress
    points: tuple[Point, ...]
    steps: dict[str, Step] = field(default_factory=dict)
    owner: dict[str, Point] = field(default_factory=dict)
    done: dict[str, Artifact] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls, sources: Sources, destination: Path, options: SweepOptions, progress: Progress
    ) -> Work:
        """Everything checked, and what an earlier call finished found again."""
        sources = replace(
            sources,
            model=sources.model.absolute(),
            calibration=sources.calibration.absolute(),
            evaluation=sources.evaluation.absolute(),
        )
        inputs, run = read_inputs(sources), Run(destination.absolute())
        work = cls(sources, inputs, options, run, progress, options.points())
        for point in work.points:
            for step in point_steps(inputs, options, point):
                if step.name not in work.steps:
                    work.steps[step.name], work.owner[step.name] = step, point
        check_inputs(inputs, run, work.steps[REFERENCE], options.quantize, progress)
        for step in work.steps.values():
            if found := run.reusable(step, work.done):
                work.done[step.name] = found
        return work

    def make(self, parallel: Parallel) -> Generator[str, None, None]:
        """Make what is missing, each stage as soon as those are there that it reads.

        Yields a line of news a stage, empty for one that others have kept from being made.
        """
        rest = {name: step for name, step in self.steps.items() if name not in self.done}
        order = TopologicalSorter({name: rest.keys() & step.after for name, step in rest.items()})
        order.prepare()
        flying: dict[Future[Failure | None], Step] = {}
        if not rest:
            return
        try:
            with started(parallel) as submit:
                while order.is_active():
                    for name in order.get_ready():
                        step = rest[name]
                        cause = next((n for n in step.after if n in self.failed), None)
                        if cause is not None:
                            self.failed[name] = self.failed[cause]
                            order.done(name)
                            yield ""
                            continue
                        self.run.begin(step)
                        flying[submit(self._job(step))] = step
                    for future in wait(flying, return_when=FIRST_COMPLETED).done:
                        yield self._ended(future.result(), flying[future])
                        order.done(flying.pop(future).name)
        finally:
            for step in flying.values():
                self.run.tidy(step)

    def _job(self, step: Step) -> Job:
        key, point = artifact.sha256_json(step.key), self.owner[step.name]
        return Job(self.sources, self.options, point, step.name, key, self.run.path)

    def _ended(self, failure: Failure | None, step: Step) -> str:
        if failure is None:
            self.done[step.name] = self.run.finish(step, self.done)
            return f"{step.name}: {step.what}"
        if failure.fatal:
            raise failure.error
        self.failed[step.name] = failure
        return f"{step.name}: failed: {failure.what}"

    def engines(self) -> dict[str, str]:
        """The engine stage of each point that has one."""
        stages = {point.name: f"engine-{point.name}" for point in self.points}
        return {name: stage for name, stage in stages.items() if stage in self.done}

    def latency(self, engines: dict[str, str]) -> Step:
        """The step that times ``engines``."""
        return latency_step(self.inputs, engines, self.options.benchmark, self.progress)

    def time(self) -> tuple[dict[str, Any], bool]:
        """The report of the latencies, and whether an earlier one served; empty without engines."""
        engines = self.engines()
        if not engines:
            return {}, False
        step = self.latency(engines)
        if found := self.run.reusable(step, self.done):
            self.progress.say(f"{step.name}: unchanged, reused")
            return found.manifest.report, True
        self.progress.say(f"{step.name}: {step.what}")
        return self.run.complete(step, self.done).manifest.report, False

    def estimate(self) -> float | None:
        """Seconds of pruning and quantizing that are left, by the mean of what is done."""
        total = 0.0
        for kind in ("prune-", "quantize-"):
            names = [name for name in self.steps if name.startswith(kind)]
            took = [self.done[n].manifest.report["seconds"] for n in names if n in self.done]
            left = len(names) - len(took)
            if left and not took:
                return None
            total += left * sum(took) / max(len(took), 1)
        return total
