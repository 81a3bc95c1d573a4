"""Image sets written down: CSV files of path and label or mask, and JSON manifests.

A JSON manifest pins a set for version control::

    {"format": "edgedense-set/1", "name": "digits", "root": "../images", "seed": 0,
     "class_names": ["cat", "dog"], "preprocess": {...} or "cifar10",
     "images": [{"path": "cat/1.png", "label": 0, "sha256": "..."}]}

``sha256`` is of the decoded pixels and is checked when they are decoded. Only ``images`` and their
``path`` are needed. A bare list of such entries is taken too.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedense.artifact import disk_errors, write_json
from edgedense.data.masks import with_classes
from edgedense.data.preprocess import PRESETS, Preprocess, load_preprocess
from edgedense.data.sets import MOST_CLASSES, ImageSet, Item
from edgedense.errors import InputError

SET_FORMAT = "edgedense-set/1"
_CSV_FORM = "Its first line must be path,label (or path,mask); each further line one image."
_ONE_TASK = "Labels are for classification, masks for segmentation: leave one of them."
_JSON_FORM = (
    f'Wanted: {{"format": "{SET_FORMAT}", "images": [{{"path": "a.png", "label": 0}}, ...]}}.'
)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Label = int | str | None


def read_csv(path: Path, root: Path | None = None) -> ImageSet:
    """A CSV file with the column ``path`` and, if known, ``label`` or ``mask``; others are ignored.

    Labels are numbers, or else names, which are sorted and numbered. Masks are paths like those of
    the images; ``classes.txt`` beside the CSV file may name their classes.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, skipinitialspace=True)
            header = [column.strip().lower() for column in next(rows, [])]
            lines = [(rows.line_num, row) for row in rows if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not readable CSV ({error})", _CSV_FORM) from error
    if "path" not in header:
        found = ", ".join(header) or "nothing"
        raise InputError(f"{path} has no column 'path' (found: {found})", _CSV_FORM)
    if "label" in header and "mask" in header:
        raise InputError(f"{path} has a column 'label' and a column 'mask'", _ONE_TASK)
    columns = [header.index(c) for c in ("path", "label", "mask") if c in header]
    base = root or path.parent
    masked = "mask" in header
    items, answers = [], []
    for number, row in lines:
        if len(row) <= max(columns) or not all(row[k].strip() for k in columns[: 1 + masked]):
            missing = "mask" if masked else "label"
            raise InputError(f"{path}, line {number}: path or {missing} is missing", _CSV_FORM)
        name, *answer = (row[k].strip() for k in columns)
        items.append(Item(base / name, None, name, mask=base / answer[0] if masked else None))
        answers.append("" if masked or not answer else answer[0])
    images = _labelled(ImageSet(str(path), tuple(items)), _labels(answers))
    return with_classes(images, path.parent) if masked else images


def read_json(path: Path, root: Path | None = None) -> ImageSet:
    """A JSON manifest, as this module describes it. Labels are numbers, names or null."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON ({error})", _JSON_FORM) from error
    if isinstance(raw, list):
        raw = {"format": SET_FORMAT, "images": raw}
    if not isinstance(raw, dict) or raw.get("format") != SET_FORMAT:
        raise InputError(f"{path} has no format {SET_FORMAT!r}", _JSON_FORM)
    entries = raw.get("images")
    names = raw.get("class_names") or []
    if not isinstance(entries, list):
        raise InputError(f"{path} has no list 'images'", _JSON_FORM)
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputError(f"{path}: class_names is no list of strings", _JSON_FORM)
    if len(set(names)) != len(names):
        raise InputError(f"{path}: class_names has a name twice", "Name each class once.")
    base = root or path.parent / _string(raw.get("root", ""), f"{path}: root")
    images = ImageSet(
        str(path),
        tuple(_item(entry, base, f"{path}: images[{k}]") for k, entry in enumerate(entries)),
        tuple(names),
        _preprocess(raw.get("preprocess"), path.parent, f"{path}: preprocess"),
    )
    return _labelled(images, [entry.get("label") for entry in entries])


def write_manifest(
    images: ImageSet,
    path: Path,
    *,
    seed: int | None,
    preprocess: Preprocess,
    content: Sequence[str],
) -> None:
    """Write ``images`` as a JSON manifest that pins them: labels, seed and decoded content.

    Masks are not written down: what a manifest pins is calibration, which looks at images alone.
    ``content`` is one SHA-256 an image, as ``content_hashes`` gives them. Paths are relative to
    the images' common folder, and that to the manifest. Errors: InputError for images of an
    ``.npz``, which have no paths.
    """
    files = [item.where for item in images.items if isinstance(item.where, Path)]
    if len(files) != len(images) or not files:
        raise InputError(
            f"{images.source}: images inside an array have no paths to write down",
            "Save them as image files first.",
        )
    absolute = [os.path.abspath(file) for file in files]  # noqa: PTH100 - resolve() follows links
    root = os.path.commonpath([os.path.dirname(file) for file in absolute])  # noqa: PTH120
    manifest = {
        "format": SET_FORMAT,
        "name": path.stem,
        "root": Path(os.path.relpath(root, path.parent)).as_posix(),
        "seed": seed,
        "preprocess": preprocess.to_dict(),
        "class_names": list(images.class_names),
        "images": [
            {"path": Path(file).relative_to(root).as_posix(), "label": item.label, "sha256": sha256}
            for file, item, sha256 in zip(absolute, images.items, content, strict=True)
        ],
    }
    with disk_errors(path):
        write_json(path, manifest)


def _labels(cells: Sequence[str]) -> list[Label]:
    """Cells as numbers, or else as names; empty ones are unknown."""
    numeric = all(_INTEGER.fullmatch(cell) for cell in cells if cell)
    return [None if cell == "" else int(cell) if numeric else cell for cell in cells]


def _item(entry: Any, base: Path, place: str) -> Item:
    if not isinstance(entry, Mapping) or not entry.get("path"):
        raise InputError(f"{place} has no path", _JSON_FORM)
    name = _string(entry["path"], f"{place}: path")
    sha256 = entry.get("sha256")
    if sha256 is not None and not _SHA256.fullmatch(_string(sha256, f"{place}: sha256")):
        raise InputError(f"{place}: sha256 is {sha256!r}", "It must be 64 hexadecimal digits.")
    label = entry.get("label")
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        raise InputError(f"{place}: label is {label!r}", "It must be a number, a name or null.")
    return Item(base / name, None, name, sha256)


def _labelled(images: ImageSet, labels: Sequence[Label]) -> ImageSet:
    """``images`` with ``labels``: numbers as they are, names as indices of the class names."""
    if not images.items:
        raise InputError(f"{images.source} lists no images", "Add some.")
    found = sorted({label for label in labels if isinstance(label, str)})
    class_names = images.class_names or tuple(found)
    index = {name: k for k, name in enumerate(class_names)}
    guessed = bool(found) and not images.class_names  # then a number has nothing to point into
    limit = 0 if guessed else len(class_names) or MOST_CLASSES
    items = []
    for item, label in zip(images.items, labels, strict=True):
        if isinstance(label, str):
            number, known = index.get(label), label in index
        else:
            number, known = label, label is None or 0 <= label < limit
        if not known:
            raise InputError(
                f"{images.source}: {item.name} has the unknown label {label!r}",
                "Labels count from 0, or are all names; if class_names is there, it lists them.",
            )
        items.append(replace(item, label=number))
    return replace(images, items=tuple(items), class_names=class_names)


def _preprocess(raw: object, folder: Path, place: str) -> Preprocess | None:
    if raw is None:
        return None
    if isinstance(raw, str):
        return load_preprocess(raw if raw in PRESETS else str(folder / raw))
    if isinstance(raw, Mapping):
        return Preprocess.from_dict(raw, place)
    raise InputError(f"{place} is {raw!r}", "It must be a preset's name or a table of keys.")


def _string(value: object, place: str) -> str:
    if isinstance(value, str):
        return value
    raise InputError(f"{place} is {value!r}", "It must be a string.")
