"""Decoding: parallel, in order, and never far ahead of who consumes it."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedense.data.files import LEAVE_OUT, opened
from edgedense.data.masks import read_mask
from edgedense.data.pixels import content_sha256, eight_bit, to_rgb
from edgedense.data.preprocess import Preprocess
from edgedense.data.sets import ImageSet, Item
from edgedense.environment import cores
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

CHUNK = 8  # images for one task: enough to hide its overhead for 32x32 pixels


@dataclass(frozen=True)
class Batch:
    """Consecutive images of a set, ready for the network.

    ``images`` is float32 (N, channels, height, width), normalised; ``labels`` int64 (N,), -1 where
    unknown; ``content`` the SHA-256 (hex) of each image's decoded pixels before resizing.
    ``masks`` is uint8 (N, height, width), the class of each pixel of ``images`` and 255 where void;
    None where they were not asked or the set has none.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    content: tuple[str, ...]
    names: tuple[str, ...]
    masks: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.names)


class _Decoded(NamedTuple):
    pixels: NDArray[np.uint8]
    label: int
    content: str
    name: str
    size: tuple[int, int]
    mask: NDArray[np.uint8] | None = None


def batches(
    images: ImageSet,
    preprocess: Preprocess,
    batch_size: int,
    *,
    mask_classes: int | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
    label: str = "images",
) -> Iterator[Batch]:
    """Yield ``images`` in order as batches of ``batch_size``; the last one may be smaller.

    ``mask_classes``, the number of a segmentation network's classes, reads the masks too and holds
    them against it; without it they stay closed, for who needs the images alone.
    ``workers`` threads decode (None: one a core). What is decoded but not consumed is bounded by
    ``max(2 * workers, ceil(batch_size / 8)) + 1`` tasks of 8 images at 8 bits a value, so memory
    does not grow with the set. Closing the iterator ends the threads. Errors: InputError, for the
    first image in order that is missing, damaged, of the wrong size or not what its manifest
    promised.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}", "It must be 1 or more.")
    ahead = math.ceil(batch_size / CHUNK)
    with contextlib.closing(_stream(images, preprocess, workers, ahead, mask_classes)) as stream:
        decoded = progress.track(stream, label, len(images))
        while rows := list(islice(decoded, batch_size)):
            yield Batch(
                images=preprocess.normalise(np.stack([row.pixels for row in rows])),
                labels=np.array([row.label for row in rows], np.int64),
                content=tuple(row.content for row in rows),
                names=tuple(row.name for row in rows),
                masks=_masks(rows),
            )


def content_hashes(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
    label: str = "hashing images",
) -> tuple[str, ...]:
    """SHA-256 (hex) of each image's decoded pixels; see :class:`Batch`.

    ``preprocess`` does not change them: it makes sure that every image can be used with it. Errors
    as in :func:`batches`.
    """
    with contextlib.closing(_stream(images, preprocess, workers, 1)) as stream:
        return tuple(row.content for row in progress.track(stream, label, len(images)))


def decoded(images: ImageSet, item: Item) -> Image.Image:
    """One image of a set as 8-bit RGB, its size unchanged. Errors: InputError where damaged."""
    if isinstance(item.where, Path):
        return _open(item.where)
    return _from_array(images.array, item.where)


def _stream(
    images: ImageSet,
    preprocess: Preprocess,
    workers: int | None,
    ahead: int,
    mask_classes: int | None = None,
) -> Generator[_Decoded, None, None]:
    workers = cores() if workers is None else workers
    if workers < 1:
        raise InputError(f"{workers} decoding threads were asked", "Ask 1 or more.")
    ahead = max(ahead, 2 * workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgedense-decode")

    def decode(items: tuple[Item, ...]) -> list[_Decoded]:
        rows = (_decode(images, item, preprocess) for item in items)
        if mask_classes is None:
            return list(rows)
        return [
            row._replace(mask=_mask(item.mask, row, images.void, preprocess, mask_classes))
            for item, row in zip(items, rows, strict=True)
        ]

    pending: deque[Future[list[_Decoded]]] = deque()
    try:
        for start in range(0, len(images), CHUNK):
            pending.append(pool.submit(decode, images.items[start : start + CHUNK]))
            if len(pending) > ahead:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _masks(rows: list[_Decoded]) -> NDArray[np.uint8] | None:
    found = [row.mask for row in rows if row.mask is not None]
    return np.stack(found) if len(found) == len(rows) else None


def _decode(images: ImageSet, item: Item, preprocess: Preprocess) -> _Decoded:
    place = str(item.where) if isinstance(item.where, Path) else item.name
    rgb = decoded(images, item)
    content = content_sha256(rgb)
    if item.sha256 not in (None, content):
        raise InputError(
            f"{place}: its pixels are not those that {images.source} recorded (SHA-256)",
            "Restore the image, or write the manifest again.",
        )
    label = -1 if item.label is None else item.label
    return _Decoded(preprocess.pixels(rgb, place), label, content, item.name, rgb.size)


def _mask(
    path: Path | None,
    image: _Decoded,
    void: tuple[int, ...],
    preprocess: Preprocess,
    classes: int,
) -> NDArray[np.uint8] | None:
    if path is None:
        return None
    mask = read_mask(path, void, classes)
    if mask.size != image.size:
        width, height = image.size
        raise InputError(
            f"{path}: {mask.width}x{mask.height} pixels (width x height), but its image "
            f"{image.name} has {width}x{height}",
            "A mask has one value for each pixel of its image: give the one that belongs to it.",
        )
    return preprocess.mask(mask, str(path))


def _open(path: Path) -> Image.Image:
    with opened(path) as image:
        image.load()
        return to_rgb(image, str(path))


def _from_array(array: NDArray[np.unsignedinteger[Any]] | None, index: int) -> Image.Image:
    if array is None:
        raise InputError(f"image {index} belongs to an array that is absent", LEAVE_OUT)
    pixels = array[index] if array.dtype == np.uint8 else eight_bit(array[index])
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))
