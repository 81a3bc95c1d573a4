"""Whether every floating-point value of a graph fits into FP16, by what real images make of it.

Found here, at export: on the device an overflow is an infinity in the logits and no message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, aminmax

from edgedense.errors import InputError
from edgedense.graph.nodes import FP16_MAX, Affine, GlobalPool, Graph, Weighted
from edgedense.quantize.migrate import migratables
from edgedense.quantize.observe import as_it_lies

# other images may have values so much larger than those of calibration
_MARGIN = 2.0
# FP16 has steps of 2**-24 near zero: below this a value has fewer of them than INT8 would give it
_LEAST_PEAK = 2.0**-17


@dataclass(frozen=True)
class Extent:
    """The ``low``est and ``high``est value that was seen."""

    low: float
    high: float

    @property
    def peak(self) -> float:
        """The largest magnitude; NaN where one of both is."""
        return float(np.maximum(-self.low, self.high))

    def joined(self, other: Extent) -> Extent:
        """What covers both."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Extent(float(low), float(high))

    def moved(self, down: float) -> Extent:
        """The extent of values that were all moved down."""
        return Extent(self.low - down, self.high - down)


Extents = Mapping[str, Extent]


class Reach:
    """The extent of every value of a graph while it runs; ``observe`` goes to the runner.

    Of concats, ReLUs and pooling nothing is kept: they make no value larger than they read.
    """

    def __init__(self, graph: Graph) -> None:
        makers = Weighted | Affine | GlobalPool
        self._names = {graph.input, *(n.name for n in graph.nodes if isinstance(n, makers))}
        self.extents: dict[str, Extent] = {}

    def observe(self, name: str, value: Tensor) -> None:
        """Take note of a value, where it is one that counts."""
        if name in self._names:
            found = Extent(*(float(end) for end in aminmax(as_it_lies(value))))
            known = self.extents.get(name)
            self.extents[name] = known.joined(found) if known else found


def union(*several: Extents) -> dict[str, Extent]:
    """Extents that cover all of ``several``, in the order in which they are named."""
    found: dict[str, Extent] = {}
    for extents in several:
        for name, extent in extents.items():
            found[name] = found[name].joined(extent) if name in found else extent
    return found


def moved_extents(extents: Extents, graph: Graph, scales: Mapping[str, float]) -> dict[str, Extent]:
    """``extents`` of ``graph`` as they are behind ``fullrange.move`` with ``scales``."""
    found = dict(extents)
    for movable in migratables(graph):
        if movable.value in scales:
            for name in {movable.source, movable.value} & found.keys():
                found[name] = found[name].moved(128 * scales[movable.value])
    return found


def check_fp16(*several: Extents) -> tuple[str, ...]:
    """Warnings about values of one or more graphs that FP16 holds badly, or only just.

    Errors: InputError, naming the first node, where values do not fit into FP16.
    """
    extents = union(*several)
    over = [name for name, extent in extents.items() if not extent.peak <= FP16_MAX]
    if over:
        more = f" (and {len(over) - 1} more nodes)" if len(over) > 1 else ""
        raise InputError(
            f"{over[0]}: values of {extents[over[0]].peak:.3g} on calibration images do not fit "
            f"into FP16, at most {FP16_MAX:.0f}{more}",
            "Keep the other operators in FP32: --rest fp32.",
        )
    return tuple(_warnings(extents))


def _warnings(extents: Extents) -> Iterable[str]:
    for name, extent in extents.items():
        if extent.peak > FP16_MAX / _MARGIN:
            yield (
                f"{name}: values of {extent.peak:.3g} on calibration images come near FP16's "
                f"largest, {FP16_MAX:.0f}; other images may overflow (--rest fp32 cannot)"
            )
        elif 0 < extent.peak < _LEAST_PEAK:
            yield (
                f"{name}: no value above {extent.peak:.2g}, which FP16 holds more coarsely than "
                "INT8 would (--rest fp32 does not)"
            )


def facts(extents: Extents) -> dict[str, Any]:
    """The largest magnitude of all values and where it is, and the smallest peak of a node."""
    peaks = {name: extent.peak for name, extent in extents.items() if 0 < extent.peak < np.inf}
    if not peaks:
        return {}
    most, least = max(peaks, key=peaks.__getitem__), min(peaks, key=peaks.__getitem__)
    return {
        "largest": peaks[most],
        "largest_at": most,
        "smallest": peaks[least],
        "smallest_at": least,
    }


def to_arrays(extents: Extents) -> dict[str, NDArray[np.float64]]:
    """For the way between processes."""
    return {name: np.array([extent.low, extent.high]) for name, extent in extents.items()}


def from_arrays(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, Extent]:
    """From what :func:`to_arrays` gave."""
    return {name: Extent(float(low), float(high)) for name, (low, high) in arrays.items()}
