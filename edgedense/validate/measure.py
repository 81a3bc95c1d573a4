"""Run an engine, and its reference, once over an evaluation set; nothing here judges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgedense import stats
from edgedense.data import Batch, ImageSet, Preprocess, batches
from edgedense.engines.reference import (
    RecordedReference,
    check_classes,
    check_finite,
    infer,
)
from edgedense.engines.runner import Floats, Interface, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Raw samples of one pass over an evaluation set, in its order; all else is derived.

    ``content`` SHA-256 of the decoded pixels (N); ``labels`` (N,), -1 where unknown;
    ``engine_logits`` and ``reference_logits`` float32 (N, classes), the latter None without one.
    """

    content: tuple[str, ...]
    labels: NDArray[np.int64]
    engine_logits: Floats
    reference_logits: Floats | None

    @property
    def labelled(self) -> Bools:
        """Which images have a label (N,)."""
        known: Bools = self.labels >= 0
        return known

    @cached_property
    def engine_correct(self) -> Bools:
        """Whether the engine's top class is the label, of the labelled images."""
        return stats.top_k(self.engine_logits[self.labelled], self.labels[self.labelled], 1)

    @cached_property
    def reference_correct(self) -> Bools | None:
        """The same of the reference; None without one."""
        if self.reference_logits is None:
            return None
        return stats.top_k(self.reference_logits[self.labelled], self.labels[self.labelled], 1)

    @cached_property
    def counts(self) -> stats.PairedCounts | None:
        """How engine and reference split the labelled images; None without labels or reference."""
        if self.reference_correct is None or not len(self.reference_correct):
            return None
        return stats.PairedCounts.of(self.reference_correct, self.engine_correct)

    @cached_property
    def not_finite(self) -> int:
        """Number of images for which the engine gave NaN or infinity."""
        return int(np.count_nonzero(~stats.finite_rows(self.engine_logits)))


def measure(
    engine: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    reference: Runner | RecordedReference | None,
    *,
    calibration: Collection[str] = (),
    batch_size: int = 32,
    progress: Progress = SILENT,
) -> Measurement:
    """Logits of every image from the engine and the reference, in one streaming pass.

    ``calibration`` are content hashes of the calibration images. Errors: InputError where
    interface, classes and preprocessing do not fit each other (before anything runs), where an
    image was also used for calibration, where it has no recorded reference logits, or where the
    reference's logits are not finite.
    """
    check_fit(engine, images, preprocess, reference)
    seen = frozenset(calibration)
    content: list[str] = []
    labels: list[NDArray[np.int64]] = []
    engine_logits: list[Floats] = []
    reference_logits: list[Floats] = []
    for batch in batches(images, preprocess, batch_size, progress=progress, label="validate"):
        _refuse_calibration_images(batch, seen)
        engine_logits.append(infer(engine, batch.images))
        if reference is not None:
            reference_logits.append(_reference_logits(reference, batch))
        content.extend(batch.content)
        labels.append(batch.labels)
    return Measurement(
        content=tuple(content),
        labels=np.concatenate(labels),
        engine_logits=np.concatenate(engine_logits),
        reference_logits=np.concatenate(reference_logits) if reference is not None else None,
    )


def check_fit(
    engine: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    reference: Runner | RecordedReference | None,
) -> None:
    """Raise InputError where engine, images, preprocessing and reference do not fit."""
    if len(images) == 0:
        raise InputError(f"{images.source}: no images", "Give a set with at least one image.")
    check_classes(engine.interface, images)
    _check_input(engine.interface, preprocess)
    if reference is None:
        return
    classes = engine.interface.output_shape[-1]
    if isinstance(reference, RecordedReference):
        theirs = reference.classes
    else:
        theirs = reference.interface.output_shape[-1]
        _check_input(reference.interface, preprocess)
    if theirs != classes:
        raise InputError(
            f"the reference has {theirs} outputs, but the engine has {classes}",
            "Give with --reference the FP32 model that the engine was made from.",
        )


def _check_input(interface: Interface, preprocess: Preprocess) -> None:
    gives = (preprocess.channels, *preprocess.input_size)
    takes = tuple(interface.input_shape)
    if gives != takes:
        raise InputError(
            f"preprocessing {preprocess.name!r} gives images of {gives} (channels, height, width), "
            f"but the model takes {takes}",
            "Use the preprocessing that is recorded in the artifact.",
        )


def _refuse_calibration_images(batch: Batch, seen: frozenset[str]) -> None:
    for name, content in zip(batch.names, batch.content, strict=True):
        if content in seen:
            raise InputError(
                f"{name} is a calibration image of this engine (same pixels)",
                "Give images with --data that it never saw, or quantize again without these.",
            )


def _reference_logits(reference: Runner | RecordedReference, batch: Batch) -> Floats:
    if isinstance(reference, RecordedReference):
        logits = reference.logits_for(batch.content, batch.names)
    else:
        logits = infer(reference, batch.images)
    check_finite(logits, batch.names, reference.name)
    return logits
