"""A table of kernels measured on a device, and what it says of kernels that are not in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgedense.errors import InputError
from edgedense.latency.kernels import BYTES, Kernel, Precision
from edgedense.latency.roofline import Bound
from edgedense.targets import ONNXRUNTIME, Target

FORMAT = "edgedense-latency/1"
NEIGHBOURS = 4
_LONGEST_US = 1e12  # ten days: more is damage, and sums would end at infinity
RowKind = Literal["conv1x1", "conv3x3", "pass"]
_REMEASURE = "Measure it again: edgedense profile-target --target NAME -o TABLE.json"


@dataclass(frozen=True)
class Row:
    """One measured kernel, batch 1: ``us`` microseconds at ``positions`` pixels.

    A convolution of ``fan_in`` to ``out`` channels, its ReLU and the quantization of its output; or
    a ``pass`` of BN and ReLU over ``fan_in`` channels.
    """

    kind: RowKind
    precision: Precision
    fan_in: int
    out: int
    positions: int
    us: float

    def kernel(self) -> Kernel:
        """As a launch, its ends of its own precision."""
        pixels, own = self.positions, self.precision
        ends = (self.fan_in * pixels, own, self.out * pixels, own)
        if self.kind == "pass":
            return Kernel("", "pass", own, self.fan_in, self.out, 0, 0, *ends)
        side = 1 if self.kind == "conv1x1" else 3
        return Kernel("", "conv", own, self.fan_in, self.out, side, pixels, *ends)


@dataclass(frozen=True)
class _Group:
    """Rows of one kind: log products and log elements (n, 2), work (n,), microseconds (n,)."""

    places: NDArray[np.float64]
    work: NDArray[np.float64]
    us: NDArray[np.float64]

    def us_of(self, place: NDArray[np.float64], work: float) -> float:
        """Weighted by distance from the nearest rows, each scaled by its work to the one asked.

        What a row takes above the shortest row grows with the work, the rest is the launch. So a
        row itself gives what was measured, and far outside the nearest rows are scaled.
        """
        distance = np.sqrt(((self.places - place) ** 2).sum(axis=1))
        near = np.argsort(distance, kind="stable")[:NEIGHBOURS]
        if distance[near[0]] < 1e-9:
            return float(self.us[near[0]])
        launch = self.us.min()
        scaled = launch + (self.us[near] - launch) * work / self.work[near]
        share = distance[near] ** -2.0
        return float(np.exp((np.log(scaled) * share).sum() / share.sum()))


@dataclass(frozen=True)
class LatencyTable:
    """What ``edgedense profile-target`` measured on one device.

    ``call_us`` is what a call takes beside its kernels; ``device`` and ``runtime`` say where and
    with what it was measured.
    """

    target: str
    runtime: str
    call_us: float
    rows: tuple[Row, ...]
    device: dict[str, Any] = field(default_factory=dict, compare=False)

    def time(self, kernel: Kernel, target: Target) -> tuple[float, Bound]:
        """Microseconds of ``kernel``; pools and the like count as passes over as many elements.

        ONNX Runtime has no integer convolution with floating-point output, and none that is
        transposed, so there such a one counts as FP32. Errors: InputError where nothing of its
        kind was measured.
        """
        precision = kernel.precision
        in_float = kernel.kind == "transposed" or (
            kernel.kind == "conv" and kernel.writes != "int8"
        )
        if target.backend == ONNXRUNTIME and in_float:
            precision = "fp32"
        kind: RowKind = "pass"
        if kernel.side:
            kind = "conv1x1" if kernel.side == 1 else "conv3x3"
        group = self._groups.get((kind, precision, target.channel_multiple))
        if group is None:
            group = self._group(kind, precision, target.channel_multiple)
        place, work = _place(kernel, target.channel_multiple)
        us = group.us_of(place, work)
        launch = bool(us < 2 * group.us.min())
        return us, "launch" if launch else "compute" if kernel.side else "memory"

    @cached_property
    def _groups(self) -> dict[tuple[RowKind, Precision, int], _Group]:
        return {}

    def _group(self, kind: RowKind, precision: Precision, multiple: int) -> _Group:
        rows = [row for row in self.rows if (row.kind, row.precision) == (kind, precision)]
        if not rows:
            raise InputError(
                f"the latency table of {self.target} has no {precision.upper()} rows of {kind}",
                _REMEASURE,
            )
        found = [_place(row.kernel(), multiple) for row in rows]
        group = _Group(
            np.array([place for place, _ in found]),
            np.array([work for _, work in found]),
            np.array([row.us for row in rows]),
        )
        self._groups[kind, precision, multiple] = group
        return group

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"format": FORMAT} | asdict(self)


def read_table(path: Path) -> LatencyTable:
    """Read what ``edgedense profile-target`` wrote. Errors: InputError for anything else."""
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON, or cut short ({error})", _REMEASURE) from error
    told = raw.get("format") if isinstance(raw, dict) else None
    if told != FORMAT:
        raise InputError(f"{path}: format {told!r}, a latency table has {FORMAT!r}", _REMEASURE)
    try:
        rows = tuple(_row(values) for values in raw["rows"])
        if not rows:
            raise ValueError("it has no rows")
        device = dict(raw["device"])
        call_us = _positive(raw["call_us"])
        return LatencyTable(str(raw["target"]), str(raw["runtime"]), call_us, rows, device)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error})", _REMEASURE) from error


def _row(values: dict[str, Any]) -> Row:
    if set(values) != {each.name for each in fields(Row)}:
        raise ValueError(f"a row of {sorted(values)}")
    row = Row(**values)
    if row.kind not in get_args(RowKind) or row.precision not in BYTES:
        raise ValueError(f"a row of {row.kind!r} in {row.precision!r}")
    counts = (row.fan_in, row.out, row.positions)
    if not all(isinstance(count, int) and 0 < count < 1 << 31 for count in counts):
        raise ValueError(f"a row of {counts} channels and pixels")
    _positive(row.us)
    return row


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no time")
    if not 0 < value < _LONGEST_US:
        raise ValueError(f"{value!r:.20} is no time")
    return float(value)


def _place(kernel: Kernel, multiple: int) -> tuple[NDArray[np.float64], float]:
    """Where a kernel lies among the rows of its kind, and its work."""
    elements = kernel.read + kernel.written
    if not kernel.side:
        return np.log([elements, elements]), float(elements)
    macs = kernel.macs(multiple)
    return np.log([macs, elements]), float(macs)
