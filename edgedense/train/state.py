"""What is kept after each epoch, so that an interrupted training goes on where it was."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedense import artifact
from edgedense.errors import InputError
from edgedense.train.options import Epoch, flag

STATE_FILE = "state.pt"
_FORMAT = "edgedense-training/2"
# what torch.load and the fields below raise on damaged files
_DAMAGED = (
    *(pickle.UnpicklingError, AssertionError, RuntimeError, EOFError, OSError, ValueError),
    *(LookupError, AttributeError, TypeError),
)

Identity = Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """A training after ``epochs``: tensors as state dicts; ``best`` only where it is to be kept."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    epochs: tuple[Epoch, ...] = ()
    best: dict[str, Tensor] | None = field(default=None)
    best_epoch: int | None = None


def place(destination: Path) -> Path:
    """The directory beside an artifact in which its training is kept until it is finished."""
    return destination.with_name(f"{destination.name}.training")


def save(directory: Path, state: State, identity: Identity) -> None:
    """Write the state: whole, or the one of the epoch before stays."""
    data = io.BytesIO()
    values = {name: getattr(state, name) for name in _TENSORS}
    epochs = json.dumps([asdict(epoch) for epoch in state.epochs])
    text = json.dumps(identity, sort_keys=True)
    extra = {"format": _FORMAT, "identity": text, "epochs": epochs, "best_epoch": state.best_epoch}
    torch.save({**values, **extra}, data)
    with artifact.disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        artifact.write_whole(directory / STATE_FILE, data.getvalue())


_TENSORS = ("network", "optimizer", "scaler", "best")


def read(directory: Path, identity: Identity) -> bytes:
    """The bytes of a state that belongs to this training; empty where there is none.

    Errors: InputError where it belongs to another one, or is damaged.
    """
    path = directory / STATE_FILE
    if not path.is_file():
        return b""
    with artifact.disk_errors(path):
        data = path.read_bytes()
    theirs = _opened(data, path)
    for name, ours in json.loads(json.dumps(identity)).items():
        if theirs["identity"].get(name) != ours:
            raise _other(directory, name, ours, theirs["identity"].get(name))
    return data


def restored(data: bytes, directory: Path) -> State:
    """The state in these bytes. Errors: InputError where they are damaged."""
    raw = _opened(data, directory / STATE_FILE)
    return State(
        **{name: raw[name] for name in _TENSORS},
        epochs=tuple(Epoch(**epoch) for epoch in raw["epochs"]),
        best_epoch=raw["best_epoch"],
    )


def remove(directory: Path) -> None:
    """Drop a training that is finished."""
    shutil.rmtree(directory, ignore_errors=True)


def _opened(data: bytes, path: Path) -> dict[str, Any]:
    try:
        raw = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if raw["format"] != _FORMAT:
            raise ValueError(raw["format"])
        texts = {name: json.loads(raw[name]) for name in ("identity", "epochs")}
        return {**{name: raw[name] for name in (*_TENSORS, "best_epoch")}, **texts}
    except _DAMAGED as error:
        raise InputError(
            f"{path}: damaged, or of another version of edgedense",
            f"Remove {path.parent} to begin anew.",
        ) from error


def _other(directory: Path, name: str, ours: object, theirs: object) -> InputError:
    if name in ("model", "data", "eval", "teacher", "preprocess", "stage"):
        what = f"another {name}"
    else:
        what = f"{flag(name)} {theirs} (asked now: {ours})"
    return InputError(
        f"{directory} holds an unfinished training with {what}",
        f"Give the command that began it, or remove {directory}, or choose another -o.",
    )
