"""Memory that is free in this process, but not for others."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give the system back what glibc's malloc keeps; elsewhere nothing happens.

    After a pass over images that is some hundred megabytes: what lives on lies scattered among the
    freed activations, and the next pass's larger tensors do not fit in between.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
