"""The small files of /proc and /sys: what cannot be read is None, never an error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path


def text(path: Path) -> str | None:
    """Contents without surrounding white space and NULs; None where there are none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n\t ") or None
    except OSError:  # absent, forbidden, or a sensor whose part of the chip is switched off
        return None


def number(path: Path, scale: float = 1.0) -> float | None:
    """The number in a file, times ``scale``."""
    return as_number(text(path), scale)


def as_number(word: str | None, scale: float = 1.0) -> float | None:
    """The number that ``word`` spells, times ``scale``; None for words that spell none."""
    try:
        value = float(word) * scale if word else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def found(root: Path, pattern: str) -> Iterator[Path]:
    """What matches below ``root``, sorted by its numbers; nothing where that is forbidden."""
    try:
        paths = list(root.glob(pattern))
    except OSError:
        return
    yield from sorted(paths, key=lambda path: (len(str(path)), str(path)))
