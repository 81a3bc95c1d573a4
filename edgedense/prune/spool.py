"""Room for more tensors than fit into memory: what is too much lies in temporary files."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch import Tensor

from edgedense.errors import MachineError

IN_MEMORY_BYTES = 1 << 30


class Spool:
    """Holds tensors, in memory as long as they are at most ``in_memory`` bytes together."""

    def __init__(self, in_memory: int = IN_MEMORY_BYTES) -> None:
        self._room = in_memory
        self._inside: dict[int, int] = {}

    def put(self, values: Tensor) -> Tensor:
        """The same values, float32, to be read as any tensor. Errors: MachineError, disk full."""
        values = values.detach().contiguous()
        if values.nbytes > self._room:
            return _filed(values)
        self._room -= values.nbytes
        self._inside[values.data_ptr()] = values.nbytes
        return values

    def release(self, values: Tensor) -> None:
        """Count what :meth:`put` gave as gone; its file goes with the last reference."""
        self._room += self._inside.pop(values.data_ptr(), 0)


def _filed(values: Tensor) -> Tensor:
    if not values.numel():
        return values
    try:
        with tempfile.TemporaryFile(prefix="edgedense-") as file:
            # written, not mapped and filled: a full disk must raise, not kill the process
            file.write(values.numpy().data)
            file.flush()
            return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=tuple(values.shape)))
    except OSError as error:
        raise MachineError(
            f"{tempfile.gettempdir()}: no room for {values.nbytes / 1e6:.0f} MB of features "
            f"({error.strerror})",
            "Point TMPDIR at a larger disk, or use fewer images: --images 128",
        ) from error
