"""Where TensorRT for RTX keeps the kernels that it compiled for an engine on this machine.

They are executable code, so they lie in the user's own cache directory, never beside an artifact
that somebody else may have sent.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from edgedense.artifact import write_whole
from edgedense.engines.cuda import Gpu


class KernelCache:
    """A runtime cache, read when an engine is opened and written back when it is closed.

    A cache that cannot be read or written costs time at the next start, nothing else, so that is
    no error.
    """

    def __init__(self, cache: Any, path: Path | None) -> None:
        self.cache = cache
        self._path = path
        self._read = b""
        if path is not None and _is_ours(path):
            self._read = path.read_bytes()
            if not cache.deserialize(self._read):  # of another driver
                cache.reset()

    def save(self) -> None:
        """Write it back, if it grew."""
        if self._path is None:
            return
        data = bytes(self.cache.serialize())
        if data == self._read:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._path, data)
        except OSError:
            return


def _is_ours(path: Path) -> bool:
    """Whether the file is there, and the user's own where files have owners."""
    return path.is_file() and (os.name != "posix" or path.stat().st_uid == os.getuid())


def cache_path(plan: bytes, version: str, gpu: Gpu) -> Path | None:
    """The cache of one engine, TensorRT and GPU; None where the user has no home directory."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    name = f"{hashlib.sha256(plan).hexdigest()[:32]}-{version}-sm{gpu.sm}.cache"
    return root / "edgedense" / "tensorrt-rtx" / name
