"""Latency of a whole network: the sum of what its kernels take."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgedense.densenet.specs import Spec
from edgedense.densenet.wiring import Grid
from edgedense.errors import InputError
from edgedense.latency.kernels import Form, Kernel, Kind, Placement, Precision, kernels
from edgedense.latency.roofline import Bound, Roofline
from edgedense.latency.table import LatencyTable
from edgedense.targets import ONNXRUNTIME, Target


@dataclass(frozen=True)
class LayerTime:
    """One kernel: ``us`` microseconds, most of which ``bound`` by one thing.

    ``name`` is the module path of its layer; ``call`` is what a call takes beside all kernels.
    """

    name: str
    kind: Kind
    us: float
    bound: Bound


@dataclass(frozen=True)
class Prediction:
    """Latency of one call with ``batch`` images, copies to and from the device left out.

    ``measured`` is True where it is summed up from a table measured on the device, False where a
    roofline of the data sheet gave it.
    """

    target: str
    precision: Precision
    placement: Placement
    batch: int
    latency_ms: float
    measured: bool
    layers: tuple[LayerTime, ...]

    @property
    def basis(self) -> str:
        """``predicted`` or ``from measured table``."""
        return basis(self.measured)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"basis": self.basis}


def predict(
    spec: Spec,
    input_size: Grid,
    target: Target,
    precision: Precision = "int8",
    placement: Placement = "conv",
    batch: int = 1,
    table: LatencyTable | None = None,
) -> Prediction:
    """Latency of ``spec`` on ``target`` for images of ``input_size`` (height, width) pixels.

    By the roofline of the target, or by ``table`` where one was measured there. Errors: InputError
    where the target's rates are unknown and there is no table, or where the table is another's.
    """
    predictor = Predictor(target, input_size, precision, placement, batch, table)
    return predictor.predict(spec)


def basis(measured: bool) -> str:
    """How to call a latency in one word or three."""
    return "from measured table" if measured else "predicted"


@dataclass(frozen=True)
class Predictor:
    """:func:`predict` for many networks of one kind: each kernel is timed once."""

    target: Target
    input_size: Grid
    precision: Precision = "int8"
    placement: Placement = "conv"
    batch: int = 1
    table: LatencyTable | None = None
    _times: dict[Kernel, tuple[float, Bound]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.table is not None and self.table.target != self.target.name:
            raise InputError(
                f"the latency table was measured on {self.table.target}, not on {self.target.name}",
                f"Give --target {self.table.target}, or a table of that device.",
            )

    @property
    def form(self) -> Form:
        """How the network runs there."""
        rest: Precision = "fp32" if self.target.backend == ONNXRUNTIME else "fp16"
        return Form(self.precision, self.placement, self.batch, rest)

    @property
    def basis(self) -> str:
        """``predicted`` or ``from measured table``."""
        return basis(self.table is not None)

    def predict(self, spec: Spec) -> Prediction:
        """Latency of ``spec``, layer by layer."""
        found = kernels(spec, self.input_size, self.form)
        layers = [LayerTime(kernel.name, kernel.kind, *self._time(kernel)) for kernel in found]
        if self.table is not None:
            layers.append(LayerTime("call", "call", self.table.call_us, "launch"))
        total = sum(layer.us for layer in layers) / 1e3
        asked = (self.target.name, self.precision, self.placement, self.batch)
        return Prediction(*asked, total, self.table is not None, tuple(layers))

    def latency_ms(self, spec: Spec) -> float:
        """Latency of ``spec`` in ms."""
        found = kernels(spec, self.input_size, self.form)
        call_us = self.table.call_us if self.table is not None else 0.0
        return (sum(self._time(kernel)[0] for kernel in found) + call_us) / 1e3

    def _time(self, kernel: Kernel) -> tuple[float, Bound]:
        if kernel not in self._times:
            if self.table is not None:
                self._times[kernel] = self.table.time(kernel, self.target)
            else:
                self._times[kernel] = Roofline.of(self.target, self.precision).time(kernel)
        return self._times[kernel]
