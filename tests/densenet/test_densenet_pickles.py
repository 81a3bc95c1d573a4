"""What may stand beside the weights in a pickle, and what a hostile file makes of it."""

from __future__ import annotations

import re
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import outcome
from nets import tiny, trained

from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.checkpoints.pickles import find_code
from edgedense.densenet.checkpoints.torch_file import read_checkpoint
from edgedense.errors import InputError


def beside(**extra: object) -> dict[str, object]:
    return {"state_dict": trained(tiny((1,), 1)).state_dict(), **extra}


# as numpy 1 and numpy 2 call the module
@pytest.mark.parametrize("module", [b"numpy.core.", b"numpy._core."])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_numpys_values_and_settings_stand_beside_the_weights(
    form: str, module: bytes, tmp_path: Path
) -> None:
    path, settings = (
        tmp_path / "last.pth.tar",
        Namespace(lr=0.1, model="densenet", seed=np.int64(3)),
    )
    values = {
        "best_acc": np.float64(93.5),
        "flag": np.bool_(True),
        "losses": np.linspace(0, 1, 5, dtype=np.float32),
        "names": np.array(["cat", "dog"], dtype=object),
        "history": [{"acc": np.float32(1)}, {np.str_("a"): np.zeros((2, 1))}],
        "args": settings,
    }
    torch.save(beside(**values), path, _use_new_zipfile_serialization=form == "zip")
    renamed(path, re.compile(rb"numpy\._?core\."), module)
    assert find_code(path) is None
    assert load_model(path).scheme == "torchvision"
    raw: Any = read_checkpoint(path)
    assert vars(raw["args"])["model"] == "densenet"
    assert not isinstance(raw["best_acc"], float)  # numpy's values are dropped, not built


def renamed(path: Path, old: re.Pattern[bytes], new: bytes) -> None:
    """Other names of modules in a file's pickle."""
    if not zipfile.is_zipfile(path):
        path.write_bytes(old.sub(lambda _: new, path.read_bytes()))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, old.sub(lambda _: new, data) if name.endswith(".pkl") else data)


DTYPE = b"cnumpy\ndtype\n(X\x02\0\0\0V8\x89\x88tR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tX\x01\0\0\0btR"
OBJECT = b"cnumpy\ndtype\n(X\x02\0\0\0O8\x89\x88tR"
HOSTILE = {
    # raw memory as a type that holds pointers, in an array
    "pointers": ARRAY
    + b"(K\x01(K\x01t" + DTYPE + b"(K\x03X\x01\0\0\0|N(X\x01\0\0\0xt}X\x01\0\0\0x(" + OBJECT
    + b"K\0tsK\x08K\x01K\0tb\x89X\x08\0\0\0AAAAAAAAtb",
    "scalar-of-pointers": b"cnumpy.core.multiarray\nscalar\n(" + OBJECT + b"X\x04\0\0\0AAAAtR",
    "huge-array": b"cnumpy\nndarray\n((\x8a\x06\0\0\0\0\0\x10ttR",
    "huge-type": b"cnumpy\ndtype\n(X\x0b\0\0\0V2147483647tR",
    "new-array": b"cnumpy\nndarray\n((\x8a\x06\0\0\0\0\0\x10tt\x81",
    "settings-of-odd-state": b"cargparse\nNamespace\n)\x81K\x05b",
    "settings-of-another-class": b"cargparse\nNamespace\n)\x81"
    + b"(}}X\x09\0\0\0__class__cnumpy\nndarray\nstb",
    "settings-called": b"cargparse\nNamespace\n(K\x01tR",
    "huge-bytes": b"cbuiltins\nbytearray\n(\x8a\x07\0\0\0\0\0\0\x10tR",
}  # fmt: skip


# a string in the pickle that torch wrote, in whose place other code goes
PLACE = re.compile(rb"X\x07\0\0\0HOSTILE(?:q.)?", re.DOTALL)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_hostile_file_makes_of_these_names_is_never_built(
    name: str, form: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(beside(extra="HOSTILE"), path, _use_new_zipfile_serialization=form == "zip")
    renamed(path, PLACE, HOSTILE[name])
    assert b"HOSTILE" not in pickle_bytes(path)
    assert find_code(path) is None
    error = outcome(path)
    refused = name in ("settings-of-odd-state", "settings-called", "huge-bytes")
    assert (error is not None) == refused
    if not refused:
        raw: Any = read_checkpoint(path)
        assert not isinstance(raw["extra"], np.ndarray | np.dtype | np.generic)


def pickle_bytes(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".pkl")))


@pytest.mark.parametrize(
    "name",
    [
        "numpy.core.multiarray._Reconstruct", "numpy.core.multiarray.fromfile",
        "numpy.core.multiarray.frombuffer", "numpy._core.multiarray.scalar.x", "numpy.memmap",
        "numpy.ndarray.tofile", "numpy.load", "numpy.float64", "numpy.dtypes.Float64DType",
        "numpy.core.records.fromfile", "argparse.Namespace.__init__", "argparse.FileType",
        "argparse.ArgumentParser", "builtins.eval", "builtins.getattr", "torch.load",
        "torch._utils._import_dotted_name", "torch.hub.load", "os.system",
    ],
)  # fmt: skip
@pytest.mark.parametrize("argument", [b"(tR", b")\x81", b""])
def test_no_other_names_are_read(name: str, argument: bytes, tmp_path: Path) -> None:
    module, _, own = name.rpartition(".")
    path = tmp_path / "w.pth"
    path.write_bytes(b"\x80\x02}X\1\0\0\0ac" + f"{module}\n{own}\n".encode() + argument + b"s.")
    assert find_code(path) == name
    torch.save(beside(extra="HOSTILE"), path)
    code = f"c{module}\n{own}\n".encode() + argument
    renamed(path, PLACE, code)
    error = outcome(path)
    assert error is not None
    assert f"its pickle names code ({name})" in error.what


def test_a_name_stays_forbidden_to_others() -> None:
    """What is let in here is let in for the one call."""
    from torch import serialization

    before = set(serialization.get_safe_globals())
    with pytest.raises(InputError):
        read_checkpoint(Path(__file__))
    assert set(serialization.get_safe_globals()) == before


@pytest.mark.parametrize("zipped", [True, False])
def test_a_later_pickle_protocol_is_not_called_code(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(beside(), path, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    assert find_code(path) is None
    error = outcome(path)
    assert error is not None
    assert "saved with pickle_protocol=4" in error.what
    assert "without pickle_protocol" in error.remedy


def test_find_code_knows_every_name_that_torch_reads(tmp_path: Path) -> None:
    from torch import _weights_only_unpickler as unpickler

    path = tmp_path / "names.pkl"
    names = [name.rpartition(".") for name in unpickler._get_allowed_globals()]
    path.write_bytes(b"".join(f"c{module}\n{own}\n".encode() for module, _, own in names) + b".")
    assert len(names) > 50
    assert find_code(path) is None
