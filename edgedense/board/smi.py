"""Discrete GPUs by ``nvidia-smi``, which comes with the driver: nothing to install.

As a process of its own it keeps its work out of the measured one, which pynvml would not. Jetsons
have it too, but it tells next to nothing there (an Orin's no power, a Thor's no clock): their own
files are read instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from edgedense.board.files import as_number
from edgedense.board.rails import GPU_BOARD
from edgedense.board.sample import Sample

_FIELDS = "power.draw,temperature.gpu,clocks.sm,clocks.mem,clocks.max.sm"
# one unknown field makes the whole query fail, and newer drivers call this one otherwise
_REASONS = (",clocks_event_reasons.active", ",clocks_throttle_reasons.active", "")
# nvml.h, nvmlClocksThrottleReason*: what slows a GPU down against its will
BITS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_TIMEOUT_S = 10.0


def query() -> list[str] | None:
    """A command whose lines :func:`parse_row` reads; None where no GPU answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    for reasons in _REASONS:
        words = [
            tool,
            f"--id={device()}",
            f"--query-gpu={_FIELDS}{reasons}",
            "--format=csv,noheader,nounits",
        ]
        if parse_row(asked(words)) is not None:
            return words
    return None


def asked(words: list[str]) -> str:
    """The first line that ``words`` print; nothing where they fail."""
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0]


def parse_row(row: str) -> Sample | None:
    """One line of the query; None where it tells nothing, as on a Jetson."""
    fields = [field.strip() for field in row.split(",")]
    if len(fields) not in (5, 6):
        return None
    power, heat, clock, memory = (as_number(field) for field in fields[:4])
    reasons = _reasons(fields[5]) if len(fields) == 6 else None
    if power is None and heat is None and clock is None:
        return None
    return Sample(
        rails_mw={GPU_BOARD: power * 1000} if power is not None else {},
        temperatures_c={"gpu": heat} if heat is not None else {},
        gpu_mhz=clock or None,
        emc_mhz=memory or None,
        throttled_by=reasons,
    )


def highest_mhz(row: str) -> float | None:
    """The clock that the GPU may reach."""
    fields = row.split(",")
    return as_number(fields[4].strip()) if len(fields) > 4 else None


def device() -> str:
    """The GPU that this process sees first: a number or a UUID."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


def _reasons(field: str) -> tuple[str, ...] | None:
    try:
        bits = int(field, 16)
    except ValueError:
        return None
    return tuple(name for bit, name in BITS.items() if bits & bit)
