"""The images of training, decoded once where they fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedense.data import ImageSet, Preprocess, batches
from edgedense.data.preprocess import INTERPOLATIONS
from edgedense.progress import SILENT, Progress
from edgedense.train.augment import resized_crop_flip

CACHE_BYTES = 1 << 30
_AT_ONCE = 256

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """A set with its preprocessing and, where they fit, its decoded images.

    ``pixels`` are uint8 (N, H, W, C), ``masks`` uint8 (N, H, W) and ``content`` the hashes of all
    images; None, None and empty where files are read again in every epoch. ``mask_classes`` is the
    number of a segmentation network's classes, None for one answer an image.
    """

    images: ImageSet
    preprocess: Preprocess
    mask_classes: int | None = None
    pixels: Pixels | None = None
    masks: Pixels | None = None
    content: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: tuple[int, ...]) -> tuple[Pixels, Pixels | None]:
        """Decoded images, and masks of a segmentation set. Errors: InputError."""
        rows = list(indices)
        if self.pixels is not None:
            return self.pixels[rows], None if self.masks is None else self.masks[rows]
        few = replace(self.images, items=tuple(self.images.items[k] for k in rows))
        found = next(_decoded(few, self.preprocess, len(rows), self.mask_classes, workers=1))
        return found[:2]

    def cropped(self, index: int, random: np.random.Generator) -> Pixels:
        """A randomly cropped, scaled and mirrored image (H, W, C). Errors: InputError."""
        one = replace(self.images, items=(self.images.items[index],))
        given = {f.name: getattr(self.preprocess, f.name) for f in fields(self.preprocess)}
        crop = _RandomCrop(**{**given, "resize": None}, random=random)
        cut: Pixels = next(_decoded(one, crop, 1, None, workers=1))[0][0]
        return cut


def open_source(
    images: ImageSet,
    preprocess: Preprocess,
    mask_classes: int | None,
    *,
    keep: bool = True,
    label: str = "decode",
    progress: Progress = SILENT,
) -> Source:
    """A set for training or evaluation; with ``keep`` decoded now if that takes at most 1 GiB.

    Errors: InputError for images that cannot be used.
    """
    source = Source(images, preprocess, mask_classes)
    values = preprocess.channels + (mask_classes is not None)
    height, width = preprocess.input_size
    if not keep or len(images) * height * width * values > CACHE_BYTES:
        return source
    pixels = np.empty((len(images), height, width, preprocess.channels), np.uint8)
    masks = None if mask_classes is None else np.empty(pixels.shape[:3], np.uint8)
    content: list[str] = []
    parts = _decoded(images, preprocess, _AT_ONCE, mask_classes, progress=progress, label=label)
    for part, part_masks, hashes in parts:
        rows = slice(len(content), len(content) + len(part))
        pixels[rows] = part
        if masks is not None:
            masks[rows] = part_masks
        content.extend(hashes)
    return replace(source, pixels=pixels, masks=masks, content=tuple(content))


@dataclass(frozen=True)
class _RandomCrop(Preprocess):
    """Colour as the preprocessing has it, but a random crop for resize and centre crop."""

    random: np.random.Generator

    def pixels(self, image: Image.Image, name: str = "image") -> Pixels:
        resample = INTERPOLATIONS[self.interpolation]
        cut = resized_crop_flip(image, self.input_size, resample, self.random)
        return super().pixels(cut, name)


def _decoded(
    images: ImageSet, preprocess: Preprocess, batch_size: int, mask_classes: int | None, **how: Any
) -> Iterator[tuple[Pixels, Pixels | None, tuple[str, ...]]]:
    # with these constants normalising is a division by 255, which can be taken back exactly
    channels = preprocess.channels
    plain = replace(preprocess, mean=(0.0,) * channels, std=(1.0,) * channels)
    for batch in batches(images, plain, batch_size, mask_classes=mask_classes, **how):
        pixels = np.rint(batch.images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        yield pixels, batch.masks, batch.content
