"""What a checkpoint's pickle may name, and looking into one without running it."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
import zlib
from pathlib import Path

SETTINGS = "argparse.Namespace"
# numpy's scalars and arrays, of releases 1 and 2: training scripts keep them beside the weights
NUMPY = (
    *("numpy.ndarray", "numpy.dtype"),
    *("numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct"),
    *("numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct"),
)
# beside these, what torch.load(weights_only=True) reads: containers, storages, tensor rebuilders
_HARMLESS = re.compile(
    r"collections\.(?:OrderedDict|Counter)|(?:builtins|__builtin__)\.(?:set|bytearray|complex)"
    r"|_codecs\.encode|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.(?:(?:storage|cuda|sparse|cuda\.sparse)\.)?\w*(?:Storage|Tensor)"
    r"|torch\.(?:Size|device|bool|per_\w+|\w*(?:float|int|complex|bits)\d\w*)"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
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
    known = {SETTINGS, *NUMPY}
    return next((n for n in names if n not in known and not _HARMLESS.fullmatch(n)), None)


def has_pickle(path: Path) -> bool:
    """Whether a file is anything but a zip archive without a checkpoint's pickle."""
    try:
        return _pickle_bytes(path) != b""
    except _DAMAGED:
        return True


def pickle_protocol(path: Path) -> int:
    """The protocol that a checkpoint's pickle says it has; 0 where it says none."""
    try:
        head = _pickle_bytes(path)[:2]
    except _DAMAGED:
        return 0
    known = len(head) > 1 and head[:1] == pickle.PROTO and head[1] <= _LATEST_PROTOCOL
    return head[1] if known else 0


_LATEST_PROTOCOL = 5  # anything above is damage
# PyTorch's older form: magic number, protocol, system, the object, names of its tensors
_PICKLES = 5
_LARGEST_BYTES = 2**26  # of a pickle that is unpacked: tensors lie beside it
# what pickletools and zipfile raise on damaged files; RuntimeError is for encrypted archives
_DAMAGED = (ValueError, OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


def _pickle_bytes(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        inner = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if not inner:
            return b""
        with archive.open(inner[0]) as stream:
            return stream.read(_LARGEST_BYTES)


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
    strings: list[str] = []  # as pushed, for STACK_GLOBAL takes the last two
    memo: dict[int | None, str] = {}
    pushed = ""
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name == "MEMOIZE":
            memo[len(memo)] = pushed
            continue
        pushed = argument if isinstance(argument, str) else ""
        if opcode.name in ("GLOBAL", "INST"):
            names.append(pushed.replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            names.append(".".join(strings[-2:]))
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            pushed = memo.get(argument, "")
        if pushed:
            strings.append(pushed)
    return names
