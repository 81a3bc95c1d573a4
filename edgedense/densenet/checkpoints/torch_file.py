"""Reading the files that PyTorch and safetensors write, without ever running their code."""

from __future__ import annotations

import pickle
import struct
import warnings
from pathlib import Path

import torch

from edgedense.densenet.checkpoints.pickles import find_code
from edgedense.errors import InputError


def read_checkpoint(path: Path) -> object:
    """What a ``.safetensors`` or ``torch.save`` file holds: tensors, in mappings and lists.

    Errors: InputError for a file that is damaged, or whose pickle names code.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the outcome says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if code := find_code(path):
            raise InputError(
                f"{path}: refused unread, its pickle names code ({code})",
                "Save the weights alone where you trust the file: "
                "torch.save(model.state_dict(), 'weights.pth')",
            ) from error
        raise InputError(f"{path}: not a PyTorch checkpoint, or truncated", _RECOPY) from error


# what torch.load raises on damaged files, in its zip form and in the older one
_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, AssertionError, RuntimeError, EOFError, OSError),
    *(ValueError, LookupError, AttributeError, TypeError, OverflowError),
)
_RECOPY = "Copy or download the file again, and compare its size and checksum with the original."


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file, or truncated", _RECOPY) from error
