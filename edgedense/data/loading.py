"""From what the user gave to an :class:`ImageSet`: folders, a manifest, an .npz."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense.data.files import contents, identity_of, is_image, walk
from edgedense.data.manifests import read_csv, read_json
from edgedense.data.masks import read_pairs
from edgedense.data.sets import MOST_CLASSES, ImageSet, Item
from edgedense.errors import InputError

_FORMS = (
    "Give a folder with one sub-folder per class (or with images/ and masks/), a .csv or .json "
    "manifest, or an .npz file."
)
# what numpy and zipfile raise on damaged, encrypted and pickled archives
_DAMAGED = (
    *(OSError, ValueError, EOFError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_ANNOTATED = "annot"
_ARRAYS = ("images", "labels", "class_names")
_NPZ_FORM = (
    "Write it with numpy.savez(path, images=..., labels=...): images uint8 (N, height, width) or "
    "(N, height, width, channels), labels whole numbers (N,)."
)


def load_set(path: Path, root: Path | None = None) -> ImageSet:
    """The images at ``path``: a folder, a ``.csv`` or ``.json`` manifest, or an ``.npz``.

    A manifest's paths are relative to ``root`` if it is given, else to what the manifest says,
    else to the manifest's folder. Labels are indices into the sorted class names. A folder with
    ``images`` and ``masks`` inside, or ``DIR/test`` beside ``DIR/testannot`` (the layout of
    SegNet's CamVid), is a segmentation set, and so is a CSV file with a column ``mask``. Only an
    ``.npz`` is read whole (its compression leaves no choice): its memory is that of its ``images``.
    Errors: InputError for whatever cannot be used, naming the file, the line or the entry.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputError(f"{path} does not exist", _FORMS)
    match path.suffix.lower():
        case ".csv":
            return read_csv(path, root)
        case ".json":
            return read_json(path, root)
        case ".npz":
            return _npz(path)
    raise InputError(f"{path} is no image set", _FORMS)


def _folder(path: Path) -> ImageSet:
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links
    annotated = absolute.parent / (absolute.name + _ANNOTATED)
    try:
        paired = (path / "images").is_dir() and (path / "masks").is_dir()
        beside = annotated.is_dir()
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}", "Make it readable.") from error
    if paired:
        return read_pairs(path / "images", path / "masks", path)
    return read_pairs(path, annotated, path) if beside else _tree(path)


def _tree(root: Path) -> ImageSet:
    try:
        entries = sorted(os.scandir(root), key=lambda e: e.name)
        classes = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
        loose = [Path(e.path) for e in entries if is_image(e)]
        seen = identity_of(root)
        found = [(c, list(walk(root / c, {seen}))) for c in classes]
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}", "Make it readable.") from error
    if not loose and not any(files for _, files in found):
        raise InputError(f"no images in {root} ({contents(root)})", _FORMS)
    if not classes:
        return ImageSet(str(root), tuple(Item(p, None, p.name) for p in loose))
    if loose:
        raise InputError(
            f"{root} has images beside its class folders: {loose[0].name}",
            "Move them into their class folders, or remove them.",
        )
    if classes == ["images"]:
        raise InputError(
            f"{root} holds images and no masks: the folder {root / 'masks'} is missing",
            f"Add it, with one mask an image; for images alone, without any answers, give "
            f"{root / 'images'}.",
        )
    for name in classes:
        if name + _ANNOTATED in classes:
            raise InputError(
                f"{root} holds {name} and {name}{_ANNOTATED}: images beside their masks",
                f"Give one of its sets: {root / name}",
            )
    for name, files in found:
        if not files:
            raise InputError(
                f"no images in class folder {root / name} ({contents(root / name)})",
                "Give the folder that holds one folder of images for each class.",
            )
    items = (
        Item(file, label, file.relative_to(root).as_posix())
        for label, (_, files) in enumerate(found)
        for file in files
    )
    return ImageSet(str(root), tuple(items), tuple(classes))


def _npz(path: Path) -> ImageSet:
    arrays = _arrays(path)
    images = _checked(path, arrays["images"])
    count = len(images)
    labels = arrays.get("labels", np.full(count, -1))
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{path}: labels are {labels.dtype} {labels.shape}, not whole numbers ({count},)",
            _NPZ_FORM,
        )
    class_names = tuple(map(str, arrays.get("class_names", np.empty(0)).ravel()))
    limit = len(class_names) or MOST_CLASSES
    values = [int(label) for label in labels]
    for k, value in enumerate(values):
        if not -1 <= value < limit:
            raise InputError(
                f"{path}: labels[{k}] is {value}",
                "Labels count from 0 (-1: unknown) and, if class_names is there, point into it.",
            )
    items = (Item(k, None if v < 0 else v, f"{path.name}[{k}]") for k, v in enumerate(values))
    return ImageSet(str(path), tuple(items), class_names, array=images)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} holds a single array and no names", _NPZ_FORM)
            if "images" not in archive.files:
                names = ", ".join(sorted(archive.files)) or "nothing"
                raise InputError(f"{path} has no array 'images' (found: {names})", _NPZ_FORM)
            return {name: archive[name] for name in _ARRAYS if name in archive.files}
    except _DAMAGED as error:
        raise InputError(f"{path} is damaged or holds objects ({error})", _NPZ_FORM) from error


def _checked(path: Path, images: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    if images.dtype.kind != "u" or images.dtype.itemsize > 2:
        raise InputError(
            f"{path}: images are {images.dtype} {images.shape}, not uint8 or uint16 pixels",
            "Store the images as they were before normalisation, channels last: preprocessing is "
            "applied here.",
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)):
        raise InputError(
            f"{path}: images have shape {images.shape}; wanted (N, height, width[, 1, 3 or 4])",
            "If the channels come second, transpose them: images.transpose(0, 2, 3, 1).",
        )
    if 0 in images.shape:
        raise InputError(f"{path} holds no images: shape {images.shape}", _NPZ_FORM)
    return images
