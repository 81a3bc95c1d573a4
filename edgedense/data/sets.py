"""A set of images: which ones, their labels, and its identity. Nothing is decoded here."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense.artifact import sha256_file, sha256_json
from edgedense.data.preprocess import Preprocess
from edgedense.errors import InputError

MOST_CLASSES = 1 << 31
VOID = 255


@dataclass(frozen=True, slots=True)
class Item:
    """One image: ``where`` it is (a file, or its index in the set's array), and what it shows.

    ``name`` is what the set calls it (a path relative to the set), ``label`` the index of its
    class, ``sha256`` the content that a manifest promises (see ``content_sha256``), ``mask`` the
    file that tells the class of each pixel.
    """

    where: Path | int
    label: int | None
    name: str
    sha256: str | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order, as :func:`edgedense.data.load_set` found them at ``source``.

    ``class_names`` is empty where the set does not tell them (labels are given as numbers).
    ``preprocess`` is what a manifest says about itself. ``array`` holds the pixels of an ``.npz``,
    uint8 or uint16, (N, height, width[, channels]); None where the images are files. ``void`` are
    the values of masks that stand for no class.
    """

    source: str
    items: tuple[Item, ...]
    class_names: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    array: NDArray[np.unsignedinteger[Any]] | None = field(default=None, repr=False, compare=False)
    void: tuple[int, ...] = (VOID,)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index of each image's class, int64 (N,); -1 where it is unknown."""
        return np.array([-1 if i.label is None else i.label for i in self.items], np.int64)

    @property
    def has_masks(self) -> bool:
        """Whether this is a segmentation set: every image has a mask."""
        return bool(self.items) and all(item.mask is not None for item in self.items)

    def ignoring(self, values: Iterable[int]) -> ImageSet:
        """The same set with more void values (0 … 255) in its masks."""
        return replace(self, void=tuple(sorted({*self.void, *values})))

    def sample(self, n: int, seed: int) -> ImageSet:
        """At most ``n`` images, stratified: each class's share is within one image of its quota.

        The choice depends on ``seed`` and the images' names alone: not on the order of the files,
        the platform, or (inside one class) the other classes. The result is shuffled, so that any
        beginning of it is mixed too. Errors: InputError for ``n`` below 1.
        """
        if n < 1:
            raise InputError(f"{self.source}: a sample of {n} images was asked", "Ask 1 or more.")
        n = min(n, len(self))
        ranked = sorted((_rank(seed, i.name), k) for k, i in enumerate(self.items))
        strata: dict[int | None, list[int]] = defaultdict(list)
        for _, k in ranked:
            strata[self.items[k].label].append(k)
        chosen = {
            k
            for label, quota in _quotas({c: len(s) for c, s in strata.items()}, n)
            for k in strata[label][:quota]
        }
        return replace(self, items=tuple(self.items[k] for _, k in ranked if k in chosen))

    def check_labels(self, num_classes: int) -> None:
        """Raise InputError unless every image has a label that a model of so many classes knows."""
        for item in self.items:
            if item.label is None:
                raise InputError(
                    f"{self.source}: {item.name} has no label",
                    "Accuracy needs one folder per class, or a label for each image.",
                )
        found = len(self.class_names) or int(self.labels.max(initial=-1)) + 1
        if found > num_classes or (self.class_names and found != num_classes):
            raise InputError(
                f"{self.source} has {found} classes, but the model has {num_classes}",
                "Give the data set that the model was trained for, with all of its classes.",
            )


def set_sha256(images: ImageSet) -> str:
    """Identity (hex) of a set, without decoding: names, labels, classes, sizes and times of files.

    Masks count as their images do; for an ``.npz`` its bytes count instead. Errors: InputError
    where a file is missing.
    """
    data = "" if images.array is None else sha256_file(Path(images.source))
    digest = hashlib.sha256(sha256_json([data, images.class_names]).encode())
    for item in images.items:
        digest.update(sha256_json([item.name, item.label, *_stamp(item.where)]).encode())
    if images.has_masks:
        digest.update(sha256_json(images.void).encode())
    for item in images.items:
        if item.mask is not None:
            digest.update(sha256_json([item.mask.name, *_stamp(item.mask)]).encode())
    return digest.hexdigest()


def _stamp(where: Path | int) -> tuple[int, ...]:
    if isinstance(where, int):
        return (where,)
    try:
        status = where.stat()
    except OSError as error:
        raise InputError(
            f"{where}: {error.strerror}", "Restore the file, or take it out of the set."
        ) from error
    return status.st_size, status.st_mtime_ns


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogateescape")).digest()


def _quotas(sizes: dict[int | None, int], n: int) -> Iterator[tuple[int | None, int]]:
    """Largest remainders; ties in the order of ``sizes``, which the seed has shuffled."""
    total = sum(sizes.values())
    left = n - sum(n * size // total for size in sizes.values())
    by_remainder = sorted(sizes, key=lambda c: -(n * sizes[c] % total))
    for place, label in enumerate(by_remainder):
        yield label, n * sizes[label] // total + (place < left)
