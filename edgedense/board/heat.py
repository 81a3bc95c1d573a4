"""Temperatures, and who slowed the machine down."""

from __future__ import annotations

from pathlib import Path

from edgedense.board.files import found, number, text

# a zone of a part that is switched off reads -256 degrees
COLDEST_C, HOTTEST_C = -60.0, 200.0


class Zones:
    """Thermal zones by name, without ``-therm`` and ``-thermal`` at its end: ``gpu``, ``tj``."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, Path] = {}
        for zone in found(root, "sys/class/thermal/thermal_zone*"):
            name = (text(zone / "type") or zone.name).removesuffix("-thermal")
            self._files.setdefault(name.removesuffix("-therm"), zone / "temp")

    def read(self) -> dict[str, float]:
        """In degrees Celsius; parts that are switched off are left out."""
        values = {name: number(path, 1e-3) for name, path in self._files.items()}
        return {n: v for n, v in values.items() if v is not None and COLDEST_C < v < HOTTEST_C}


class Throttles:
    """What the kernel tells about slowing down: alarms that are on, and counters of events.

    Counters: Jetson's over-current events (oc1 under-voltage, oc2 average, oc3 momentary current:
    NVIDIA's developer guide, "Jetson Orin": soctherm-oc-event), its thermal trips, and x86's
    core_throttle_count.
    """

    def __init__(self, root: Path) -> None:
        self._alarms = {}
        for device in found(root, "sys/class/thermal/cooling_device*"):
            kind = text(device / "type") or ""
            if kind.endswith("-throttle-alert"):
                self._alarms[kind] = device / "cur_state"
        self._counters = _counters(root)

    def on(self) -> tuple[str, ...] | None:
        """Alarms that are on now; None where there are no alarms at all."""
        if not self._alarms:
            return None
        return tuple(name for name, path in self._alarms.items() if number(path))

    def counts(self) -> dict[str, int]:
        """Events since the machine started; those of all cores are one number."""
        sums: dict[str, int] = {}
        for name, path in self._counters:
            value = number(path)
            if value is not None:
                sums[name] = sums.get(name, 0) + int(value)
        return sums


def _counters(root: Path) -> tuple[tuple[str, Path], ...]:
    files = []
    for chip in found(root, "sys/class/hwmon/hwmon*"):
        if text(chip / "name") == "soctherm_oc":
            files += [(p.name.removesuffix("_event_cnt"), p) for p in found(chip, "oc*_event_cnt")]
    for path in found(root, "sys/devices/platform/*-throttle-alert/thermal_trip_event"):
        files.append((f"{path.parent.name.removesuffix('-throttle-alert')} thermal trip", path))
    cores = found(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    return (*files, *(("core thermal throttle", path) for path in cores))
