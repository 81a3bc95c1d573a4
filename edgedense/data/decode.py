"""Decoding: parallel, in order, and never far ahead of who consumes it."""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgedense.data.pixels import content_sha256, eight_bit, to_rgb
from edgedense.data.preprocess import Preprocess
from edgedense.data.sets import ImageSet, Item
from edgedense.environment import cores
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

CHUNK = 8  # images for one task: enough to hide its overhead for 32x32 pixels
# Pillow's other formats stay closed: some start programs (EPS), none carry a data set
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# what Pillow's parsers raise on damaged files, found by mutating tens of thousands of them
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error)
_LEAVE_OUT = "Restore the file, or take it out of the set."


@dataclass(frozen=True)
class Batch:
    """Consecutive images of a set, ready for the network.

    ``images`` is float32 (N, channels, height, width), normalised; ``labels`` int64 (N,), -1 where
    unknown; ``content`` the SHA-256 (hex) of each image's decoded pixels before resizing.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    content: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


class _Decoded(NamedTuple):
    pixels: NDArray[np.uint8]
    label: int
    content: str
    name: str


def batches(
    images: ImageSet,
    preprocess: Preprocess,
    batch_size: int,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
    label: str = "images",
) -> Iterator[Batch]:
    """Yield ``images`` in order as batches of ``batch_size``; the last one may be smaller.

    ``workers`` threads decode (None: one a core). What is decoded but not consumed is bounded by
    ``max(2 * workers, ceil(batch_size / 8)) + 1`` tasks of 8 images at 8 bits a value, so memory
    does not grow with the set. Closing the iterator ends the threads. Errors: InputError, for the
    first image in order that is missing, damaged, of the wrong size or not what its manifest
    promised.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}", "It must be 1 or more.")
    ahead = math.ceil(batch_size / CHUNK)
    with contextlib.closing(_stream(images, preprocess, workers, ahead)) as stream:
        decoded = progress.track(stream, label, len(images))
        while rows := list(islice(decoded, batch_size)):
            yield Batch(
                images=preprocess.normalise(np.stack([row.pixels for row in rows])),
                labels=np.array([row.label for row in rows], np.int64),
                content=tuple(row.content for row in rows),
                names=tuple(row.name for row in rows),
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


def _stream(
    images: ImageSet, preprocess: Preprocess, workers: int | None, ahead: int
) -> Generator[_Decoded, None, None]:
    workers = cores() if workers is None else workers
    if workers < 1:
        raise InputError(f"{workers} decoding threads were asked", "Ask 1 or more.")
    ahead = max(ahead, 2 * workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgedense-decode")
    pending: deque[Future[list[_Decoded]]] = deque()
    try:
        for start in range(0, len(images), CHUNK):
            pending.append(pool.submit(_decode_chunk, images, preprocess, start))
            if len(pending) > ahead:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_chunk(images: ImageSet, preprocess: Preprocess, start: int) -> list[_Decoded]:
    return [_decode(images, item, preprocess) for item in images.items[start : start + CHUNK]]


def _decode(images: ImageSet, item: Item, preprocess: Preprocess) -> _Decoded:
    if isinstance(item.where, Path):
        place, rgb = str(item.where), _open(item.where)
    else:
        place, rgb = item.name, _from_array(images.array, item.where)
    content = content_sha256(rgb)
    if item.sha256 not in (None, content):
        raise InputError(
            f"{place}: its pixels are not those that {images.source} recorded (SHA-256)",
            "Restore the image, or write the manifest again.",
        )
    label = -1 if item.label is None else item.label
    return _Decoded(preprocess.pixels(rgb, place), label, content, item.name)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.load()
            return to_rgb(image, str(path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: {error}", "Scale the image down, or leave it out.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image of a known format", _LEAVE_OUT) from error
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as an image ({reason})", _LEAVE_OUT) from error


def _from_array(array: NDArray[np.unsignedinteger[Any]] | None, index: int) -> Image.Image:
    if array is None:
        raise InputError(f"image {index} belongs to an array that is absent", _LEAVE_OUT)
    pixels = array[index] if array.dtype == np.uint8 else eight_bit(array[index])
    return to_rgb(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))
