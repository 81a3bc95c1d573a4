"""Run a segmentation engine, and its reference, once over images with masks; nothing judges here.

What is kept grows by a few numbers a class and image: never by logits or maps of classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgedense import stats
from edgedense.data import VOID, ImageSet, Preprocess, batches
from edgedense.distributed import gather, gather_rows, share
from edgedense.engines.reference import (
    RecordedReference,
    check_finite,
    images_at_once,
    infer,
)
from edgedense.engines.runner import Floats, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress
from edgedense.validate.fit import check_fit, refuse_calibration_images
from edgedense.validate.segmentation import SegmentationMeasurement

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def measure_segmentation(
    engine: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    reference: Runner | RecordedReference | None,
    *,
    calibration: Collection[str] = (),
    batch_size: int = 32,
    progress: Progress = SILENT,
) -> SegmentationMeasurement:
    """Hold the classes of every pixel from the engine and the reference against the masks.

    ``calibration`` are content hashes of the calibration images; fewer than ``batch_size`` images
    run at once where their logits are large. Errors: InputError as in
    :func:`edgedense.validate.measure`, for masks that cannot be used, and where they are void.
    """
    check_fit(engine, images, preprocess, reference)
    tally = _Tally(engine, reference, images)
    seen = frozenset(calibration)
    at_once = images_at_once(engine.interface, batch_size)
    for batch in batches(
        replace(images, items=share(images.items, at_once)),
        preprocess,
        at_once,
        mask_classes=tally.classes,
        progress=progress,
        label="validate",
    ):
        refuse_calibration_images(batch, seen)
        # check_fit has seen that every image has a mask
        masks, logits = cast(Bytes, batch.masks), infer(engine, batch.images)
        said = tally.engine(masks, logits)
        if isinstance(reference, RecordedReference):
            tally.reference(masks, said, reference.classes_for(batch.content, batch.names))
        elif reference is not None:
            expected = infer(reference, batch.images)
            check_finite(expected, batch.names, reference.name)
            tally.reference(masks, said, stats.answers(expected))
            tally.energies(expected, logits)
        tally.content.extend(batch.content)
    tally.gather(at_once)
    return tally.measurement()


class _Tally:
    """Counts so far."""

    def __init__(
        self, engine: Runner, reference: Runner | RecordedReference | None, images: ImageSet
    ) -> None:
        self.classes, *size = engine.interface.output_shape
        self.content: list[str] = []
        self._images = images
        self._void = [value for value in images.void if value < self.classes]
        self._size = int(np.prod(size))
        self._not_finite = 0
        self._pixels: tuple[list[Ints], list[Ints]] = ([], [])
        self._confusion = np.zeros((2, self.classes, self.classes + 1), np.int64)
        self._agreeing: list[int] = []
        self._energies: list[tuple[float, float]] = []
        self._has_reference = reference is not None

    def engine(self, masks: Bytes, logits: Floats) -> Bytes:
        """Count the engine's answers, and give them."""
        said = stats.answers(logits)
        self._not_finite += int((said == stats.NO_CLASS).any(axis=(1, 2)).sum())
        self._count(0, masks, said)
        return said

    def reference(self, masks: Bytes, engine: Bytes, said: Bytes) -> None:
        """Count the reference's answers, and where the engine agrees."""
        self._count(1, masks, said)
        self._agreeing.extend((engine == said).sum(axis=(1, 2)).tolist())

    def energies(self, expected: Floats, logits: Floats) -> None:
        """Add signal and noise of each image's logits."""
        for wanted, found in zip(expected, logits, strict=True):
            exact = wanted.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):  # the engine may give infinity
                noise = float(np.sum((exact - found) ** 2))
            self._energies.append((float(np.sum(exact**2)), noise))

    def gather(self, chunk: int) -> None:
        """Add what the other processes counted. Errors: Finished, on all but the first."""
        totals = gather(
            {"confusion": self._confusion, "not_finite": np.array(self._not_finite, np.int64)}
        )
        none = np.zeros((0, 3, self.classes), np.int64)
        rows: dict[str, NDArray[Any]] = {
            "content": np.array(self.content, "U64"),
            "engine": np.stack(self._pixels[0]) if self._pixels[0] else none,
            "reference": np.stack(self._pixels[1]) if self._pixels[1] else none,
            "agreeing": np.array(self._agreeing, np.int64),
            "energies": np.array(self._energies, np.float64).reshape(-1, 2),
        }
        whole = gather_rows(rows, chunk)
        self.content = [str(content) for content in whole["content"]]
        self._pixels = (list(whole["engine"]), list(whole["reference"]))
        self._agreeing = whole["agreeing"].tolist()
        self._energies = [(float(signal), float(noise)) for signal, noise in whole["energies"]]
        for part in totals[1:] if totals else ():
            self._confusion += part["confusion"]
            self._not_finite += int(part["not_finite"])

    def measurement(self) -> SegmentationMeasurement:
        """All counts. Errors: InputError where the masks are void."""
        engine = np.stack(self._pixels[0])
        self._check_truth(engine[:, 1].sum(axis=0))
        names = self._images.class_names or tuple(map(str, range(self.classes)))
        found = SegmentationMeasurement(
            content=tuple(self.content),
            class_names=names[: self.classes],
            void=self._images.void,
            pixels=self._size,
            not_finite=self._not_finite,
            engine_pixels=engine,
            engine_confusion=self._confusion[0],
        )
        if not self._has_reference:
            return found
        signal, noise = np.array(self._energies).T if self._energies else (None, None)
        return replace(
            found,
            reference_pixels=np.stack(self._pixels[1]),
            reference_confusion=self._confusion[1],
            agreeing=np.array(self._agreeing, np.int64),
            signal=signal,
            noise=noise,
        )

    def _count(self, which: int, masks: Bytes, said: Bytes) -> None:
        for mask, answer in zip(masks, said, strict=True):
            confused = stats.confusion(mask, answer, self.classes)
            self._confusion[which] += confused
            pixels = stats.class_pixels(confused)
            pixels[2, self._void] = 0  # or predicting void would enter the mean as a class
            self._pixels[which].append(pixels)

    def _check_truth(self, truth: Ints) -> None:
        source = self._images.source
        if not truth.any():
            raise InputError(
                f"{source}: every pixel of the masks is void",
                f"Check the values of the masks: class indices from 0, and {VOID} where void.",
            )
        if not truth[1:].any() and truth[0] < len(self.content) * self._size:
            raise InputError(
                f"{source}: the masks hold class 0 and void only",
                f"If {VOID} marks an object, save it as class 1: {VOID} means void.",
            )
