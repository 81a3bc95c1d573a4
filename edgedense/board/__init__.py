"""The board under the engine: power mode, clocks, temperatures, power and throttling.

``snapshot`` is for before and after, ``Watch`` for meanwhile. Everything is optional: what a
machine does not tell is None and never an error.
"""

from edgedense.board.device import describe_device
from edgedense.board.memory import Memory, memory
from edgedense.board.model import board_model, jetson_model, jetson_sm, l4t_release
from edgedense.board.power_mode import PowerMode, power_mode, power_modes
from edgedense.board.snapshot import Snapshot, snapshot
from edgedense.board.summary import Spread, Summary
from edgedense.board.watch import Watch

__all__ = [
    "Memory",
    "PowerMode",
    "Snapshot",
    "Spread",
    "Summary",
    "Watch",
    "board_model",
    "describe_device",
    "jetson_model",
    "jetson_sm",
    "l4t_release",
    "memory",
    "power_mode",
    "power_modes",
    "snapshot",
]
