"""NVIDIA's ``tegrastats``: one line a look, in a form that changes with every JetPack.

Rails come as ``VDD_IN 4542mW/4542mW`` (now/average, since JetPack 7.2 also /highest), before
JetPack 5 without the unit. Numbers are of this moment; averages are left to us.
"""

from __future__ import annotations

import re

from edgedense.board.heat import COLDEST_C, HOTTEST_C
from edgedense.board.sample import Sample

_RAIL = re.compile(
    r"(?<!\S)([A-Z][A-Z0-9_]{0,40}) (-?\d{1,9})(?:mW(?:/-?\d+mW){0,2}|/-?\d+)(?=\s|$)"
)
_ZONE = re.compile(r"(?<!\S)([A-Za-z]\w{0,40})@(-?\d{1,4}(?:\.\d{1,6})?)C(?=[\s/]|$)")
_GPU = re.compile(r"(?<!\S)GR3D_FREQ (?:\d+%)?@\[?(\d{1,6}(?:,\d{1,6})*)")
_EMC = re.compile(r"(?<!\S)EMC_FREQ (?:\d+%)?@(\d{1,6})")
_CPU = re.compile(r"(?<!\S)(?:CPU|cpu) \[([^\]]*)\](@\d{1,6})?")
_MHZ = re.compile(r"@(\d{1,6})")


def parse_line(line: str) -> Sample | None:
    """What a line tells; None where it is no line of tegrastats."""
    if not re.search(r"(?<!\S)RAM \d+/\d+MB", line):
        return None
    zones = {name: float(value) for name, value in _ZONE.findall(line)}
    cpu = _CPU.search(line)
    emc = _EMC.search(line)
    gpu = _GPU.search(line)
    return Sample(
        rails_mw={name: float(mw) for name, mw in _RAIL.findall(line) if name != "NC"},
        temperatures_c={n: v for n, v in zones.items() if COLDEST_C < v < HOTTEST_C},
        gpu_mhz=_highest(gpu[1].split(",")) if gpu else None,
        emc_mhz=_highest([emc[1]]) if emc else None,
        cpu_mhz=_highest(_MHZ.findall(cpu[0])) if cpu else None,
    )


def command(interval_s: float) -> list[str]:
    """The long-lived process that prints such lines."""
    return ["tegrastats", "--interval", str(round(interval_s * 1000))]


def _highest(rates: list[str]) -> float | None:
    """In MHz; a clock of 0 is a part that is switched off."""
    return max(map(float, rates), default=0.0) or None
