"""The range [-amax, amax] of a quantized tensor, from its histogram."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgedense.quantize.observe import BINS, Histogram

Calibrator = Literal["max", "percentile", "mse"]
CALIBRATORS: tuple[Calibrator, ...] = ("max", "percentile", "mse")


def choose_amax(
    histogram: Histogram, calibrator: Calibrator, percentile: float, levels: int = 127
) -> float:
    """Largest magnitude that is not clipped, where ``levels`` steps lead from 0 to it.

    ``max`` clips nothing; ``percentile`` clips the largest (100 - percentile) per cent of the
    values; ``mse`` minimises the squared error of rounding and clipping together.
    """
    if histogram.amax == 0.0:
        return 1.0  # never active in calibration: any range serves
    if calibrator == "max":
        return histogram.amax
    if calibrator == "percentile":
        return min(histogram.amax, _percentile(histogram, percentile))
    return _least_squares(histogram, levels)


def _percentile(histogram: Histogram, percentile: float) -> float:
    cumulative = np.cumsum(histogram.counts)
    edge = int(np.searchsorted(cumulative, cumulative[-1] * percentile / 100)) + 1
    return edge * histogram.width


def _least_squares(histogram: Histogram, levels: int, candidates: int = 128) -> float:
    """Search of ``candidates`` ranges between an eighth of the largest value and all of it."""
    centres = (np.arange(BINS) + 0.5) * histogram.width
    seen = histogram.counts > 0
    centres, counts = centres[seen], histogram.counts[seen].astype(np.float64)
    ranges = histogram.amax * np.linspace(1 / 8, 1, candidates)
    steps = ranges[:, None] / levels
    rounded = np.minimum(np.rint(centres / steps), levels) * steps
    errors = np.square(centres - rounded) @ counts
    return float(ranges[np.argmin(errors)])
