"""Whether probabilities mean what they say: calibration error, and how two networks compare.

``confidence`` is the softmax probability of the class that is named, ``right`` whether it is so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedense.stats.paired import Estimate

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15
_DRAWS_AT_ONCE = 64


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error of one network, as shares (0 … 1).

    ``ece``: bins of equal width. ``debiased``: the same without what chance adds. ``adaptive``:
    bins of equally many images.
    """

    ece: float
    debiased: float
    adaptive: float


def calibration_error(confidence: Doubles, right: Bools, bins: int = BINS) -> CalibrationError:
    """How far confidence and accuracy lie apart, on average over bins of confidence.

    ECE = sum over bins of n_bin / n * |accuracy - mean confidence|, with ``bins`` bins of equal
    width, open at their lower end. Sources: Guo et al., On Calibration of Modern Neural Networks
    (ICML 2017, arXiv 1706.04599), equation 3; bins of equally many images after Nguyen and
    O'Connor (EMNLP 2015, arXiv 1508.05154); the bias after Kumar, Liang and Ma (NeurIPS 2019, arXiv
    1909.10155): accuracies drawn from normal distributions around those that were found, whose mean
    error is here taken exactly (the mean of a folded normal distribution).
    """
    equal = _gaps(confidence, right, _widths(confidence, bins), bins)
    crowded = _gaps(confidence, right, _crowds(confidence, bins), bins)
    return CalibrationError(equal.error, equal.debiased, crowded.error)


def calibration_change(
    confidence: tuple[Doubles, Doubles],
    right: tuple[Bools, Bools],
    *,
    bins: int = BINS,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """How much larger ECE is for the second network, with a percentile interval (shares).

    Both networks saw the same images; images are drawn with replacement and as pairs. Resampled
    errors are all somewhat too large, which the difference mostly cancels. Source: Efron and
    Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    images = len(right[0])
    signed = [_signed(c, r, _widths(c, bins), bins) for c, r in zip(confidence, right, strict=True)]
    random = np.random.default_rng(seed)
    changes = []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        drawn = random.integers(0, images, size=(min(_DRAWS_AT_ONCE, resamples - start), images))
        weights = np.stack([np.bincount(draw, minlength=images) for draw in drawn])
        before, after = (np.abs(weights @ part).sum(axis=1) / images for part in signed)
        changes.append(after - before)
    low, high = np.quantile(np.concatenate(changes), [(1 - level) / 2, (1 + level) / 2])
    first, second = (float(np.abs(part.sum(axis=0)).sum() / images) for part in signed)
    return Estimate(second - first, float(low), float(high))


@dataclass(frozen=True)
class _Gaps:
    """Accuracy, mean confidence and share of all images of each bin that holds any."""

    accuracy: Doubles
    confidence: Doubles
    share: Doubles
    images: Ints

    @property
    def error(self) -> float:
        return float(self.share @ np.abs(self.accuracy - self.confidence))

    @property
    def debiased(self) -> float:
        gap = np.abs(self.accuracy - self.confidence)
        spread = np.sqrt(self.accuracy * (1 - self.accuracy) / self.images)
        expected = [_folded_mean(g, s) for g, s in zip(gap, spread, strict=True)]
        return max(0.0, float(self.share @ (2 * gap - expected)))


def _gaps(confidence: Doubles, right: Bools, place: Ints, bins: int) -> _Gaps:
    images = np.bincount(place, minlength=bins)
    held = images > 0
    count = images[held]
    accuracy = np.bincount(place, weights=right, minlength=bins)[held] / count
    mean = np.bincount(place, weights=confidence, minlength=bins)[held] / count
    return _Gaps(accuracy, mean, count / len(right), count)


def _signed(confidence: Doubles, right: Bools, place: Ints, bins: int) -> Doubles:
    """(N, bins): each image's confidence minus its rightness, in the column of its bin."""
    found = np.zeros((len(right), bins))
    found[np.arange(len(right)), place] = confidence - right
    return found


def _widths(confidence: Doubles, bins: int) -> Ints:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _crowds(confidence: Doubles, bins: int) -> Ints:
    rank = np.argsort(np.argsort(confidence, kind="stable"), kind="stable")
    return rank * bins // len(confidence)


def _folded_mean(mean: float, deviation: float) -> float:
    """Mean of |x| for x normal around ``mean`` >= 0."""
    if deviation == 0:
        return mean
    ratio = mean / deviation
    tail = deviation * math.sqrt(2 / math.pi) * math.exp(-ratio * ratio / 2)
    return tail + mean * math.erf(ratio / math.sqrt(2))
