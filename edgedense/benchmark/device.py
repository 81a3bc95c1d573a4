"""The state of the machine at the time of a measurement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgedense import environment

BOARD = Path("/proc/device-tree/model")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_device() -> dict[str, Any]:
    """What a latency depends on besides the engine; what the system does not tell is None.

    ``name`` tells devices apart in a baseline: the board where there is one (a Jetson names
    itself), else the processor. ``load_1min`` is the number of processes that wanted to run.
    """
    board = _read(BOARD)
    cpu = environment.cpu_model()
    return {
        "name": board or cpu,
        "board": board,
        "cpu": cpu,
        "cores": environment.cores(),
        "load_1min": _load(),
        "governor": _read(GOVERNOR),
    }


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\x00\n ") or None
    except OSError:
        return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None
