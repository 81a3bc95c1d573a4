"""Weights out of Keras' files: HDF5 of Keras 1 and 2, ``.weights.h5`` and ``.keras`` of Keras 3."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from edgedense.densenet.checkpoints.keras_config import read_config
from edgedense.densenet.checkpoints.keras_layers import Floats, Layer, Weights, floats_of, layers_of
from edgedense.densenet.checkpoints.npz import check_archive
from edgedense.errors import InputError

# one tensor of a DenseNet has 11 million elements at most; HDF5 declares any size in few bytes
_LARGEST_ELEMENTS = 2**26
_DEEPEST = 4  # models inside models; links can make a small file endless
_LARGEST_RATIO = 1000  # of bytes in memory to bytes in the file, about that of zeros under gzip
# Keras 3's group of all layers, and that of TensorFlow 2.13
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
# what h5py and zipfile raise on damaged files
_DAMAGED = (
    *(OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError),
    *(EOFError, NotImplementedError, OverflowError, zipfile.BadZipFile, zlib.error),
)


def read_weights(path: Path) -> Weights:
    """Read a Keras file of any version.

    Errors: InputError where it is damaged, hostile, or no file of Keras'.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with h5py.File(path, "r") as file:
            return _read_hdf5(file, file.attrs.get("model_config"), path)
    except _DAMAGED as error:
        raise InputError(
            f"{path}: not a Keras weights file, or truncated",
            "Copy or download the file again, and compare its size with the original.",
        ) from error


def _read_archive(path: Path) -> Weights:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        weights = io.BytesIO(archive.read("model.weights.h5"))
        text = archive.read("config.json")
    with h5py.File(weights, "r") as file:
        return _read_hdf5(file, text, path)


def _read_hdf5(file: Any, text: Any, path: Path) -> Weights:
    config = None if text is None else read_config(_text(text), path)
    root = _inside(file, "model_weights", path) if "model_weights" in file else file
    if any(key.startswith("layer_names") for key in root.attrs):
        return Weights(tuple(_legacy(root, path)), config)
    for name in _CONTAINERS:
        if name in root:
            layers = tuple(_numbered(_inside(root, name, path), path))
            if config is None:
                return Weights(layers, ordered=False)
            names = config.groups
            renamed = (replace(layer, name=names.get(layer.name, layer.name)) for layer in layers)
            return Weights(tuple(renamed), config, ordered=False)
    raise InputError(
        f"{path}: an HDF5 file without Keras' layers",
        "Give a file of model.save_weights() or model.save().",
    )


def _legacy(root: Any, path: Path) -> Iterator[Layer]:
    """Layers as Keras 1 and 2 write them: groups named in attributes."""
    for name in _attribute(root, "layer_names"):
        group = _inside(root, name, path)
        names = _attribute(group, "weight_names")
        arrays = {full: _dataset(_inside(group, full, path), full, path) for full in names}
        if arrays:
            yield from layers_of(arrays, name, path)


def _numbered(root: Any, path: Path, place: str = "") -> Iterator[Layer]:
    """Layers as Keras 3 writes them: arrays called 0, 1, … in groups called after classes.

    A model used as a layer is a group of such groups; ``place`` is its name and a slash.
    """
    if place.count("/") > _DEEPEST:
        raise InputError(
            f"{path}: models inside models, more than {_DEEPEST} deep",
            "Save the DenseNet with its classifier alone.",
        )
    for own in sorted(root, key=_class_and_number):
        name, group = f"{place}{own}", _inside(root, own, path)
        for container in _CONTAINERS:
            if container in group:
                yield from _numbered(_inside(group, container, path), path, f"{name}/")
        variables = _inside(group, "vars", path) if "vars" in group else {}
        names = sorted(variables, key=int)
        roles = ("gamma", "beta", "mean", "variance") if len(names) == 4 else ("kernel", "bias")
        if names:
            arrays = (_dataset(_inside(variables, n, path), f"{name}/{n}", path) for n in names)
            yield Layer(name, dict(zip(roles, arrays, strict=False)))


def _class_and_number(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
    return (match[1], int(match[2] or 0)) if match else (name, 0)


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names, which Keras cuts in pieces (layer_names0, layer_names1, …) if it is long."""
    if name in group.attrs:
        return [_text(item) for item in group.attrs[name]]
    found: list[str] = []
    number = 0
    while f"{name}{number}" in group.attrs:
        found += [_text(item) for item in group.attrs[f"{name}{number}"]]
        number += 1
    return found


def _inside(group: Any, name: str, path: Path) -> Any:
    """A member that lies in this very file."""
    for part in name.strip("/").split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise InputError(
                f"{path}: {name!r} is missing, or a link out of the file",
                "Save the weights again: model.save_weights('weights.h5')",
            )
        group = group[part]
    return group


def _dataset(dataset: Any, name: str, path: Path) -> Floats:
    hollow = dataset.nbytes > _LARGEST_RATIO * dataset.id.get_storage_size()
    if hollow or dataset.external or dataset.is_virtual or dataset.size > _LARGEST_ELEMENTS:
        raise InputError(
            f"{path}: {name!r} {dataset.shape} is too large for a DenseNet, or not in the file",
            "Save the weights again: model.save_weights('weights.h5')",
        )
    return floats_of(dataset[()], name, path)


def _text(raw: Any) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)
