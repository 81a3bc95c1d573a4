"""What machine this is, in a line of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedense import environment
from edgedense.board.clocks import ClockFiles
from edgedense.board.files import text
from edgedense.board.model import board_model
from edgedense.board.power_mode import power_mode
from edgedense.board.snapshot import GOVERNOR, load_1min


def describe_device(root: Path = Path("/")) -> dict[str, Any]:
    """What a latency depends on besides the engine; what the system does not tell is None.

    ``name`` tells devices apart in a baseline: the board where there is one (a Jetson names
    itself), else the processor. ``load_1min`` is the number of processes that wanted to run.
    """
    board, cpu, mode = board_model(root), environment.cpu_model(), power_mode(root)
    return {
        "name": board or cpu,
        "board": board,
        "cpu": cpu,
        "cores": environment.cores(),
        "load_1min": load_1min(),
        "governor": text(root / GOVERNOR),
        "power_mode": mode.name or f"mode {mode.number}" if mode else None,
        "clocks_pinned": ClockFiles(root).pinned(),
    }
