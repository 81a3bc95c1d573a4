"""Masks of segmentation sets: which belongs to which image, and the class of each pixel.

A mask is an 8-bit single-channel or palette image, PNG, BMP or TIFF, whose values are indices of
classes (as in PASCAL VOC and CamVid); 255 is void, a pixel that nobody judges.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedense.data.files import contents, opened, walk
from edgedense.data.sets import VOID, ImageSet, Item
from edgedense.errors import InputError

CLASSES_FILE = "classes.txt"
_VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore"})
_FORMATS = ("PNG", "BMP", "TIFF")
_LOSSY = frozenset({".jpg", ".jpeg"})
_FORM = (
    "Save each mask as an 8-bit single-channel or palette PNG whose values are class indices "
    f"({VOID}: void)."
)


def read_pairs(images: Path, masks: Path, root: Path) -> ImageSet:
    """The images below one folder with their masks below another, found by the same name.

    Names are relative to the two folders and may end differently (``a/1.jpg``, ``a/1.png``). Masks
    without an image are left out. ``classes.txt`` beside the masks' folder, if it is there, names
    the classes. The images' own names are relative to ``root``.
    Errors: InputError for an image without a mask, or with several.
    """
    try:
        pictures, answers = list(walk(images, set())), list(walk(masks, set()))
        if not pictures:
            raise InputError(
                f"no images in {images} ({contents(images)})", "Put the images of the masks there."
            )
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}", "Make it readable.") from error
    by_stem = _unique(answers, masks)
    _unique(pictures, images)  # of two images with one name, one would get the other's mask
    items = []
    for picture in pictures:
        stem = picture.relative_to(images).with_suffix("")
        if stem not in by_stem:
            raise InputError(
                f"{picture} has no mask: no {masks / stem}.png (or .bmp, .tif)",
                "Add the mask, or list the pairs in a CSV file with the columns path,mask.",
            )
        items.append(Item(picture, None, picture.relative_to(root).as_posix(), None, by_stem[stem]))
    return with_classes(ImageSet(str(root), tuple(items)), masks.parent)


def with_classes(images: ImageSet, folder: Path) -> ImageSet:
    """``images`` with the class names of ``folder / classes.txt`` (one a line), if it is there.

    Classes named void, unlabelled, unlabeled or ignore become void too. Errors: InputError.
    """
    path = folder / CLASSES_FILE
    for item in images.items:
        if item.mask is not None and item.mask.suffix.lower() in _LOSSY:
            raise InputError(f"{item.mask}: JPEG is lossy and changes class indices", _FORM)
    try:
        if not path.is_file():
            return images
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable text ({error})", "One name a line.") from error
    names = tuple(line.strip() for line in lines)
    if not names or not all(names) or len(set(names)) != len(names) or len(names) > VOID:
        raise InputError(
            f"{path}: {len(names)} lines, of which some are empty or alike",
            f"Write one name a line, in the order of the mask values, at most {VOID}.",
        )
    void = (index for index, name in enumerate(names) if name.casefold() in _VOID_NAMES)
    return replace(images, class_names=names).ignoring(void)


def classes_file(images: ImageSet) -> Path:
    """Where the class names of a set with masks are looked for, whether they are there or not."""
    source = Path(images.source)
    inside = (source / "images").is_dir() and (source / "masks").is_dir()
    folder = source if inside else Path(os.path.abspath(source)).parent  # noqa: PTH100 - as given
    return folder / CLASSES_FILE


def read_mask(path: Path, void: Iterable[int], classes: int) -> Image.Image:
    """A mask as an image of mode L: class indices, with :data:`VOID` for every void value.

    Errors: InputError, naming the file, where it is no mask or holds a class that a network of so
    many ``classes`` does not have.
    """
    with opened(path) as image:
        _check_form(path, image)
        values = np.asarray(image)
    known = np.zeros(VOID + 1, np.bool_)
    known[:classes] = True
    table = np.arange(VOID + 1, dtype=np.uint8)
    table[list(void)] = VOID
    known[table == VOID] = True
    if not known[values].all():
        wrong = int(values[~known[values]].min())
        raise InputError(
            f"{path}: a pixel has the class {wrong}, but the model's {classes} classes end at "
            f"{classes - 1}",
            "Masks must hold class indices 0, 1, 2, …: were they saved as 0, 100, 200, or as "
            f"colours? Do they hold more classes than the network, or {CLASSES_FILE}, has? If "
            f"{wrong} is void, name it void in {CLASSES_FILE} (validate also takes "
            f"--ignore-class {wrong}).",
        )
    indices: NDArray[np.uint8] = table[values]
    return Image.fromarray(indices)


def _check_form(path: Path, image: Image.Image) -> None:
    lossy = image.info.get("compression") == "jpeg"
    if image.format not in _FORMATS or lossy:
        found = "JPEG inside TIFF" if lossy else image.format
        raise InputError(f"{path}: a mask cannot be {found}, which may change values", _FORM)
    if image.mode not in ("L", "P"):
        raise InputError(
            f"{path}: a mask of pixel mode {image.mode!r}, not of class indices",
            f"Turn colours into indices by the colour table of the data set. {_FORM}",
        )
    # Pillow stretches grey of fewer bits to 0..255 and inverts "white is zero"
    if image.mode == "L" and _raw_mode(image) != "L":
        raise InputError(f"{path}: its grey values are not 8-bit class indices", _FORM)


def _raw_mode(image: Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words; empty where that is unknown."""
    tile = getattr(image, "tile", ())  # typed in newer versions of Pillow only
    args = tile[0][3] if tile else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _unique(files: list[Path], folder: Path) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    for file in files:
        stem = file.relative_to(folder).with_suffix("")
        if stem in found:
            raise InputError(
                f"{file} and {found[stem].name}: which of them is meant?",
                "Leave one of the two, or list the pairs in a CSV file with the columns path,mask.",
            )
        found[stem] = file
    return found
