"""Segmentation: confusion of pixels, intersection over union, and how sure a drop is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgedense.stats.paired import Estimate

Bytes = NDArray[np.uint8]
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

NO_CLASS = 255
_DRAWS_AT_ONCE = 64


def answers(logits: Floats) -> Bytes:
    """The class of each pixel, uint8 (N, height, width), of logits (N, classes, height, width).

    Ties go to the lower class. A pixel with NaN or infinity in any logit names none: NO_CLASS.
    """
    found: Bytes = np.argmax(logits, axis=1).astype(np.uint8)
    found[~np.isfinite(logits).all(axis=1)] = NO_CLASS
    return found


def confusion(truth: Bytes, predicted: Bytes, classes: int) -> Ints:
    """Pixels by true class (row) and predicted class (column): int64 (classes, classes + 1).

    Pixels without a true class are left out; the last column counts those without an answer, which
    are wrong whatever the truth.
    """
    judged = truth < classes
    columns = np.minimum(predicted[judged], classes).astype(np.int64)
    cells = truth[judged] * np.int64(classes + 1) + columns
    return np.bincount(cells, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def class_pixels(confused: Ints) -> Ints:
    """What IoU needs of :func:`confusion`: int64 (3, classes).

    Rows: pixels that are of a class and predicted so, pixels of the class, pixels predicted so.
    """
    return np.stack([np.diagonal(confused), confused.sum(axis=1), confused.sum(axis=0)[:-1]])


def iou(pixels: NDArray[np.generic]) -> Doubles:
    """Intersection over union (…, classes) from :func:`class_pixels` (…, 3, classes).

    Intersection / (truth + predicted - intersection), which is TP / (TP + FP + FN); NaN where a
    class is neither true nor predicted anywhere. Source: the segmentation measure
    of PASCAL VOC, Everingham et al., International Journal of Computer Vision 88 (2010) 303-338.
    """
    hit, true, said = np.moveaxis(np.asarray(pixels, np.float64), -2, 0)
    union = true + said - hit
    found: Doubles = np.divide(hit, union, out=np.full_like(union, np.nan), where=union > 0)
    return found


def mean_iou(pixels: NDArray[np.generic]) -> Doubles:
    """Mean of :func:`iou` over the classes that are true or predicted somewhere: (…).

    ``pixels`` are summed over the whole set first, not averaged by image. NaN where nothing was
    judged. Source: "mean IU" of Long, Shelhamer and Darrell (arXiv 1411.4038, section 5).
    """
    found = iou(pixels)
    present = ~np.isnan(found)
    count = present.sum(axis=-1)
    total = np.where(present, found, 0.0).sum(axis=-1)
    mean: Doubles = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def pixel_accuracy(pixels: NDArray[np.generic]) -> Doubles:
    """Share of judged pixels that are right (…), from :func:`class_pixels` (…, 3, classes).

    NaN where nothing was judged. Source: "pixel accuracy" of Long, Shelhamer and Darrell (arXiv
    1411.4038, section 5).
    """
    hit, true, _ = np.moveaxis(np.asarray(pixels, np.float64), -2, 0).sum(axis=-1)
    share: Doubles = np.divide(hit, true, out=np.full(np.shape(true), np.nan), where=true > 0)
    return share


def bootstrap_drop(
    first: Ints,
    second: Ints,
    statistic: Callable[[NDArray[np.generic]], Doubles],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """How much lower ``statistic`` is for the second network, with a percentile interval.

    ``first`` and ``second`` are :func:`class_pixels` of each image (N, 3, classes), the same images
    in the same order; ``statistic`` takes sums over images (…, 3, classes). Images are drawn with
    replacement and as pairs, so what both networks find hard drops out; pixels of one image are no
    independent samples and are never drawn apart. Resamples without a judged pixel are left out.
    With few images (below some dozens) the interval is too narrow. Source: Efron and Tibshirani,
    An Introduction to the Bootstrap (1993), section 13.3.
    """
    images = len(first)
    pair = np.stack([first, second], axis=1).astype(np.float64)
    flat = pair.reshape(images, -1)
    random = np.random.default_rng(seed)
    drops = []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        size = (min(_DRAWS_AT_ONCE, resamples - start), images)
        drawn = random.integers(0, images, size=size)
        weights = np.stack([np.bincount(draw, minlength=images) for draw in drawn])
        # sums of whole numbers below 2^53: exact, in whatever order they are added
        sums = (weights.astype(np.float64) @ flat).reshape(len(drawn), *pair.shape[1:])
        drops.append(-np.diff(statistic(sums), axis=1)[:, 0])
    found = np.concatenate(drops)
    found = found[~np.isnan(found)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    before, after = statistic(pair.sum(axis=0))
    return Estimate(float(before - after), float(low), float(high))


def bootstrap_mean(
    values: Doubles, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Mean of one value an image (N,), with a percentile interval over resampled images."""
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        size = (min(_DRAWS_AT_ONCE, resamples - start), len(values))
        means.append(values[random.integers(0, len(values), size=size)].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def images_to_separate(drop: Estimate, images: int, margin: float) -> int | None:
    """About how many images would take ``margin`` out of the interval of ``drop``.

    Intervals shrink with the square root of the number of images, which are supposed to be like
    those of now. None where the drop sits on the margin itself.
    """
    distance = margin - drop.value
    if distance == 0:
        return None
    half = drop.high - drop.value if distance > 0 else drop.value - drop.low
    return math.ceil(images * (half / distance) ** 2)
