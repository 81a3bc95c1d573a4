"""What one pass of a segmentation engine over images with masks has counted; nothing judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedense import stats

MOST_WORST = 5
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Segmentation:
    """How well masks were met, in percent (0 … 100).

    ``iou`` by class name; None for a class that is neither in the masks nor predicted. ``miou`` is
    the mean of the others.
    """

    miou: float
    pixel_accuracy: float
    iou: Mapping[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; there is no top-1 of an image."""
        return {
            "top1": None,
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "iou": dict(self.iou),
        }


@dataclass(frozen=True, eq=False)
class SegmentationMeasurement:
    """Raw counts of one pass over an evaluation set, image by image; all else is derived.

    ``engine_pixels`` and ``reference_pixels`` are int64 (N, 3, classes), see
    :func:`edgedense.stats.class_pixels`; the confusions int64 (classes, classes + 1) are of the
    whole set, see :func:`edgedense.stats.confusion`. ``agreeing`` (N,) counts pixels with the same
    class in both, of ``pixels`` an image, void ones too. ``signal`` and ``noise`` (N,) are energies
    of logits. Void classes are never counted as predicted. ``not_finite`` is the number of images
    for which the engine gave NaN or infinity; such pixels are wrong. What needs the reference is
    None without one, ``signal`` and ``noise`` also where only its classes were recorded.
    """

    content: tuple[str, ...]
    class_names: tuple[str, ...]
    void: tuple[int, ...]
    pixels: int
    not_finite: int
    engine_pixels: Ints
    engine_confusion: Ints
    reference_pixels: Ints | None = None
    reference_confusion: Ints | None = None
    agreeing: Ints | None = None
    signal: Doubles | None = None
    noise: Doubles | None = None

    @property
    def task(self) -> Literal["segmentation"]:
        """One answer a pixel."""
        return "segmentation"

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.content)

    @property
    def judged(self) -> int:
        """Number of images with at least one pixel that is not void."""
        return int(np.count_nonzero(self.engine_pixels[:, 1].sum(axis=1)))

    @cached_property
    def engine(self) -> Segmentation:
        """How well the engine met the masks."""
        return self._segmentation(self.engine_pixels)

    @cached_property
    def reference(self) -> Segmentation | None:
        """How well the reference met them; None without one."""
        return None if self.reference_pixels is None else self._segmentation(self.reference_pixels)

    @cached_property
    def drop(self) -> stats.Estimate | None:
        """Mean IoU of the reference minus that of the engine, in pp, with a 95 % interval.

        By a paired bootstrap over images. Positive where the engine is worse; None without a
        reference.
        """
        if self.reference_pixels is None:
            return None
        drop = stats.bootstrap_drop(self.reference_pixels, self.engine_pixels, stats.mean_iou)
        return drop.scaled(100)

    @cached_property
    def pixel_accuracy_drop(self) -> stats.Estimate | None:
        """The same of pixel accuracy."""
        if self.reference_pixels is None:
            return None
        drop = stats.bootstrap_drop(self.reference_pixels, self.engine_pixels, stats.pixel_accuracy)
        return drop.scaled(100)

    @cached_property
    def agreement_interval(self) -> stats.Estimate | None:
        """Percent of pixels to which engine and reference give the same class, with its interval.

        By a bootstrap over images: pixels of one image are no independent samples.
        """
        if self.agreeing is None:
            return None
        return stats.bootstrap_mean(100 * self.agreeing / self.pixels)

    @property
    def agreement(self) -> float | None:
        """The same without its interval."""
        if self.agreeing is None:
            return None
        return 100 * int(self.agreeing.sum()) / (self.samples * self.pixels)

    @cached_property
    def logit_sqnr_db(self) -> float | None:
        """Logit SQNR in dB over all pixels; None unless the reference itself ran."""
        if self.signal is None or self.noise is None:
            return None
        return stats.sqnr_db(float(self.signal.sum()), float(self.noise.sum()))

    @cached_property
    def details(self) -> dict[str, Any]:
        """What only segmentation has to tell, as plain JSON values."""
        drop, agreement = self.pixel_accuracy_drop, self.agreement_interval
        return {
            "judged": self.judged,
            "pixel_accuracy_drop_pp": drop.value if drop else None,
            "pixel_accuracy_drop_ci95": list(drop.interval) if drop else None,
            "agreement_ci95": list(agreement.interval) if agreement else None,
            "void": list(self.void),
            "classes": {"worst": self._worst_classes()} if self.reference else None,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what deserves a look, whatever the verdict."""
        return ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The raw counts, to be kept."""
        found = {
            "content": np.array(self.content, dtype="U64"),
            "class_names": np.array(self.class_names),
            "engine_pixels": self.engine_pixels,
            "engine_confusion": self.engine_confusion,
            "reference_pixels": self.reference_pixels,
            "reference_confusion": self.reference_confusion,
            "agreeing": self.agreeing,
            "signal": self.signal,
            "noise": self.noise,
        }
        return {name: array for name, array in found.items() if array is not None}

    def _worst_classes(self) -> list[dict[str, Any]]:
        """Classes that lost most IoU, each with a paired bootstrap interval (not adjusted)."""
        pixels = self.reference_pixels
        if pixels is None:
            return []
        before, after = (100 * stats.iou(p.sum(axis=0)) for p in (pixels, self.engine_pixels))
        drops = np.nan_to_num(before - after)
        drops[[k for k in self.void if k < len(drops)]] = 0.0
        found = []
        for k in [int(k) for k in np.argsort(-drops, kind="stable") if drops[k] > 0][:MOST_WORST]:
            own = (pixels[:, :, k : k + 1], self.engine_pixels[:, :, k : k + 1])
            interval = stats.bootstrap_drop(*own, stats.mean_iou).scaled(100).interval
            row = {"reference_iou": float(before[k]), "engine_iou": float(after[k])}
            drop = {"drop_pp": float(drops[k]), "drop_ci95": list(interval)}
            found.append({"class": self.class_names[k], **row, **drop})
        return found

    def _segmentation(self, pixels: Ints) -> Segmentation:
        total = pixels.sum(axis=0)
        return Segmentation(
            miou=100 * float(stats.mean_iou(total)),
            pixel_accuracy=100 * float(stats.pixel_accuracy(total)),
            iou={
                name: None if np.isnan(share) else 100 * float(share)
                for k, (name, share) in enumerate(
                    zip(self.class_names, stats.iou(total), strict=True)
                )
                if k not in self.void
            },
        )
