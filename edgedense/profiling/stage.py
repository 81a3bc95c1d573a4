"""The stage itself: which shapes, one after the other, into one table."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact
from edgedense.board import describe_device
from edgedense.engines.runner import Runner
from edgedense.errors import MachineError
from edgedense.graph.nodes import Graph
from edgedense.latency import LatencyTable, Precision, Row, RowKind
from edgedense.profiling.engines import built, check_machine, precisions, runtime_of
from edgedense.profiling.grid import LONG, Shape, chain, networks, shapes
from edgedense.profiling.measure import QUICK, Doubles, Effort, difference_us, interleaved
from edgedense.progress import SILENT, Progress
from edgedense.targets import ONNXRUNTIME, Target

CONVS: dict[int, RowKind] = {1: "conv1x1", 3: "conv3x3"}
# to build one engine, as far as a guess goes
_BUILD_SECONDS = {True: 0.05, False: 8.0}


@dataclass(frozen=True)
class Plan:
    """What would be measured: ``points`` are shapes, each in one precision."""

    target: Target
    points: tuple[tuple[Shape, Precision], ...]
    effort: Effort

    @property
    def engines(self) -> int:
        """Engines to be built."""
        return 1 + sum(2 + shape.has_pass for shape, _ in self.points)

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        build = _BUILD_SECONDS[self.target.backend == ONNXRUNTIME]
        return self.engines * (build + self.effort.seconds)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "target": self.target.name,
            "points": [f"{precision} {shape}" for shape, precision in self.points],
            "engines": self.engines,
            "estimated_seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class ProfileReport:
    """What was measured: ``rows`` of the file ``table``; ``call_us`` is a call's own time.

    ``lost`` rows were not to be told from noise, and are left out.
    """

    target: str
    table: str
    rows: int
    lost: int
    call_us: float
    seconds: float
    runtime: str
    device: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dict(vars(self))


def plan(target: Target, *, quick: bool = False) -> Plan:
    """What :func:`profile_target` measures on ``target``."""
    points = [(shape, p) for p in precisions(target) for shape in shapes(quick=quick)]
    return Plan(target, tuple(points), QUICK if quick else Effort())


def profile_target(planned: Plan, output: Path, progress: Progress = SILENT) -> ProfileReport:
    """Measure on this machine, and write the table ``output``: whole, or not at all.

    Errors: InputError where ``output`` exists, MachineError where this is not the target's device
    or lacks a library.
    """
    artifact.check_absent(output)
    check_machine(planned.target)
    with artifact.disk_errors(output.parent):  # now, not after the measurement
        output.parent.mkdir(parents=True, exist_ok=True)
    minutes = math.ceil(planned.seconds / 60)
    progress.say(f"{planned.engines} engines, about {minutes} minute{'s' * (minutes > 1)}")
    began, device = time.perf_counter(), describe_device()  # its load, before ours
    call_us = _call_us(planned)
    rows: list[Row] = []
    label = f"measure {planned.target.name}"
    lost = 0
    for shape, precision in progress.track(planned.points, label, len(planned.points)):
        found = measured(shape, precision, planned)
        lost += 1 + shape.has_pass - len(found)
        rows += found
    if not rows:
        raise MachineError(
            "every difference is lost in the noise", "Measure while nothing else runs here."
        )
    runtime = runtime_of(planned.target)
    table = LatencyTable(planned.target.name, runtime, call_us, tuple(rows), device)
    with artifact.disk_errors(output):
        artifact.write_json(output, table.to_dict())
    return ProfileReport(
        target=planned.target.name,
        table=str(output),
        rows=len(rows),
        lost=lost,
        call_us=call_us,
        seconds=time.perf_counter() - began,
        runtime=runtime,
        device=device,
    )


def measured(shape: Shape, precision: Precision, planned: Plan) -> list[Row]:
    """The rows of one shape: its convolutions, and the pass where it has one."""
    times = _times(list(networks(shape, precision)), precision, planned)
    pixels, kind = shape.side**2, CONVS[shape.kernel]
    rows = []
    if us := difference_us(times, 1, 0, 2 * (LONG - 1)):
        rows.append(Row(kind, precision, shape.wide, shape.narrow, pixels, us))
    if shape.has_pass and (us := difference_us(times, 2, 1, LONG)):
        rows.append(Row("pass", precision, shape.wide, shape.wide, pixels, us))
    return rows


def _call_us(planned: Plan) -> float:
    """What a call of almost nothing takes: 8 channels of 8x8 pixels."""
    precision = planned.points[0][1]
    nothing = chain(Shape(1, 8, 8, 8), 0, precision)
    return float(np.median(_times([nothing], precision, planned)))


def _times(graphs: Sequence[Graph], precision: Precision, planned: Plan) -> Doubles:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        runners: list[Runner] = []
        for number, graph in enumerate(graphs):
            place = Path(folder) / str(number)
            place.mkdir()
            runners.append(built(graph, precision, planned.target, place))
            stack.callback(runners[-1].close)
        return interleaved(runners, planned.effort)
