"""Reading the files that PyTorch and safetensors write, without ever running their code."""

from __future__ import annotations

import pickle
import struct
import warnings
from argparse import Namespace
from pathlib import Path

import torch

from edgedense.densenet.checkpoints.pickles import NUMPY, find_code
from edgedense.densenet.checkpoints.unreadable import why_no_checkpoint, why_no_safetensors
from edgedense.errors import InputError


def read_checkpoint(path: Path) -> object:
    """What a ``.safetensors`` or ``torch.save`` file holds: tensors, in mappings and lists.

    Settings (argparse) come along, numpy's values do not. Errors: InputError for a file that is
    damaged, or whose pickle names code.
    """
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([Namespace, *_STAND_INS]):
            warnings.simplefilter("ignore")  # about pickle protocols; the outcome says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if code := find_code(path):
            raise InputError(
                f"{path}: refused unread, its pickle names code ({code})",
                "Save the weights alone where you trust the file: "
                "torch.save(model.state_dict(), 'weights.pth')",
            ) from error
        raise why_no_checkpoint(path) from error


class _Dropped:
    """Takes the place of a numpy value: whatever a file makes of numpy's own constructors, such as
    types of raw memory, is never built.
    """

    def __new__(cls, *_: object) -> _Dropped:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


def _stand_in(name: str) -> type[_Dropped]:
    module, _, own = name.rpartition(".")
    return type(own, (_Dropped,), {"__module__": module})


_STAND_INS = tuple(_stand_in(name) for name in NUMPY)
# what torch.load raises on damaged files, in its zip form and in the older one
_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, AssertionError, RuntimeError, EOFError, OSError),
    *(ValueError, LookupError, AttributeError, TypeError, OverflowError, MemoryError),
)


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {**(file.metadata() or {}), "state_dict": tensors}
    except SafetensorError as error:
        raise why_no_safetensors(path) from error
