"""Any image that Pillow opens, brought to 8-bit RGB; and the identity of its content.

Everything downstream starts from this one form, so that a picture means the same whether it came
as PNG or BMP, as grey or as grey stored in three channels. EXIF orientation and colour profiles
are left alone and alpha is dropped, as ``Image.convert("RGB")`` does it and with it the loaders
that DenseNets are usually trained with.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedense.errors import InputError

_CONVERTIBLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"})
# Pillow opens 16-bit grey as "I" from these formats (PNG before Pillow 10.3), scaled to 0..65535
_SIXTEEN_BIT_AS_INT = frozenset({"PNG", "PPM"})


def to_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """``image`` as 8-bit RGB, its size unchanged.

    16-bit grey is divided by 257 and rounded (Pillow would clip it to white; of 16-bit RGB it
    keeps the high bytes); alpha is dropped; a file of several frames gives its first. Errors:
    InputError, naming ``name``, for float, 32-bit and Lab images, whose range nothing tells.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BIT_AS_INT):
        return Image.fromarray(eight_bit(np.asarray(image))).convert("RGB")
    if image.mode not in _CONVERTIBLE:
        raise InputError(
            f"{name}: pixel mode {image.mode!r} has no defined range in 8 bits",
            "Save it as an 8-bit or 16-bit grey or RGB image.",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # from P straight to RGB Pillow warns about transparency
    return image.convert("RGB")


def eight_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """0..65535 scaled to 0..255, rounded to nearest: 65535 becomes 255, 257 becomes 1."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def content_sha256(rgb: Image.Image) -> str:
    """SHA-256 (hex) of an RGB image's size and pixels: the same whatever the file format."""
    digest = hashlib.sha256(f"RGB {rgb.width} {rgb.height}\n".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()
