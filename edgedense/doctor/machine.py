"""What this machine is, by files; a process only where a discrete GPU has no files."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgedense.board import Memory, jetson_model, jetson_sm, l4t_release, memory
from edgedense.board.clocks import ClockFiles
from edgedense.board.files import text
from edgedense.board.power_mode import PowerMode, power_mode, power_modes

# Debian packages that tell the version of TensorRT's libraries, the bindings' first
_LIBRARIES = ("python3-libnvinfer", "libnvinfer10", "libnvinfer11", "libnvinfer8", "tensorrt")
_JETPACK = ("nvidia-jetpack", "nvidia-jetpack-runtime", "nvidia-jetpack-dev")


@dataclass(frozen=True)
class Gpu:
    """The first GPU. ``sm`` is its compute capability (87 is 8.7), where it could be learned."""

    name: str
    sm: int | None
    driver: str | None


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs this; ``sees_system``: it finds the system's packages, too."""

    version: str
    virtual: bool
    sees_system: bool

    @property
    def minor(self) -> str:
        """As 3.10."""
        return ".".join(self.version.split(".")[:2])

    @classmethod
    def here(cls) -> Interpreter:
        """This one."""
        virtual = sys.prefix != sys.base_prefix
        told = text(Path(sys.prefix) / "pyvenv.cfg") or ""
        shared = re.search(r"include-system-site-packages\s*=\s*true", told, re.IGNORECASE)
        return cls(platform.python_version(), virtual, not virtual or shared is not None)


@dataclass(frozen=True)
class Machine:
    """Facts alone; ``board``, ``l4t`` and ``jetpack`` are a Jetson's."""

    gpu: Gpu | None
    board: str | None
    l4t: str | None
    jetpack: str | None
    system_tensorrt: str | None
    memory: Memory
    power_mode: PowerMode | None
    power_modes: dict[int, str]
    clocks_pinned: bool | None


def look(root: Path) -> Machine:
    """Look around below ``root``."""
    board, sm = jetson_model(root), jetson_sm(root)
    driver = _driver(root)
    gpu = Gpu(board, sm, driver or None) if board else _discrete_gpu(driver)
    packages = _packages(root)
    return Machine(
        gpu=gpu,
        board=board,
        l4t=l4t_release(root),
        jetpack=_first(packages, _JETPACK),
        system_tensorrt=_first(packages, _LIBRARIES),
        memory=memory(root),
        power_mode=power_mode(root) if board else None,
        power_modes=power_modes(root) if board else {},
        clocks_pinned=ClockFiles(root).pinned() if board else None,
    )


def parse_smi(told: str) -> Gpu | None:
    """The first line of nvidia-smi's ``name, compute_cap, driver_version``."""
    fields = [field.strip() for field in told.partition("\n")[0].split(",")]
    if len(fields) != 3 or not re.fullmatch(r"\d+\.\d", fields[1]):
        return None
    return Gpu(fields[0], int(fields[1].replace(".", "")), fields[2])


def _driver(root: Path) -> str | None:
    told = text(root / "proc/driver/nvidia/version")
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]*\d)", told or "")
    return found[1] if found else "" if told else None


def _discrete_gpu(driver: str | None) -> Gpu | None:
    """The first GPU of the NVIDIA driver: by nvidia-smi, else by what the kernel module tells."""
    if driver is None:
        return None
    plain = Gpu("NVIDIA GPU", None, driver or None)
    if shutil.which("nvidia-smi") is None:
        return plain
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return plain
    return parse_smi(answer.stdout) or plain


def _packages(root: Path) -> dict[str, str]:
    """Installed ones of the Debian packages that tell something, without build numbers."""
    found = {}
    for stanza in (text(root / "var/lib/dpkg/status") or "").split("\n\n"):
        name = stanza.removeprefix("Package: ").partition("\n")[0]
        if name not in _LIBRARIES + _JETPACK:
            continue
        version = re.search(r"^Version: (?:\d+:)?(\d[\d.]*)", stanza, re.MULTILINE)
        if version and re.search(r"^Status: .* installed$", stanza, re.MULTILINE):
            found[name] = version[1].rstrip(".")
    return found


def _first(packages: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((packages[name] for name in names if name in packages), None)
