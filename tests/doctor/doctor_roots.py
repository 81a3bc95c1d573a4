"""Jetsons as roots of files: releases and models as recorded, see tests/recorded/board."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

RELEASES = Path(__file__).parent.parent / "recorded/board/release"
CHIPS = {53: "tegra210", 62: "tegra186", 72: "tegra194", 87: "tegra234", 110: "tegra264"}
STANZA = """\
Package: {name}
Status: install ok installed
Priority: standard
Section: metapackages
Maintainer: NVIDIA Corporation
Architecture: arm64
Version: {version}
Description: as dpkg keeps it
"""
OTHER = """\
Package: nvidia-jetpack-old
Status: deinstall ok config-files
Version: 1.0
"""
MEMINFO = """\
MemTotal:        {total} kB
MemFree:          102400 kB
MemAvailable:    {available} kB
SwapTotal:       {swap} kB
SwapFree:        {swap} kB
"""


@dataclass(frozen=True)
class Jetson:
    """``packages`` are Debian packages with their versions; memory in GiB."""

    model: str
    sm: int
    release: str
    packages: dict[str, str] = field(default_factory=dict)
    memory: float = 30.0
    available: float = 24.0
    swap: float = 8.0
    files: dict[str, str] = field(default_factory=dict)

    def at(self, root: Path) -> Path:
        """Write it below ``root``."""
        kib = {"total": self.memory, "available": self.available, "swap": self.swap}
        stanzas = [STANZA.format(name=n, version=v) for n, v in self.packages.items()]
        files = {
            "proc/device-tree/model": self.model + "\0",
            "proc/device-tree/compatible": f"nvidia,board\0nvidia,{CHIPS[self.sm]}\0",
            "proc/meminfo": MEMINFO.format(**{n: round(v * 2**20) for n, v in kib.items()}),
            "etc/nv_tegra_release": (RELEASES / f"{self.release}.txt").read_text(),
            "var/lib/dpkg/status": "\n".join([OTHER, *stanzas]),
        }
        for name, text in (files | self.files).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root


NANO = Jetson("NVIDIA Jetson Nano Developer Kit", 53, "r32.7.1",
              {"nvidia-jetpack": "4.6.1-b110", "libnvinfer8": "8.2.1-1+cuda10.2"},
              memory=3.9, available=2.6, swap=1.9)  # fmt: skip
TX2_NX = Jetson("lanai-3636", 62, "r32.7.1", {"libnvinfer8": "8.2.1-1+cuda10.2"})
XAVIER_NX = Jetson("NVIDIA Jetson Xavier NX Developer Kit", 72, "r35.3.1",
                   {"nvidia-jetpack": "5.1.1-b56", "libnvinfer8": "8.5.2-1+cuda11.4"})  # fmt: skip
AGX_ORIN_6 = Jetson("NVIDIA Jetson AGX Orin Developer Kit", 87, "r36.4.4",
                    {"nvidia-jetpack": "6.2.1+b38", "tensorrt": "10.3.0.30-1+cuda12.5",
                     "python3-libnvinfer": "10.3.0.30-1+cuda12.5"})  # fmt: skip
ORIN_NANO_6 = Jetson("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", 87,
                     "r36.4.7", AGX_ORIN_6.packages, memory=7.4, available=4.0)  # fmt: skip
ORIN_NANO_7 = Jetson("NVIDIA Jetson Orin Nano Developer Kit", 87, "r39.2.0",
                     {"nvidia-jetpack-runtime": "7.2.1-b49",
                      "python3-libnvinfer": "10.16.2.10-1+cuda13.2"})  # fmt: skip
AGX_ORIN_7 = Jetson("NVIDIA Jetson AGX Orin Developer Kit", 87, "r39.2.0", ORIN_NANO_7.packages)
THOR_7 = Jetson("NVIDIA Jetson AGX Thor Developer Kit", 110, "r38.4.0",
                {"python3-libnvinfer": "10.13.3.9-1+cuda13.0"}, memory=122.0)  # fmt: skip
