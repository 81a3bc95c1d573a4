"""Clocks of GPU, memory and processor, from files that need no root where there are such."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgedense.board.files import as_number, found, number, text

# names under /sys/class/devfreq: Nano 57000000.gpu, TX2 17000000.gp10b, Xavier 17000000.gv11b,
# Orin 17000000.ga10b (JetPack 5) and 17000000.gpu (JetPack 6), Thor gpu-gpc-0
_GPU = re.compile(r"\.(gpu|gp10b|gv11b|ga10b)$|^gpu-gpc-\d+$")
# Hz; the first is Thor's and open to all, the others only to root
_EMC = (
    "sys/class/devfreq/bwmgr/cur_freq",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/kernel/debug/clk/emc/clk_rate",
)


@dataclass(frozen=True)
class Clocks:
    """In MHz; ``cpu_mhz`` is the fastest core's. What the machine does not tell is None."""

    gpu_mhz: float | None = None
    gpu_max_mhz: float | None = None
    emc_mhz: float | None = None
    cpu_mhz: float | None = None
    cpu_max_mhz: float | None = None


class ClockFiles:
    """Where a machine shows its clocks: looked for once."""

    def __init__(self, root: Path) -> None:
        devices = found(root, "sys/class/devfreq/*")
        self._gpus = tuple(path for path in devices if _GPU.search(path.name))
        self._emc = next((root / path for path in _EMC if number(root / path)), None)
        self._cpus = tuple(found(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
        self._cpuinfo = root / "proc/cpuinfo"

    def read(self) -> Clocks:
        """The clocks now. A GPU that is switched off has none."""
        return Clocks(
            gpu_mhz=_highest(self._gpus, "cur_freq", 1e-6),
            gpu_max_mhz=_highest(self._gpus, "max_freq", 1e-6),
            emc_mhz=number(self._emc, 1e-6) if self._emc else None,
            cpu_mhz=_highest(self._cpus, "scaling_cur_freq", 1e-3) or self._told(),
            cpu_max_mhz=_highest(self._cpus, "scaling_max_freq", 1e-3),
        )

    def pinned(self) -> bool | None:
        """Whether GPU and processor may run at one clock only, as after ``jetson_clocks``."""
        spans = [_span(path, "min_freq", "max_freq") for path in self._gpus]
        spans += [_span(path, "scaling_min_freq", "scaling_max_freq") for path in self._cpus]
        known = [low == high for low, high in filter(None, spans)]
        return all(known) if known else None

    def _told(self) -> float | None:
        """x86's own word on its clocks, where it has no cpufreq (virtual machines)."""
        lines = (text(self._cpuinfo) or "").splitlines()
        rates = [as_number(x.partition(":")[2].strip()) for x in lines if x.startswith("cpu MHz")]
        return max((rate for rate in rates if rate), default=None)


def _highest(folders: tuple[Path, ...], name: str, scale: float) -> float | None:
    values = [number(folder / name, scale) for folder in folders]
    return max((value for value in values if value), default=None)


def _span(folder: Path, low: str, high: str) -> tuple[float, float] | None:
    ends = number(folder / low), number(folder / high)
    return (ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None
