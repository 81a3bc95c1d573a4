"""Image files on disk: which they are below a folder, and opening one of them."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from edgedense.errors import InputError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
LEAVE_OUT = "Restore the file, or take it out of the set."
# Pillow's other formats stay closed: some start programs (EPS), none carry a data set
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
# what Pillow's parsers raise on damaged files, found by mutating tens of thousands of them
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file, its pixels not yet read. Errors: InputError where it or they are damaged."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: {error}", "Scale the image down, or leave it out.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image of a known format", LEAVE_OUT) from error
    except _DAMAGED as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read as an image ({reason})", LEAVE_OUT) from error


def walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Images below ``folder``, in order of their names; links are followed, each folder once."""
    identity = identity_of(folder)
    if identity in seen:
        return
    seen.add(identity)
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk(folder / entry.name, seen)
        elif is_image(entry):
            yield folder / entry.name


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a folder's entry is an image file, by its name."""
    # a broken link counts: decoding will name it, where leaving it out would hide it
    return (
        Path(entry.name).suffix.lower() in SUFFIXES
        and not entry.name.startswith(".")
        and (entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()))
    )


def identity_of(folder: Path) -> tuple[int, int]:
    """What tells a folder from all others, whatever path leads to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def contents(folder: Path) -> str:
    """A few names inside a folder, for an error's text."""
    names = sorted(p.name for p in folder.iterdir())
    if not names:
        return "it is empty"
    return f"found {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
