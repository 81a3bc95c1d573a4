"""The power mode of a Jetson: which one is set, and which there are.

``nvpmodel`` keeps the number of the mode in /var/lib/nvpmodel/status and the modes in
/etc/nvpmodel.conf; reading both needs neither root nor a process. The tool itself is asked where
the status cannot be read.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgedense.board.files import text

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class PowerMode:
    """Its ``number`` for ``nvpmodel -m``, and its name where it has one."""

    number: int | None
    name: str | None


def power_mode(root: Path) -> PowerMode | None:
    """The mode that is set; None on machines without."""
    status = re.search(r"pmode:\s*(\d+)", text(root / "var/lib/nvpmodel/status") or "")
    if status:
        number = int(status[1])
        return PowerMode(number, power_modes(root).get(number))
    tool = shutil.which("nvpmodel") if root == Path("/") else None
    return parse_query(_asked(tool)) if tool else None


def power_modes(root: Path) -> dict[int, str]:
    """All modes of this board by number."""
    conf = text(root / "etc/nvpmodel.conf") or ""
    found = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", conf, re.MULTILINE)
    return {int(number): name for number, name in found}


def parse_query(told: str) -> PowerMode | None:
    """From what ``nvpmodel -q`` prints: a name, and below it a number; warnings among them."""
    name = re.search(r"^NV Power Mode:\s*(\S+)", told, re.MULTILINE)
    number = re.search(r"^\s*(\d+)\s*$", told, re.MULTILINE)
    if not name:
        return None
    return PowerMode(int(number[1]) if number else None, name[1])


def _asked(tool: str) -> str:
    try:
        done = subprocess.run(
            [tool, "-q"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
