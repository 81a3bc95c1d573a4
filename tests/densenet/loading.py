"""Loading what a test has made, and holding that bad input ends in a good message."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from edgedense.densenet.checkpoints import LoadOptions, Model, load_model
from edgedense.errors import InputError


def load(state: Any, folder: Path, options: LoadOptions | None = None) -> Model:
    path = folder / "w.pth"
    torch.save(state, path)
    return load_model(path, options or LoadOptions())


def refused(state: Any, folder: Path, reason: str, options: LoadOptions | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(state, folder, options)
    assert str(folder) in caught.value.what
    # the folder's name is the test's, and holds most words that a reason may have
    assert re.search(reason, caught.value.what.replace(str(folder), ""))
    assert "\n" not in caught.value.what + caught.value.remedy
    return caught.value.remedy


def outcome(path: Path) -> InputError | None:
    """None where the file loads; anything but an InputError is a bug and comes through."""
    try:
        load_model(path)
    except InputError as error:
        assert str(path) in error.what
        assert "\n" not in error.what + error.remedy
        assert error.remedy
        return error
    return None
