"""The stages of ``run-bundle`` on the device, each with what decides its result."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgedense import artifact, benchmark, validate
from edgedense.artifact import Artifact
from edgedense.benchmark import BenchmarkOptions, BenchmarkReport, ComparisonReport, Subject
from edgedense.build import build_engine
from edgedense.bundle.archive import Bundle
from edgedense.bundle.evaluation import check_images, load_evaluation
from edgedense.bundle.form import EVALUATION, QUANTIZE, Contents
from edgedense.data import Preprocess
from edgedense.engines.opening import open_engine
from edgedense.engines.reference import load_reference
from edgedense.environment import version
from edgedense.progress import Progress
from edgedense.run import Done, Step
from edgedense.stats import Estimate
from edgedense.targets import find_target


@dataclass(frozen=True)
class Timing:
    """How latency is measured: in ``repeats`` fresh processes an engine, with 1 in this one."""

    options: BenchmarkOptions
    repeats: int = 6


def bundle_steps(
    bundle: Bundle,
    target: str,
    timing: Timing | None,
    done: Mapping[str, Artifact],
    progress: Progress,
) -> Iterator[Step]:
    """The steps in their order; ``done`` fills while they are made.

    Without the engine to compare with, which may be impossible here, no speed-up is measured.
    """
    timing = timing or Timing(BenchmarkOptions(batch=bundle.contents.batch[0]))
    chain = _Chain(bundle, target, timing, progress)
    yield chain.quantize()
    yield chain.evaluation()
    yield chain.engine(f"engine-{target}", bundle.contents.precision)
    peer = peer_of(bundle.contents, target)
    if peer and bundle.contents.against:
        asked = bundle.contents.min_speedup is not None
        yield chain.engine(peer, bundle.contents.against, optional=not asked)
    yield chain.benchmark(peer if peer in done else None)
    yield chain.validate()


def peer_of(contents: Contents, target: str) -> str | None:
    """Name of the stage of the engine that the speed-up is measured against."""
    return f"engine-{target}-{contents.against}" if contents.against else None


@dataclass(frozen=True)
class _Chain:
    bundle: Bundle
    target: str
    timing: Timing
    progress: Progress

    def quantize(self) -> Step:
        def make(done: Done, directory: Path) -> None:
            self.bundle.extract(QUANTIZE, directory, self.progress)

        key = {"manifest": self.bundle.manifest_sha256(QUANTIZE)}
        return Step(QUANTIZE, "unpack and verify the network", (), key, make)

    def evaluation(self) -> Step:
        def make(done: Done, directory: Path) -> None:
            self.bundle.extract(EVALUATION, directory, self.progress)
            quantized = done[QUANTIZE]
            try:
                check_images(
                    load_evaluation(artifact.read(directory)),
                    Preprocess.from_dict(quantized.manifest.preprocess),
                    load_reference(quantized.file(artifact.REFERENCE_FILE)),
                    self.progress,
                )
            except BaseException:
                shutil.rmtree(directory)
                raise

        contents = self.bundle.contents
        part = f" of {contents.images_of}" if contents.images < contents.images_of else ""
        what = f"unpack and verify {contents.images}{part} evaluation images"
        key = {"manifest": self.bundle.manifest_sha256(EVALUATION)}
        return Step(EVALUATION, what, (QUANTIZE,), key, make)

    def engine(self, name: str, precision: str, optional: bool = False) -> Step:
        options = self.bundle.contents.build(self.target, precision)

        def make(done: Done, directory: Path) -> None:
            build_engine(done[QUANTIZE], directory, options, self.progress)

        key = {**options.to_dict(), "runtime": version(find_target(self.target).module)}
        what = f"{precision} engine for {self.target}"
        return Step(name, what, (QUANTIZE,), key, make, optional=optional)

    def benchmark(self, peer: str | None) -> Step:
        own, contents = f"engine-{self.target}", self.bundle.contents
        names = {own: f"{self.target} {contents.precision} engine"}
        if peer:
            names[peer] = f"{self.target} {contents.against} engine"

        def make(done: Done, directory: Path) -> None:
            subjects = [Subject(done[stage].path, name) for stage, name in names.items()]
            found = self._measure(subjects[0], subjects[1] if peer else None)
            roles = zip(("engine", "against"), names, strict=False)
            benchmark.write_report(
                directory,
                found,
                parents={role: done[stage].sha256 for role, stage in roles},
                options={**asdict(self.timing.options), "repeats": self.timing.repeats},
                seed=self.timing.options.seed,
            )

        beside = f", in turns with {contents.against}" if peer else ""
        key = {"timing": asdict(self.timing), "machine": _machine()}
        return Step(f"benchmark-{self.target}", f"latency{beside}", tuple(names), key, make)

    def _measure(self, own: Subject, peer: Subject | None) -> BenchmarkReport | ComparisonReport:
        options, repeats, progress = self.timing.options, self.timing.repeats, self.progress
        if repeats > 1 and peer:
            return benchmark.compare_fresh(own, peer, options, repeats, progress=progress)
        if repeats > 1:
            return benchmark.benchmark_fresh(own, options, repeats, progress=progress)
        with contextlib.ExitStack() as stack:
            runner = stack.enter_context(own.opened())
            if peer is None:
                return benchmark.benchmark(runner, options, name=own.name, progress=progress)
            names, other = (own.name, peer.name), stack.enter_context(peer.opened())
            return benchmark.compare_all([runner], other, options, names=names, progress=progress)[
                0
            ]

    def validate(self) -> Step:
        gates, timed = self.bundle.contents.gates(), f"benchmark-{self.target}"
        own = f"engine-{self.target}"

        def make(done: Done, directory: Path) -> None:
            engine, evaluation = done[own], done[EVALUATION]
            with contextlib.closing(open_engine(engine)) as runner:
                report = validate.validate(
                    runner,
                    load_evaluation(evaluation),
                    Preprocess.from_dict(engine.manifest.preprocess),
                    load_reference(engine.file(artifact.REFERENCE_FILE)),
                    gates,
                    calibration=artifact.calibration_content(engine),
                    speedup=_speedup(done[timed]),
                    progress=self.progress,
                )
            validate.write_report(
                directory,
                report,
                parents={"engine": engine.sha256, "data": evaluation.sha256},
                options=asdict(gates),
                preprocess=engine.manifest.preprocess,
            )

        what = "accuracy against the recorded FP32 logits, judged"
        after = (own, EVALUATION, timed)
        return Step(f"validate-{self.target}", what, after, {"options": asdict(gates)}, make)


def _machine() -> dict[str, object]:
    """What a latency depends on, without what changes from minute to minute."""
    found = benchmark.describe_device()
    return {key: found.get(key) for key in ("name", "board", "cpu", "cores")}


def _speedup(benchmarked: Artifact) -> Estimate | None:
    found = benchmarked.manifest.report
    return Estimate(found["speedup"], *found["speedup_ci95"]) if "speedup" in found else None
