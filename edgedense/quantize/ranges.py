"""The range [-amax, amax] of a quantized tensor, from its histogram."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgedense.quantize.observe import BINS, Histogram

Calibrator = Literal["max", "percentile", "entropy", "mse"]
CALIBRATORS: tuple[Calibrator, ...] = ("max", "percentile", "entropy", "mse")
# rounding errors are many, small and independent and average out; the clipping errors of an image
# have one sign and add up, so that minimising their plain sum ruins the images that have most
CLIP_WEIGHT = 16.0


def choose_amax(
    histogram: Histogram, calibrator: Calibrator, percentile: float, levels: int = 127
) -> float:
    """Largest magnitude that is not clipped, where ``levels`` steps lead from 0 to it.

    ``max`` clips nothing; ``percentile`` clips the largest (100 - percentile) per cent of the
    values; ``entropy`` minimises the Kullback-Leibler divergence between the values before and
    after (Migacz, "8-bit inference with TensorRT", 2017); ``mse`` minimises the squared error of
    rounding plus ``CLIP_WEIGHT`` times that of clipping.
    """
    if histogram.amax == 0.0:
        return 1.0  # never active in calibration: any range serves
    if calibrator == "max":
        return histogram.amax
    if calibrator == "percentile":
        return min(histogram.amax, _percentile(histogram, percentile))
    if calibrator == "entropy":
        return _least_divergence(histogram, levels)
    return _least_squares(histogram, levels)


def _percentile(histogram: Histogram, percentile: float) -> float:
    cumulative = np.cumsum(histogram.counts)
    edge = int(np.searchsorted(cumulative, cumulative[-1] * percentile / 100)) + 1
    return edge * histogram.width


def _least_squares(histogram: Histogram, levels: int, candidates: int = 128) -> float:
    """Search of ``candidates`` ranges between an eighth of the largest value and all of it."""
    centres = np.minimum((np.arange(BINS) + 0.5) * histogram.width, histogram.amax)
    seen = histogram.counts > 0
    centres, counts = centres[seen], histogram.counts[seen].astype(np.float64)
    ranges = histogram.amax * np.linspace(1 / 8, 1, candidates)
    steps = ranges[:, None] / levels
    clipped = np.maximum(centres - ranges[:, None], 0)
    rounded = np.minimum(centres, ranges[:, None])
    rounded -= np.rint(rounded / steps) * steps
    errors = (CLIP_WEIGHT * np.square(clipped) + np.square(rounded)) @ counts
    return float(ranges[np.argmin(errors)])


def _least_divergence(histogram: Histogram, levels: int, candidates: int = 128) -> float:
    """Search of ``candidates`` ranges: the clipped values count as the largest that is left."""
    counts = histogram.counts.astype(np.float64)
    counts[0] = 0  # zeros are exact under every range, and would outweigh everything else
    last = int(np.flatnonzero(histogram.counts)[-1]) + 1
    if not counts.any() or last <= levels:
        return histogram.amax  # no more bins than codes: nothing is gained by clipping
    divergences = {}
    for edge in np.unique(np.linspace(max(levels, last // 8), last, candidates).astype(int)):
        kept = counts[:edge].copy()
        kept[-1] += counts[edge:].sum()
        divergences[int(edge)] = _divergence(kept, counts[:edge], levels)
    edge = min(divergences, key=divergences.__getitem__)
    return min(edge * histogram.width, histogram.amax)


def _divergence(kept: NDArray[np.float64], within: NDArray[np.float64], levels: int) -> float:
    """Of ``kept`` from ``within`` merged into ``levels`` codes, each spread over filled bins."""
    codes = np.arange(len(within)) * levels // len(within)
    filled = kept > 0
    share = np.bincount(codes, within, levels) / np.maximum(np.bincount(codes, filled, levels), 1)
    spread = np.where(filled, share[codes], 0)
    if not spread.any():
        return np.inf
    p, q = kept[filled] / kept.sum(), spread[filled] / spread.sum()
    return float(p @ np.log(p / np.maximum(q, 1e-12)))
