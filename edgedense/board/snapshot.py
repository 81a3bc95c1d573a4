"""The state of the machine at one moment."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgedense.board import smi
from edgedense.board.clocks import ClockFiles
from edgedense.board.files import text
from edgedense.board.heat import Throttles, Zones
from edgedense.board.model import jetson_sm
from edgedense.board.power_mode import power_mode
from edgedense.board.rails import Rails, total_mw
from edgedense.board.sample import Sample

GOVERNOR = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


@dataclass(frozen=True)
class Snapshot:
    """What a latency depends on besides the engine; what the machine does not tell is None.

    Clocks in MHz (``cpu_mhz`` of the fastest core), power in mW, temperatures in degrees Celsius.
    ``clocks_pinned``: GPU and processor have one clock only, as after ``jetson_clocks``.
    ``power_rail`` names the rail or the sum of rails that ``power_mw`` is of. ``throttled_by``:
    alarms that are on now; ``throttle_events``: counted since the machine started.
    ``load_1min`` is the number of processes that wanted to run.
    """

    power_mode: str | None = None
    power_mode_number: int | None = None
    clocks_pinned: bool | None = None
    gpu_mhz: float | None = None
    gpu_max_mhz: float | None = None
    emc_mhz: float | None = None
    cpu_mhz: float | None = None
    cpu_max_mhz: float | None = None
    governor: str | None = None
    load_1min: float | None = None
    power_mw: float | None = None
    power_rail: str | None = None
    rails_mw: dict[str, float] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)
    throttled_by: tuple[str, ...] | None = None
    throttle_events: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def snapshot(root: Path = Path("/")) -> Snapshot:
    """Look at this machine; ``root`` is where its /proc and /sys are.

    May start a process or two (nvidia-smi, nvpmodel), so it is for before and after a measurement;
    :class:`~edgedense.board.watch.Watch` is for meanwhile.
    """
    return Sensors(root).snapshot()


class Sensors:
    """Where this machine shows its state: looked for once, then read often."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rails = Rails(root)
        self._clocks = ClockFiles(root)
        self._zones = Zones(root)
        self._throttles = Throttles(root)
        discrete = root == Path("/") and jetson_sm(root) is None
        self.smi = smi.query() if discrete else None

    def sample(self) -> Sample:
        """What files tell now: a few dozen short reads."""
        clocks = self._clocks.read()
        return Sample(
            rails_mw=self.rails.read(),
            temperatures_c=self._zones.read(),
            gpu_mhz=clocks.gpu_mhz,
            emc_mhz=clocks.emc_mhz,
            cpu_mhz=clocks.cpu_mhz,
            throttled_by=self._throttles.on(),
        )

    def snapshot(self) -> Snapshot:
        """All there is to know; asks nvidia-smi of a discrete GPU."""
        row = smi.asked(self.smi) if self.smi else ""
        own, clocks = self.sample(), self._clocks.read()
        sample = _joined(own, smi.parse_row(row))
        total = total_mw(sample.rails_mw)
        mode = power_mode(self.root)
        return Snapshot(
            power_mode=mode.name if mode else None,
            power_mode_number=mode.number if mode else None,
            clocks_pinned=self._clocks.pinned(),
            gpu_mhz=sample.gpu_mhz,
            gpu_max_mhz=clocks.gpu_max_mhz or smi.highest_mhz(row),
            emc_mhz=sample.emc_mhz,
            cpu_mhz=sample.cpu_mhz,
            cpu_max_mhz=clocks.cpu_max_mhz,
            governor=text(self.root / GOVERNOR),
            load_1min=load_1min(),
            power_mw=total[0] if total else None,
            power_rail=total[1] if total else None,
            rails_mw=sample.rails_mw,
            temperatures_c=sample.temperatures_c,
            throttled_by=sample.throttled_by,
            throttle_events=self._throttles.counts(),
        )


def load_1min() -> float | None:
    """Processes that wanted to run in the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _joined(own: Sample, gpu: Sample | None) -> Sample:
    """The files' sample with what nvidia-smi tells of the GPU."""
    if gpu is None:
        return own
    alarms = [names for names in (own.throttled_by, gpu.throttled_by) if names is not None]
    return replace(
        gpu,
        rails_mw=own.rails_mw | gpu.rails_mw,
        temperatures_c=own.temperatures_c | gpu.temperatures_c,
        cpu_mhz=own.cpu_mhz,
        throttled_by=tuple(name for names in alarms for name in names) if alarms else None,
    )
