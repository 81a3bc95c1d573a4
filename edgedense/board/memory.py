"""Memory that is left: builders of engines need more than the engines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgedense.board.files import text


@dataclass(frozen=True)
class Memory:
    """In bytes; None where the system does not tell."""

    total_bytes: int | None
    available_bytes: int | None
    swap_bytes: int | None
    swap_free_bytes: int | None


def memory(root: Path = Path("/")) -> Memory:
    """From /proc/meminfo."""
    told = dict(re.findall(r"^(\w+):\s+(\d+) kB", text(root / "proc/meminfo") or "", re.MULTILINE))
    names = ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
    return Memory(*(int(told[name]) * 1024 if name in told else None for name in names))
