"""The points of a sweep, and the stages that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from edgedense.benchmark import BenchmarkOptions
from edgedense.build.options import PRECISIONS
from edgedense.data import Preprocess, load_set
from edgedense.densenet.checkpoints import load_model
from edgedense.errors import InputError
from edgedense.latency.kernels import Precision
from edgedense.pipeline.steps import REHEARSAL, DeployOptions, Inputs, accuracy_steps
from edgedense.prune import PruneOptions
from edgedense.quantize import QuantizeOptions
from edgedense.quantize.options import Effort, Placement
from edgedense.run import Done, Step
from edgedense.targets import find_target
from edgedense.validate import ValidateOptions

REFERENCE = "reference"
_PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
_EFFORTS: tuple[Effort, ...] = get_args(Effort)


@dataclass(frozen=True)
class Sources:
    """Where the inputs of a sweep lie: every process reads them itself."""

    model: Path
    calibration: Path
    evaluation: Path
    preprocess: Preprocess


def read_inputs(sources: Sources) -> Inputs:
    """The inputs themselves. Errors: InputError as their readers."""
    return Inputs(
        load_model(sources.model),
        load_set(sources.calibration),
        load_set(sources.evaluation),
        sources.preprocess,
    )


@dataclass(frozen=True)
class Point:
    """One network of a sweep; what is not INT8 has neither placement nor effort."""

    macs: float
    precision: Precision
    placement: Placement | None = None
    effort: Effort | None = None

    @property
    def name(self) -> str:
        """Such as ``0.7-int8-block``."""
        words = [f"{self.macs:g}", self.precision, *([self.placement] if self.placement else [])]
        return "-".join([*words, *_unusual(self.effort)])


@dataclass(frozen=True)
class SweepOptions:
    """Which points to make: all combinations, but only INT8 has placements and efforts.

    ``macs`` are shares, above 0 and at most 1 (which is the network as it is). ``targets`` get a
    predicted latency. ``prune`` and ``quantize`` are what all points have in common. Errors:
    InputError for values that cannot work.
    """

    macs: tuple[float, ...] = (1.0, 0.7, 0.57)
    placements: tuple[Placement, ...] = _PLACEMENTS
    precisions: tuple[Precision, ...] = ("int8",)
    efforts: tuple[Effort, ...] = ("default",)
    targets: tuple[str, ...] = ()
    batch: tuple[int, int, int] = (1, 1, 8)
    prune: PruneOptions = field(default_factory=PruneOptions)
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    benchmark: BenchmarkOptions = field(default_factory=BenchmarkOptions)

    def __post_init__(self) -> None:
        for name in ("macs", "placements", "precisions", "efforts"):
            if not getattr(self, name):
                raise InputError(f"no {name} are given", "Give one or more, separated by commas.")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise InputError(
                    f"there is no precision {precision!r}", f"Use one of {', '.join(PRECISIONS)}."
                )
        self.names()
        for point in self.points():
            self.deploy(point).build(REHEARSAL)

    def names(self) -> tuple[str, ...]:
        """The targets under their own names, each once. Errors: InputError for unknown ones."""
        found = tuple(dict.fromkeys(find_target(target).name for target in self.targets))
        if REHEARSAL in found:
            raise InputError(
                f"--target {REHEARSAL}: its latency is measured, there is nothing to predict",
                "Leave it away.",
            )
        return found

    def points(self) -> tuple[Point, ...]:
        """All points, each once, the largest networks first."""
        # two shares that read the same are the same
        shares = sorted({float(f"{share:g}") for share in self.macs}, reverse=True)
        return tuple(
            dict.fromkeys(
                Point(share, precision, *rest)
                for share in shares
                for precision in self.precisions
                for rest in (self._ways() if precision == "int8" else [(None, None)])
            )
        )

    def _ways(self) -> list[tuple[Placement, Effort]]:
        return [(placement, effort) for placement in self.placements for effort in self.efforts]

    def quantized(self, point: Point) -> tuple[Placement, Effort]:
        """How the ``quantize`` stage goes that a point's ONNX file comes from.

        FP16 and FP32 files lie beside every INT8 file and are the same: the first one serves.
        """
        if point.placement is not None and point.effort is not None:
            return point.placement, point.effort
        if "int8" not in self.precisions:
            return "conv", "fast"
        return min(
            self._ways(), key=lambda way: (_PLACEMENTS.index(way[0]), _EFFORTS.index(way[1]))
        )

    def deploy(self, point: Point) -> DeployOptions:
        """The same as one deployment without latency."""
        placement, effort = self.quantized(point)
        return DeployOptions(
            targets=(REHEARSAL,),
            precision=point.precision,
            batch=self.batch,
            prune=None if point.macs == 1 else replace(self.prune, macs=point.macs, params=None),
            quantize=replace(self.quantize, placement=placement, effort=effort),
            validate=ValidateOptions(),
        )

    def stages(self, point: Point) -> dict[str, str]:
        """Names in the sweep of one deployment's stages; points share what has the same name."""
        placement, effort = self.quantized(point)
        words = ["quantize", f"{point.macs:g}", placement, *_unusual(effort)]
        return {
            REFERENCE: REFERENCE,
            "prune": f"prune-{point.macs:g}",
            "quantize": "-".join(words),
            f"engine-{REHEARSAL}": f"engine-{point.name}",
            f"validate-{REHEARSAL}": f"validate-{point.name}",
        }


def _unusual(effort: Effort | None) -> list[str]:
    return [] if effort in (None, "default") else [str(effort)]


def point_steps(inputs: Inputs, options: SweepOptions, point: Point) -> Iterator[Step]:
    """The steps to one point's accuracy, under their names in the sweep."""
    names = options.stages(point)
    for step in accuracy_steps(inputs, options.deploy(point)):
        yield _renamed(step, names)


def _renamed(step: Step, names: Mapping[str, str]) -> Step:
    def make(done: Done, directory: Path) -> object:
        return step.make({name: done[names[name]] for name in step.after}, directory)

    after = tuple(names[name] for name in step.after)
    return replace(step, name=names[step.name], after=after, make=make)
