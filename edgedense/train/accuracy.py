"""How right a network is on the evaluation set, counted batch by batch and over all processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgedense import stats
from edgedense.distributed import gather


@dataclass(frozen=True)
class Accuracy:
    """In percent: ``top1`` of images, or ``miou`` and ``pixel_accuracy`` of masks; else None."""

    top1: float | None = None
    miou: float | None = None
    pixel_accuracy: float | None = None


class Count:
    """Right answers so far: of images, or of pixels where ``mask_classes`` is their number.

    ``void`` are the classes that masks leave out: answering one is wrong, but it is no class whose
    IoU counts.
    """

    def __init__(self, mask_classes: int | None, void: tuple[int, ...] = ()) -> None:
        self._classes = mask_classes
        self._void = [value for value in void if value < (mask_classes or 0)]
        shape = (2,) if mask_classes is None else (mask_classes, mask_classes + 1)
        self._counts: NDArray[np.int64] = np.zeros(shape, np.int64)

    def add(self, found: Tensor, targets: Tensor) -> None:
        """Count answers and truth: classes (N,), or of each pixel (N, H, W)."""
        if self._classes is None:
            self._counts += np.array([int((found == targets).sum()), len(targets)])
            return
        truth, said = (value.cpu().numpy().astype(np.uint8) for value in (targets, found))
        self._counts += stats.confusion(truth, said, self._classes)

    def accuracy(self) -> Accuracy:
        """Of all processes' answers, on rank 0; nothing elsewhere, or where nothing was judged."""
        rows = gather({"counts": self._counts})
        if rows is None:
            return Accuracy()
        total: NDArray[np.int64] = np.sum([row["counts"] for row in rows], axis=0)
        if self._classes is None:
            right, judged = map(int, total)
            return Accuracy(top1=100 * right / max(judged, 1))
        pixels = stats.class_pixels(total)
        if not pixels[1].any():
            return Accuracy()
        pixels[2, self._void] = 0
        return Accuracy(
            miou=100 * float(stats.mean_iou(pixels)),
            pixel_accuracy=100 * float(stats.pixel_accuracy(pixels)),
        )
