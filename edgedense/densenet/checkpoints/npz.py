"""Arrays out of ``.npz`` archives, without ever unpickling."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgedense.densenet.checkpoints.keras_layers import Floats, floats_of
from edgedense.errors import InputError

# what numpy and zipfile raise on damaged and hostile archives
_DAMAGED = (
    *(OSError, LookupError, RuntimeError, ValueError, TypeError, EOFError, MemoryError),
    *(NotImplementedError, OverflowError, SyntaxError, zipfile.BadZipFile, zlib.error),
)


# the largest DenseNet of the literature has 73 million weights
_LARGEST_BYTES = 2**32


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise InputError where what is packed would fill the memory."""
    if sum(member.file_size for member in archive.infolist()) > _LARGEST_BYTES:
        raise InputError(
            f"{path}: unpacks to more than {_LARGEST_BYTES >> 30} GiB",
            "No DenseNet has so many weights: make sure that this is the right file.",
        )


def read_npz(path: Path) -> dict[str, Floats]:
    """Float32 arrays by name, in the order of the archive; scalars (BN's counters) are left out.

    Errors: InputError for a damaged archive, for pickled objects and for other numbers.
    """
    try:
        with zipfile.ZipFile(path) as members:
            check_archive(members, path)
        # opened here, for numpy leaves it open where the archive is damaged
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            raw = {name: np.asarray(archive[name]) for name in archive.files}
    except _DAMAGED as error:
        raise InputError(
            f"{path}: not an .npz archive of plain arrays, or truncated",
            "Copy the file again; or save it anew: numpy.savez('weights.npz', **arrays)",
        ) from error
    found = {name: floats_of(value, name, path) for name, value in raw.items() if value.ndim}
    if not found:
        raise InputError(f"{path}: no arrays inside", "Save it again: numpy.savez(path, **arrays)")
    return found
