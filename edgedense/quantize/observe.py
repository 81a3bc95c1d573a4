"""Streaming statistics of activations: one histogram a tensor, never the activations themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 4096
DRAWN = 64
COUNTED = 8192  # of each image
_CHUNK = 1 << 24  # histc counts in float32, which is exact up to here
# histc multiplies by BINS / width in float32: beyond these that would overflow
_LARGEST = 2.0**112
_FINEST = -100


class Histogram:
    """Counts of ``abs(x)`` in ``BINS`` bins of equal width, a power of two.

    Of large tensors a sample is counted, see :func:`sampled`; ``amax`` is the largest of all.
    The width doubles, merging pairs of bins, when a value falls outside. Bins of one width nest
    exactly into bins of the next, so the result does not depend on how the data was batched.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.exponent: int | None = None
        self.amax = 0.0

    @property
    def width(self) -> float:
        """Width of a bin, in the tensor's units."""
        return 2.0 ** (self.exponent or 0)

    def add(self, x: Tensor) -> None:
        """Count values of ``x`` (N, ...). Errors: ArithmeticError where one is infinite or huge."""
        x = as_it_lies(x)
        low, high = (float(value) for value in torch.aminmax(x))
        amax = max(-low, high)
        if not amax < _LARGEST:
            raise ArithmeticError(f"values that are not finite, or huge ({amax:.3g})")
        if amax == 0.0:
            self.counts[0] += sampled(x, COUNTED).numel()
            return
        self._widen(amax)
        values = sampled(x, COUNTED).flatten()
        values = values.abs() if low < 0 else values
        top = self.width * BINS
        for start in range(0, len(values), _CHUNK):
            chunk = values[start : start + _CHUNK]
            self.counts += torch.histc(chunk, BINS, 0.0, top).numpy().astype(np.int64)

    def merge(self, other: Histogram) -> None:
        """Count what ``other`` has counted: exactly as if all values had come to this one."""
        if other.exponent is not None:
            self._widen_to(other.exponent)
            other._widen_to(self._exponent())
        self.counts += other.counts
        self.amax = max(self.amax, other.amax)

    def to_array(self) -> NDArray[np.float64]:
        """Counts, exponent (NaN where only zeros were seen) and amax, (BINS + 2,), exactly."""
        exponent = math.nan if self.exponent is None else self.exponent
        return np.array([*self.counts, exponent, self.amax], np.float64)

    def drawn(self) -> tuple[NDArray[np.int64], float]:
        """Counts in ``DRAWN`` bins between 0 and the second value, which is above all that came."""
        return self.counts.reshape(DRAWN, -1).sum(axis=1), self.width * BINS

    @classmethod
    def from_array(cls, array: NDArray[np.float64]) -> Histogram:
        """From what :meth:`to_array` gave."""
        found = cls()
        found.counts = array[:BINS].astype(np.int64)
        found.exponent = None if math.isnan(array[BINS]) else int(array[BINS])
        found.amax = float(array[BINS + 1])
        return found

    def _exponent(self) -> int:
        return 0 if self.exponent is None else self.exponent

    def _widen(self, amax: float) -> None:
        self.amax = max(self.amax, amax)
        # frexp gives amax < 2**power, hence below the top of the last bin
        self._widen_to(max(math.frexp(amax)[1] - int(math.log2(BINS)), _FINEST))

    def _widen_to(self, wanted: int) -> None:
        if self.exponent is None:
            self.exponent = wanted
        while self.exponent < wanted:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros_like(merged)])
            self.exponent += 1


def save_drawn(path: Path, histograms: Mapping[str, Histogram]) -> None:
    """Write ``names`` (T,), ``counts`` (T, DRAWN) and ``top`` (T,) for pages that draw them."""
    drawn = [histogram.drawn() for histogram in histograms.values()]
    counts = np.array([counts for counts, _ in drawn], np.int64).reshape(len(drawn), DRAWN)
    top = np.array([top for _, top in drawn], np.float64)
    np.savez_compressed(path, names=np.array(list(histograms), "U"), counts=counts, top=top)


def as_it_lies(x: Tensor) -> Tensor:
    """Each image's values (N, values), in the order in which memory has them."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(len(x), -1)


def sampled(x: Tensor, count: int) -> Tensor:
    """About ``count`` values of the last axis of ``x``, always at the same places.

    The distance between two of them has no divisor in common with the axis, so that no rows,
    columns or channels are preferred.
    """
    size = x.shape[-1]
    step = max(1, size // count)
    while math.gcd(step, size) > 1:
        step += 1
    return x[..., ::step]
