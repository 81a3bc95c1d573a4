"""Two engines on the same images: how much worse is the second, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense import stats
from edgedense.errors import InputError
from edgedense.validate import Measurement, SegmentationMeasurement
from edgedense.validate.judge import Measured

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """How much the second engine loses against the first, in percentage points of top-1 or mIoU.

    ``drop`` is positive where the second is worse; None without labels. ``mcnemar_p`` is that of
    the exact test, for classifiers; ``agreement`` the percent of images that both put in one class.
    """

    images: int
    drop: stats.Estimate | None
    lost: int | None = None
    gained: int | None = None
    mcnemar_p: float | None = None
    agreement: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "images": self.images,
            "drop_pp": self.drop.value if self.drop else None,
            "drop_ci95": list(self.drop.interval) if self.drop else None,
            "lost": self.lost,
            "gained": self.gained,
            "mcnemar_p": self.mcnemar_p,
            "agreement": self.agreement,
        }


def difference(first: Measured, second: Measured) -> Difference:
    """The second engine against the first, on the same images in whatever order.

    With Tango's interval for classifiers and a paired bootstrap for segmentation, as validation
    has. Errors: InputError where images or labels differ.
    """
    if isinstance(first, Measurement) and isinstance(second, Measurement):
        return _classifiers(first, second)
    if isinstance(first, SegmentationMeasurement) and isinstance(second, SegmentationMeasurement):
        return _segmentation(first, second)
    raise InputError(
        "one engine classifies images and the other pixels", "Compare engines of one task."
    )


def same_images(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two measurements saw the same images, by content."""
    return sorted(first) == sorted(second)


def _classifiers(first: Measurement, second: Measurement) -> Difference:
    one, other = _orders(first.content, second.content)
    labels = first.labels[one]
    if not np.array_equal(labels, second.labels[other]):
        raise _other("labels")
    if first.engine_logits.shape[1] != second.engine_logits.shape[1]:
        raise _other("classes")
    logits = first.engine_logits[one], second.engine_logits[other]
    agreement = 100 * float(np.mean(stats.agreeing(*logits)))
    known = labels >= 0
    if not known.any():
        return Difference(len(labels), None, agreement=agreement)
    right = [stats.top_k(side[known], labels[known], 1) for side in logits]
    counts = stats.PairedCounts.of(*right)
    return Difference(
        images=int(known.sum()),
        drop=stats.paired_difference(counts).scaled(100),
        lost=counts.lost,
        gained=counts.gained,
        mcnemar_p=stats.mcnemar_p(counts),
        agreement=agreement,
    )


def _segmentation(first: SegmentationMeasurement, second: SegmentationMeasurement) -> Difference:
    one, other = _orders(first.content, second.content)
    pixels = first.engine_pixels[one], second.engine_pixels[other]
    # row 1: pixels of each class in the masks
    if pixels[0].shape != pixels[1].shape or not np.array_equal(pixels[0][:, 1], pixels[1][:, 1]):
        raise _other("masks")
    drop = stats.bootstrap_drop(*pixels, stats.mean_iou).scaled(100)
    return Difference(len(one), drop)


def _orders(first: Sequence[str], second: Sequence[str]) -> tuple[Order, Order]:
    """What sorts either by content: images that are there twice stay in their order."""
    if not len(first) or not same_images(first, second):
        raise _other("images")
    sides = (np.argsort(np.array(side, "U64"), kind="stable") for side in (first, second))
    one, other = sides
    return one, other


def _other(what: str) -> InputError:
    return InputError(
        f"the two were measured on different {what}",
        "Validate both on one evaluation set: edgedense validate ENGINE --data SET -o DIR",
    )
