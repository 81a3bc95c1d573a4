"""Power rails: which files of this machine hold them is found once, reading them is cheap.

Jetsons have INA3221 and INA238 monitors. JetPack 5 and later show them under ``/sys/class/hwmon``
(kernel documentation, hwmon/ina3221 and hwmon/ina238: mV, mA, uW), JetPack 4 as ``iio`` devices
(mW). On x86 the processor counts its package's energy itself (RAPL), mostly for root alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedense.board.files import as_number, found, number, text

# A rail that carries all that the board takes in. VIN: Thor's carrier board; VDD_IN: TX1, TX2,
# Xavier NX, Orin NX and Nano; POM_5V_IN: Nano (rbonghi/jetson_stats#51, #900).
WHOLE = ("VIN", "VDD_IN", "POM_5V_IN")
# Boards without one: the rails that together are the module (jetson_stats#51, #344)
SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor's module
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
RAPL = "package (RAPL)"
GPU_BOARD = "GPU (nvidia-smi)"
_ALONE = (GPU_BOARD, RAPL)
_UNUSED = ("NC", "sum of shunt voltages")


def total_mw(rails: Mapping[str, float]) -> tuple[float, str] | None:
    """What the machine takes in, and the rail or rails that say so; None where none is known to.

    The rails of a Jetson may be parts of one another, so they are only added where it is known
    that together they are the whole.
    """
    for name in (*WHOLE, *_ALONE):
        if name in rails:
            return rails[name], name
    for names in SUMS:
        if all(name in rails for name in names):
            return sum(rails[name] for name in names), " + ".join(names)
    return None


@dataclass(frozen=True)
class Rail:
    """One rail: a file of its power, or two whose product it is; ``scale`` makes it mW."""

    name: str
    files: tuple[Path, ...]
    scale: float

    def read(self) -> float | None:
        """Power in mW."""
        product = self.scale
        for path in self.files:
            value = number(path)
            if value is None:
                return None
            product *= value
        return product


class Rails:
    """The rails of a machine; not shared between threads."""

    def __init__(self, root: Path) -> None:
        self._rails = (*_hwmon(root), *_iio(root))
        self._packages = () if self._rails else tuple(_rapl(root))
        self._energy: tuple[float, float] | None = None
        self.read()  # the first look at an energy counter tells no power

    def __bool__(self) -> bool:
        """Whether the machine shows any."""
        return bool(self._rails) or self._energy is not None

    def read(self) -> dict[str, float]:
        """Power by rail, in mW, of those that can be read now."""
        values = {rail.name: rail.read() for rail in self._rails}
        if self._packages:
            values[RAPL] = self._package_mw()
        return {name: value for name, value in values.items() if value is not None}

    def _package_mw(self) -> float | None:
        """From the energy since the last look; None at the first, and where a counter restarted."""
        counts = [number(path, 1e-3) for path in self._packages]  # uJ -> mJ
        known = [count for count in counts if count is not None]
        if len(known) != len(counts):
            return None
        before, self._energy = self._energy, (time.monotonic(), sum(known))
        if before is None or self._energy[1] < before[1] or self._energy[0] <= before[0]:
            return None
        return (self._energy[1] - before[1]) / (self._energy[0] - before[0])


def _hwmon(root: Path) -> list[Rail]:
    rails = []
    for chip in found(root, "sys/class/hwmon/hwmon*"):
        if not (text(chip / "name") or "").startswith("ina"):
            continue
        labels = [(text(path), path.name[2:-6]) for path in found(chip, "in*_label")]
        for label, channel in labels or [(text(chip / "label"), "1")]:
            rail = _channel(chip, label, channel)
            rails += [rail] if rail else []
    return rails


def _channel(chip: Path, label: str | None, channel: str) -> Rail | None:
    if label is None or label in _UNUSED:
        return None
    power = chip / f"power{channel}_input"
    if power.exists():
        return Rail(label, (power,), 1e-3)
    files = (chip / f"in{channel}_input", chip / f"curr{channel}_input")
    return Rail(label, files, 1e-3) if files[1].exists() else None


def _iio(root: Path) -> list[Rail]:
    rails = {}
    for place in found(root, "sys/bus/i2c/drivers/ina3221x/*/iio*device*/rail_name_*"):
        name, channel = text(place), place.name.rpartition("_")[2]
        if name and name not in _UNUSED and as_number(channel) is not None:
            rails[name] = Rail(name, (place.parent / f"in_power{channel}_input",), 1.0)
    return list(rails.values())


def _rapl(root: Path) -> list[Path]:
    """Energy counters of whole processors: intel-rapl:0, not its parts intel-rapl:0:1."""
    return list(found(root, "sys/class/powercap/intel-rapl:[0-9]/energy_uj"))
