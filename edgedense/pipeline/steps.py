"""The stages of ``deploy`` as a chain of steps, each with what decides its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from edgedense import artifact, benchmark, validate
from edgedense.artifact import Artifact
from edgedense.benchmark import BenchmarkOptions
from edgedense.build import BuildOptions, build_engine
from edgedense.data import ImageSet, Preprocess, set_sha256
from edgedense.densenet.checkpoints import Model, load_model
from edgedense.densenet.count import describe
from edgedense.engines.opening import open_engine
from edgedense.engines.pytorch import TorchRunner, interface_of, reference_runner
from edgedense.engines.reference import (
    load_reference,
    record_reference,
    save_reference,
)
from edgedense.engines.runner import Interface
from edgedense.environment import version
from edgedense.progress import SILENT, Progress
from edgedense.prune import PruneOptions, prune
from edgedense.prune.select import WORDS
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.run import Done, Step
from edgedense.stats import Estimate
from edgedense.targets import find_target
from edgedense.validate import ValidateOptions

REHEARSAL = "cpu"


@dataclass(frozen=True)
class Inputs:
    """What a deployment starts from."""

    model: Model
    calibration: ImageSet
    evaluation: ImageSet
    preprocess: Preprocess

    @cached_property
    def calibration_sha256(self) -> str:
        """Identity of the calibration images, as they were when it was first asked."""
        return set_sha256(self.calibration)

    @cached_property
    def evaluation_sha256(self) -> str:
        """Identity of the evaluation images, as they were when it was first asked."""
        return set_sha256(self.evaluation)

    @property
    def interface(self) -> Interface:
        """Input and output of the FP32 network."""
        return interface_of(self.model.spec, self.preprocess.input_size)

    def runner(self) -> TorchRunner:
        """The FP32 reference."""
        return reference_runner(self.model.network, self.preprocess.input_size)


@dataclass(frozen=True)
class DeployOptions:
    """What to do on the way; ``prune`` None leaves the network whole.

    ``targets`` are built in their order. An engine that cannot run on this machine is judged by a
    rehearsal: the same network on ``cpu``.
    """

    targets: tuple[str, ...]
    precision: str = "int8"
    batch: tuple[int, int, int] = (1, 1, 8)
    prune: PruneOptions | None = None
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    validate: ValidateOptions = field(default_factory=ValidateOptions)
    benchmark: BenchmarkOptions = field(default_factory=BenchmarkOptions)

    def names(self) -> tuple[str, ...]:
        """The targets under their own names, each once. Errors: InputError for unknown ones."""
        return tuple(dict.fromkeys(find_target(target).name for target in self.targets))

    def build(self, target: str) -> BuildOptions:
        """Options of one engine. Errors: InputError for what the target cannot do."""
        rest = None if target == REHEARSAL else self.quantize.rest
        options = BuildOptions(target, self.precision, self.batch, rest=rest)
        options.check()
        return options


def steps(inputs: Inputs, options: DeployOptions, progress: Progress = SILENT) -> Iterator[Step]:
    """The steps in the order of the data."""
    chain = _Chain(inputs, options, progress)
    yield chain.reference()
    if options.prune is not None:
        yield chain.prune(options.prune)
    yield chain.quantize()
    for target in dict.fromkeys((*options.names(), REHEARSAL)):
        yield chain.engine(target)
        yield chain.benchmark(target)
        yield chain.validate(target)


def accuracy_steps(
    inputs: Inputs, options: DeployOptions, progress: Progress = SILENT
) -> Iterator[Step]:
    """Those of them that lead to the accuracy of the ``cpu`` engine; nothing is timed."""
    chain = _Chain(inputs, options, progress)
    yield chain.reference()
    if options.prune is not None:
        yield chain.prune(options.prune)
    yield chain.quantize()
    yield chain.engine(REHEARSAL)
    yield chain.validate(REHEARSAL, timed=False)


@dataclass(frozen=True)
class _Chain:
    inputs: Inputs
    options: DeployOptions
    progress: Progress

    def reference(self) -> Step:
        def make(done: Done, directory: Path) -> None:
            evaluation, preprocess = self.inputs.evaluation, self.inputs.preprocess
            recorded = record_reference(
                self.inputs.runner(), evaluation, preprocess, progress=self.progress
            )
            with artifact.create(
                directory,
                "reference",
                parents={"model": self.inputs.model.sha256, "data": self.inputs.evaluation_sha256},
                options={},
                preprocess=preprocess.to_dict(),
            ) as draft:
                save_reference(draft.path / artifact.REFERENCE_FILE, recorded)
                draft.model = describe(self.inputs.model.spec, preprocess.input_size)
                draft.report = {
                    "samples": len(recorded.content),
                    "params": draft.model["params"],
                    "macs": draft.model["macs"],
                    "artifact": str(directory),
                }

        what = f"FP32 logits of {len(self.inputs.evaluation)} evaluation images"
        key = {**self._model_key(), "data": self.inputs.evaluation_sha256}
        return Step("reference", what, (), key, make)

    def prune(self, options: PruneOptions) -> Step:
        def make(done: Done, directory: Path) -> None:
            inputs = self.inputs
            prune(
                inputs.model,
                inputs.calibration,
                inputs.preprocess,
                directory,
                options,
                self.progress,
            )

        what = f"remove channels down to {options.share:g} of the {WORDS[options.of]}"
        key = {**self._model_key(), **self._calibration_key(), "options": asdict(options)}
        return Step("prune", what, (), key, make)

    def quantize(self) -> Step:
        options = self.options.quantize
        pruned = ("prune",) if self.options.prune else ()

        def make(done: Done, directory: Path) -> None:
            model = load_model(done["prune"].path) if pruned else self.inputs.model
            reference = load_reference(done["reference"].file(artifact.REFERENCE_FILE))
            quantize(
                model,
                self.inputs.calibration,
                self.inputs.preprocess,
                directory,
                options,
                reference,
                self.progress,
            )

        what = f"INT8, ranges by {options.calibrator} from at most {options.images} images"
        key = {**self._model_key(), **self._calibration_key(), "options": asdict(options)}
        return Step("quantize", what, ("reference", *pruned), key, make)

    def engine(self, target: str) -> Step:
        options = self.options.build(target)

        def make(done: Done, directory: Path) -> None:
            build_engine(done["quantize"], directory, options, self.progress)

        what = f"{options.precision} engine for {target}"
        key = {**options.to_dict(), "runtime": version(find_target(target).module)}
        return Step(f"engine-{target}", what, ("quantize",), key, make, optional=True)

    def benchmark(self, target: str) -> Step:
        options = self.options.benchmark

        def make(done: Done, directory: Path) -> None:
            engine = done[f"engine-{target}"]
            runner = open_engine(engine)
            try:
                found = benchmark.compare(
                    runner, self.inputs.runner(), options, progress=self.progress
                )
            finally:
                runner.close()
            benchmark.write_report(
                directory,
                found,
                parents={"engine": engine.sha256, "against": self.inputs.model.sha256},
                options=asdict(options),
                seed=options.seed,
            )

        what = f"latency on {target}, interleaved with FP32 PyTorch"
        machine = {**benchmark.describe_device(), "load_1min": None, "torch": version("torch")}
        key = {**self._model_key(), "options": asdict(options), "machine": machine}
        after = (f"engine-{target}",)
        return Step(f"benchmark-{target}", what, after, key, make, optional=True)

    def validate(self, target: str, timed: bool = True) -> Step:
        options = self.options.validate

        def make(done: Done, directory: Path) -> None:
            engine = done[f"engine-{target}"]
            runner = open_engine(engine)
            try:
                report = validate.validate(
                    runner,
                    self.inputs.evaluation,
                    self.inputs.preprocess,
                    load_reference(engine.file(artifact.REFERENCE_FILE)),
                    options,
                    calibration=artifact.calibration_content(engine),
                    speedup=_speedup(done[f"benchmark-{target}"]) if timed else None,
                    progress=self.progress,
                )
            finally:
                runner.close()
            parents = {"engine": engine.sha256, "data": self.inputs.evaluation_sha256}
            validate.write_report(
                directory,
                report,
                parents=parents,
                options=asdict(options),
                preprocess=self.inputs.preprocess.to_dict(),
            )

        what = f"accuracy on {target} against FP32"
        key = {"data": self.inputs.evaluation_sha256, "options": asdict(options)}
        after = (f"engine-{target}", *((f"benchmark-{target}",) if timed else ()))
        return Step(f"validate-{target}", what, after, key, make, optional=True)

    def _model_key(self) -> dict[str, object]:
        preprocess = self.inputs.preprocess.to_dict()
        return {"model": self.inputs.model.sha256, "preprocess": preprocess}

    def _calibration_key(self) -> dict[str, object]:
        return {"calibration": self.inputs.calibration_sha256}


def _speedup(benchmarked: Artifact) -> Estimate:
    found = benchmarked.manifest.report
    return Estimate(found["speedup"], *found["speedup_ci95"])
