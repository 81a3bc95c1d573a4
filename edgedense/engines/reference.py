"""Reference logits of an evaluation set, recorded where torch is and read where it is not."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedense.data import ImageSet, Preprocess, batches
from edgedense.engines.runner import Floats, Interface, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress


@dataclass(frozen=True, eq=False)
class RecordedReference:
    """Logits (N, classes) of a reference model, found by the content of an image.

    ``content`` are SHA-256 hex strings of decoded pixels (see ``edgedense.data.Batch``);
    ``labels`` (N,) is -1 where unknown.
    """

    content: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: Floats
    name: str = "recorded reference"

    @property
    def classes(self) -> int:
        """Number of logits of an image."""
        return int(self.logits.shape[1])

    def logits_for(self, content: Sequence[str], names: Sequence[str]) -> Floats:
        """Logits (n, classes) of these images, in this order.

        Errors: InputError naming the first image that was not recorded.
        """
        for digest, name in zip(content, names, strict=True):
            if digest not in self._rows:
                raise InputError(
                    f"{name}: no reference logits were recorded for this image",
                    "Give the FP32 model with --reference MODEL, "
                    "or the evaluation set that the artifact was made with.",
                )
        return self.logits[[self._rows[digest] for digest in content]]

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
    """Run the reference model over an image set once and keep its logits.

    Memory grows by one row of logits an image, nothing more. Errors: InputError where the logits
    are not finite, or the set is empty.
    """
    content: list[str] = []
    labels: list[NDArray[np.int64]] = []
    logits: list[Floats] = []
    stream = batches(images, preprocess, batch_size, progress=progress, label="reference logits")
    for batch in stream:
        out = infer(runner, batch.images)
        check_finite(out, batch.names, runner.name)
        content.extend(batch.content)
        labels.append(batch.labels)
        logits.append(out)
    if not logits:
        raise InputError(f"{images.source}: no images", "Give a set with at least one image.")
    return RecordedReference(
        tuple(content), np.concatenate(labels), np.concatenate(logits), runner.name
    )


def save_reference(path: Path, reference: RecordedReference) -> None:
    """Write recorded logits as a compressed ``.npz`` without pickles."""
    np.savez_compressed(
        path,
        content=np.array(reference.content, dtype="U64"),
        labels=reference.labels,
        logits=reference.logits,
        name=np.array(reference.name),
    )


def load_reference(path: Path) -> RecordedReference:
    """Read what :func:`save_reference` wrote. Errors: InputError where the file is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            reference = RecordedReference(
                content=tuple(str(digest) for digest in arrays["content"]),
                labels=arrays["labels"].astype(np.int64),
                logits=arrays["logits"].astype(np.float32),
                name=str(arrays["name"]) if "name" in arrays else "recorded reference",
            )
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"{path}: not readable as reference logits ({error})", _REMAKE) from error
    n = len(reference.content)
    if reference.logits.ndim != 2 or len(reference.logits) != n or len(reference.labels) != n:
        raise InputError(f"{path}: images, labels and logits differ in number", _REMAKE)
    return reference


_REMAKE = "Make the artifact again, or give the FP32 model with --reference MODEL."


def infer(runner: Runner, images: Floats) -> Floats:
    """Logits (N, classes) of any number of images, within the batch range of the runner.

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
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{model}: its logits for {names[int(np.argmin(finite))]} are not finite",
            "A reference with NaN or infinity proves nothing: check the weights.",
        )


def require_labels(images: ImageSet) -> None:
    """Raise InputError where an image has no label: accuracy cannot be judged then."""
    if (images.labels < 0).any():
        raise InputError(
            f"{images.source} has images without a label: accuracy cannot be judged",
            "Give a folder that holds one folder a class, or a label for each image.",
        )


def check_classes(interface: Interface, images: ImageSet) -> None:
    """Raise InputError where a network and an image set do not speak of the same classes."""
    classes = interface.output_shape[-1]
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
