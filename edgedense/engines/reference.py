"""What a reference says of an evaluation set, recorded where torch is and read where it is not.

Of a classifier the logits; of a segmentation network, whose logits would fill the disk, the class
of each pixel.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense.data import VOID, ImageSet, Preprocess, batches
from edgedense.distributed import gather_rows, share
from edgedense.engines.runner import Floats, Interface, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress
from edgedense.stats import answers


@dataclass(frozen=True, eq=False)
class RecordedReference:
    """Logits (N, classes) of a reference model, found by the content of an image.

    ``content`` are SHA-256 hex strings of decoded pixels (see ``edgedense.data.Batch``);
    ``labels`` (N,) is -1 where unknown. Of a segmentation network ``logits`` is (0, classes) and
    ``classes_map`` uint8 (N, height, width): the class of each pixel of the network's input.
    """

    content: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: Floats
    name: str = "recorded reference"
    classes_map: NDArray[np.uint8] | None = None

    @property
    def classes(self) -> int:
        """Number of logits of an image, or of a pixel."""
        return int(self.logits.shape[1])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """(classes,), or (classes, height, width) of a segmentation network."""
        return (self.classes, *(() if self.classes_map is None else self.classes_map.shape[1:]))

    @property
    def top1(self) -> float | None:
        """Percent of the labelled images that the model was right on; None without any."""
        known = self.labels >= 0
        if self.classes_map is not None or not known.any():
            return None
        return 100 * float(np.mean(self.logits[known].argmax(axis=1) == self.labels[known]))

    def logits_for(self, content: Sequence[str], names: Sequence[str]) -> Floats:
        """Logits (n, classes) of these images, in this order.

        Errors: InputError naming the first image that was not recorded.
        """
        return self.logits[self._rows_of(content, names)]

    def classes_for(self, content: Sequence[str], names: Sequence[str]) -> NDArray[np.uint8]:
        """Class of each pixel (n, height, width) of these images, in this order.

        Errors: InputError naming the first image that was not recorded.
        """
        rows = self._rows_of(content, names)
        if self.classes_map is None:
            raise InputError(f"{self.name}: no class of each pixel was recorded", _REMAKE)
        return self.classes_map[rows]

    def _rows_of(self, content: Sequence[str], names: Sequence[str]) -> list[int]:
        for digest, name in zip(content, names, strict=True):
            if digest not in self._rows:
                raise InputError(
                    f"{name}: no reference logits were recorded for this image",
                    "Give the FP32 model with --reference MODEL, "
                    "or the evaluation set that the artifact was made with.",
                )
        return [self._rows[digest] for digest in content]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {digest: row for row, digest in enumerate(self.content)}


def record_reference(
    runner: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    *,
    batch_size: int = 32,
    progress: Progress = SILENT,
) -> RecordedReference:
    """Run the reference model over an image set once and keep its logits, or its classes.

    Memory grows by one row of logits an image (of a segmentation network: one byte a pixel),
    nothing more. Masks are read along, so that a set that cannot be judged is found now. Under
    torchrun each process takes whole batches; all have the whole result.
    Errors: InputError where the logits are not finite, or the set is empty.
    """
    if not len(images):
        raise InputError(f"{images.source}: no images", "Give a set with at least one image.")
    dense, shape = is_dense(runner.interface), runner.interface.output_shape
    at_once = images_at_once(runner.interface, batch_size)
    content: list[str] = []
    labels = [np.zeros(0, np.int64)]
    none = np.zeros((0, *shape), np.float32)
    kept: list[NDArray[Any]] = [answers(none) if dense else none]
    for batch in batches(
        replace(images, items=share(images.items, at_once)),
        preprocess,
        at_once,
        mask_classes=shape[0] if dense else None,
        progress=progress,
        label="reference logits",
    ):
        out = infer(runner, batch.images)
        check_finite(out, batch.names, runner.name)
        content.extend(batch.content)
        labels.append(batch.labels)
        kept.append(answers(out) if dense else out)
    rows = {
        "content": np.array(content, "U64"),
        "labels": np.concatenate(labels),
        "answers": np.concatenate(kept),
    }
    return _recorded(gather_rows(rows, at_once, everywhere=True), shape[0], runner.name)


def _recorded(rows: Mapping[str, NDArray[Any]], classes: int, name: str) -> RecordedReference:
    content, found = tuple(map(str, rows["content"])), rows["answers"]
    if found.dtype == np.uint8:
        none = np.zeros((0, classes), np.float32)
        return RecordedReference(content, rows["labels"], none, name, found)
    return RecordedReference(content, rows["labels"], found, name)


def save_reference(path: Path, reference: RecordedReference) -> None:
    """Write what was recorded as a compressed ``.npz`` without pickles."""
    arrays: dict[str, Any] = {
        "content": np.array(reference.content, dtype="U64"),
        "labels": reference.labels,
        "logits": reference.logits,
        "name": np.array(reference.name),
    }
    if reference.classes_map is not None:
        arrays["classes_map"] = reference.classes_map
    np.savez_compressed(path, **arrays)


def load_reference(path: Path) -> RecordedReference:
    """Read what :func:`save_reference` wrote. Errors: InputError where the file is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            reference = RecordedReference(
                content=tuple(str(digest) for digest in arrays["content"]),
                labels=arrays["labels"].astype(np.int64),
                logits=arrays["logits"].astype(np.float32),
                name=str(arrays["name"]) if "name" in arrays else "recorded reference",
                classes_map=arrays.get("classes_map"),
            )
    except _DAMAGED as error:
        raise InputError(f"{path}: not readable as reference logits ({error})", _REMAKE) from error
    n, maps = len(reference.content), reference.classes_map
    rows = n if maps is None else 0
    if reference.logits.ndim != 2 or len(reference.logits) != rows or len(reference.labels) != n:
        raise InputError(f"{path}: images, labels and logits differ in number", _REMAKE)
    if maps is not None and not _are_maps(maps, n, reference.classes):
        raise InputError(f"{path}: classes_map is {maps.dtype} {maps.shape}", _REMAKE)
    return reference


def _are_maps(maps: NDArray[Any], images: int, classes: int) -> bool:
    shaped = maps.dtype == np.uint8 and maps.ndim == 3 and len(maps) == images
    return shaped and int(maps.max(initial=0)) < classes


# what numpy and zipfile raise on damaged, encrypted and pickled archives
_DAMAGED = (
    *(OSError, KeyError, TypeError, AttributeError, ValueError, EOFError, RuntimeError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, struct.error),
)
_REMAKE = "Make the artifact again, or give the FP32 model with --reference MODEL."


def infer(runner: Runner, images: Floats) -> Floats:
    """Logits (N, *output_shape) of any number of images, within the batch range of the runner.

    Larger numbers are cut into parts; a part below the smallest batch is filled up with its last
    image and the surplus rows dropped.
    """
    least, _, most = runner.interface.batch or (1, 1, len(images))
    parts = [images[start : start + most] for start in range(0, len(images), max(most, 1))]
    return np.concatenate([_infer_part(runner, part, least) for part in parts])


def _infer_part(runner: Runner, images: Floats, least: int) -> Floats:
    n = len(images)
    if n < least:
        images = np.concatenate([images, np.repeat(images[-1:], least - n, axis=0)])
    # a runner may hand out its own output buffer and write into it again
    return np.array(runner(images)[:n], dtype=np.float32)


def check_finite(logits: Floats, names: Sequence[str], model: str) -> None:
    """Raise InputError, naming the first image, where a reference model's logits are not finite."""
    finite = np.isfinite(logits).all(axis=tuple(range(1, logits.ndim)))
    if not finite.all():
        raise InputError(
            f"{model}: its logits for {names[int(np.argmin(finite))]} are not finite",
            "A reference with NaN or infinity proves nothing: check the weights.",
        )


def is_dense(interface: Interface) -> bool:
    """Whether a network answers for each pixel (segmentation) and not for the whole image."""
    return len(interface.output_shape) == 3


def images_at_once(interface: Interface, batch_size: int) -> int:
    """``batch_size``, or fewer images where the logits of so many would be too large."""
    least = interface.batch[0] if interface.batch else 1
    return max(least, min(batch_size, _MOST_LOGITS // math.prod(interface.output_shape)))


# of a segmentation network: its activations are some hundred times as large
_MOST_LOGITS = 1 << 22


def require_labels(images: ImageSet) -> None:
    """Raise InputError where an image has no label or mask: accuracy cannot be judged then."""
    if (images.labels < 0).any() and not images.has_masks:
        raise InputError(
            f"{images.source} has images without a label: accuracy cannot be judged",
            "Give a folder that holds one folder a class, or a label for each image.",
        )


def check_classes(interface: Interface, images: ImageSet) -> None:
    """Raise InputError where a network and an image set do not speak of the same classes.

    Nor where the one classifies images and the other has masks, or the other way round.
    """
    if is_dense(interface):
        _check_dense(interface, images)
        return
    if images.has_masks:
        raise InputError(
            f"{images.source} has masks, but the model classifies whole images",
            "Give a folder that holds one folder a class, or a label for each image.",
        )
    classes = interface.output_shape[0]
    named = len(images.class_names)
    highest = int(images.labels.max(initial=-1))
    if named and named != classes:
        raise InputError(
            f"{images.source} has {named} classes, but the model has {classes} outputs",
            "Give the evaluation set of the classes that the model was trained on.",
        )
    if highest >= classes:
        raise InputError(
            f"{images.source}: label {highest}, but the model's {classes} outputs end at "
            f"{classes - 1}",
            "Labels count from 0; give the set of the classes that the model was trained on.",
        )


def _check_dense(interface: Interface, images: ImageSet) -> None:
    classes, *size = interface.output_shape
    if not images.has_masks:
        raise InputError(
            f"{images.source} has no masks, but the model is for segmentation",
            "Give a folder that holds images/ and masks/, DIR/test beside DIR/testannot, or a CSV "
            "file with the columns path,mask.",
        )
    if not 2 <= classes <= VOID or size != list(interface.input_shape[1:]):
        raise InputError(
            f"the model gives {interface.output_shape} (classes, height, width) for images of "
            f"{interface.input_shape[1:]}: it cannot be judged by masks",
            f"It must have 2 to {VOID} classes and one answer for each pixel of its input.",
        )
    named = len(images.class_names)
    without_void = max(set(range(named)) - set(images.void), default=-1) + 1
    if named and not without_void <= classes <= named:
        raise InputError(
            f"{images.source} has {named} classes, but the model has {classes} outputs",
            "Give the evaluation set of the classes that the model was trained on.",
        )
