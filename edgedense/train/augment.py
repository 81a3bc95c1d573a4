"""Augmentation whose draws depend on (seed, epoch, index of the image) alone.

So neither the number of processes nor of workers changes what a network sees. Sources: CIFAR, as
liuzhuang13/DenseNet's data loader does it (zeros after normalisation, paper section 4.1); ImageNet,
the crops of Szegedy et al., "Going Deeper with Convolutions" (arXiv 1409.4842, section 6).
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Augmentation = Literal["none", "crop-flip", "resized-crop-flip"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)

_AREA, _RATIO, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10


def draws(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one image in one epoch."""
    return np.random.default_rng([seed, epoch, index])


def pad_of(height: int) -> int:
    """Pixels that are padded around an image of ``height``: 4 for 32, 1 for 8."""
    return max(1, round(height / 8))


def flipped(random: np.random.Generator) -> bool:
    """Whether an image is mirrored: every second one is."""
    return bool(random.random() < 0.5)


def crop_flip(image: NDArray[Any], random: np.random.Generator, fill: float) -> NDArray[Any]:
    """An image (..., H, W) shifted by up to its padding, and perhaps mirrored; the shape stays."""
    height, width = image.shape[-2:]
    pad = pad_of(height)
    mirror = flipped(random)
    top, left = (int(n) for n in random.integers(0, 2 * pad + 1, 2))
    frame = np.full((*image.shape[:-2], height + 2 * pad, width + 2 * pad), fill, image.dtype)
    frame[..., pad : pad + height, pad : pad + width] = image
    cut = frame[..., top : top + height, left : left + width]
    return cut[..., ::-1] if mirror else cut


def resized_crop_flip(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling,
    random: np.random.Generator,
) -> Image.Image:
    """A random part of an image, scaled to (height, width), and perhaps mirrored."""
    mirror = flipped(random)
    box = _box(image.width, image.height, random)
    cut = image.resize((size[1], size[0]), resample, box=box)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else cut


def _box(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of 8 to 100 % of the area, its ratio 3/4 to 4/3."""
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_AREA)
        ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = (
                int(random.integers(0, width - w + 1)),
                int(random.integers(0, height - h + 1)),
            )
            return left, top, left + w, top + h
    w = min(width, round(height * _RATIO[1]))  # a very long image: its middle
    h = min(height, round(width / _RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
