"""Looking into a pickle without running it."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
import zlib
from pathlib import Path

# what a plain state dict needs: containers, storages, tensor rebuilders
_HARMLESS = re.compile(
    r"collections\.OrderedDict|torch\._utils\.\w+|torch\.storage\.\w+|torch\.\w*Storage"
    r"|torch\.(?:Size|device|\w*(?:float|int|bool)\d*)|torch\.nn\.parameter\.Parameter"
)


def find_code(path: Path) -> str | None:
    """First name of a class or function in a checkpoint's pickle that no state dict needs.

    None where there is none, or where the file is no pickle at all.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd escapes in what is no pickle
            names = _globals(_pickle_bytes(path))
    except _DAMAGED:
        return None
    return next((name for name in names if not _HARMLESS.fullmatch(name)), None)


# PyTorch's older form: magic number, protocol, system, the object, names of its tensors
_PICKLES = 5
# what pickletools and zipfile raise on damaged files; RuntimeError is for encrypted archives
_DAMAGED = (ValueError, OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


def _pickle_bytes(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inner = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(inner[0]) if inner else b""


def _globals(data: bytes) -> list[str]:
    stream, names = io.BytesIO(data), []
    try:
        for _ in range(_PICKLES):
            names += _globals_of_one(stream)
    except ValueError:
        pass  # the end, or tensors; only whole pickles count
    return names


def _globals_of_one(stream: io.BytesIO) -> list[str]:
    names: list[str] = []
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            names.append(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            names.append(".".join(strings[-2:]))
        elif isinstance(argument, str):
            strings.append(argument)
    return names
