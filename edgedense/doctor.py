"""What this machine is, which engines it can build and run, what is missing and what mends it.

Nothing heavy is imported and no GPU is opened: it only looks.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedense import __version__
from edgedense.environment import HOMES, cores, cpu_model, installed, memory_bytes, version
from edgedense.targets import ONNXRUNTIME, TARGETS, TENSORRT, TENSORRT_RTX, Target

# a word of a Jetson's device-tree model -> compute capability; the first that fits counts
BOARDS = (("Thor", 110), ("Orin", 87), ("Xavier", 72), ("TX2", 62), ("Nano", 53), ("TX1", 53))


@dataclass(frozen=True)
class Gpu:
    """The first GPU. ``sm`` is its compute capability (87 is 8.7), where it could be learned."""

    name: str
    sm: int | None
    driver: str | None


@dataclass(frozen=True)
class Remedy:
    """Something that is missing, and the command or step that mends it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class NotHere:
    """Something that cannot be done on this machine, and what stands in for it."""

    what: str
    instead: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings; memory in bytes, ``l4t`` is the release of a Jetson's system."""

    edgedense: str
    python: str
    cpu: str
    cores: int
    memory_bytes: int
    packages: dict[str, str | None]
    gpu: Gpu | None
    board: str | None
    l4t: str | None
    builds: tuple[str, ...]
    runs: tuple[str, ...]
    missing: tuple[Remedy, ...]
    not_here: tuple[NotHere, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def examine(root: Path = Path("/")) -> Diagnosis:
    """Look at this machine; ``root`` is where its /proc and /etc are."""
    packages = {name: version(name) if installed(name) else None for name in HOMES}
    board, l4t = _board(root), _l4t(root)
    gpu = _jetson_gpu(board) or _discrete_gpu(root)
    builds = tuple(target.name for target in TARGETS if _builds(target, packages, gpu))
    runs = tuple(target.name for target in TARGETS if _runs(target, packages, gpu))
    return Diagnosis(
        edgedense=__version__,
        python=platform.python_version(),
        cpu=cpu_model(),
        cores=cores(),
        memory_bytes=memory_bytes(),
        packages=packages,
        gpu=gpu,
        board=board,
        l4t=l4t,
        builds=builds,
        runs=runs,
        missing=tuple(_missing(packages, gpu, board)),
        not_here=tuple(_not_here(builds, runs)),
    )


def _builds(target: Target, packages: dict[str, str | None], gpu: Gpu | None) -> bool:
    if packages[target.module] is None:
        return False
    return target.backend != TENSORRT or (gpu is not None and gpu.sm in target.sms)


def _runs(target: Target, packages: dict[str, str | None], gpu: Gpu | None) -> bool:
    if packages[target.module] is None:
        return False
    if target.backend == ONNXRUNTIME:
        return True
    return gpu is not None and gpu.sm in target.sms and packages["pycuda"] is not None


def _board(root: Path) -> str | None:
    """A Jetson's model, as the device tree names it; None on other machines."""
    text = _text(root / "proc/device-tree/model")
    name = text.strip("\0\n ") if text else ""
    return name if any(word in name for word, _ in BOARDS) else None


def _l4t(root: Path) -> str | None:
    """Jetson Linux release, as 36.4.3."""
    text = _text(root / "etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else None


def _jetson_gpu(board: str | None) -> Gpu | None:
    if board is None:
        return None
    return Gpu(board, next(sm for word, sm in BOARDS if word in board), None)


def _discrete_gpu(root: Path) -> Gpu | None:
    """The first GPU of the NVIDIA driver: by nvidia-smi, else by what the kernel module tells."""
    if not (root / "proc/driver/nvidia/version").exists():
        return None
    told = _text(root / "proc/driver/nvidia/version") or ""
    driver = re.search(r"Kernel Module\D*([\d.]+)", told)
    plain = Gpu("NVIDIA GPU", None, driver[1] if driver else None)
    if shutil.which("nvidia-smi") is None:
        return plain
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return plain
    return parse_smi(answer.stdout) or plain


def parse_smi(text: str) -> Gpu | None:
    """The first line of nvidia-smi's ``name, compute_cap, driver_version``."""
    fields = [field.strip() for field in text.partition("\n")[0].split(",")]
    if len(fields) != 3 or not re.fullmatch(r"\d+\.\d", fields[1]):
        return None
    return Gpu(fields[0], int(fields[1].replace(".", "")), fields[2])


def _missing(packages: dict[str, str | None], gpu: Gpu | None, board: str | None) -> list[Remedy]:
    """What a user of this machine may want and has not got."""
    found = []
    if board and packages["tensorrt"] is None:
        found.append(_system_tensorrt(board))
    elif gpu and packages["tensorrt"] is None:
        found.append(Remedy("tensorrt: build and run engines here", _pip("device")))
    if gpu and packages["pycuda"] is None:
        found.append(Remedy("pycuda: run TensorRT engines here", "pip install pycuda"))
    if packages["onnxruntime"] is None:
        found.append(Remedy("onnxruntime: the cpu target", _pip("cpu")))
    if board is None and packages["tensorrt_rtx"] is None:
        found.append(Remedy("tensorrt-rtx: build rtx-* engines without a GPU", _pip("rtx")))
    absent = [n for n in ("torch", "torch_pruning", "onnx", "safetensors") if packages[n] is None]
    if absent and board is None:
        what = f"{', '.join(absent)}: inspect, prune and quantize"
        found.append(Remedy(what, _pip("compress")))
    if gpu is None and packages["tensorrt"] is not None:
        found.append(Remedy("an NVIDIA driver: tensorrt cannot build without a GPU",
                            "install the driver, or work on the device"))  # fmt: skip
    return found


def _system_tensorrt(board: str) -> Remedy:
    """JetPack brings TensorRT for the system Python; a virtual environment must let it through."""
    return Remedy(
        f"tensorrt: build and run engines on this {board}",
        "sudo apt install nvidia-jetpack, then make the environment with: "
        f"{Path(sys.executable).name} -m venv --system-site-packages ENV",
    )


def _pip(extra: str) -> str:
    return f"pip install 'edgedense[{extra}]'"


def _not_here(builds: tuple[str, ...], runs: tuple[str, ...]) -> list[NotHere]:
    """The honest table: what no result of this machine can show."""
    rows = []
    classic = {target.name for target in TARGETS if target.backend == TENSORRT}
    rtx = {target.name for target in TARGETS if target.backend == TENSORRT_RTX}
    if not classic & set(builds):
        rows.append(NotHere(
            "building for jetson-* and data-centre targets",
            "the code is tested against the recorded Python API of TensorRT 8.6, 10 and 11; "
            "build on the device"))  # fmt: skip
    if not (classic | rtx) & set(runs):
        rows.append(NotHere(
            "accuracy and latency of a TensorRT engine",
            "the cpu engine is a rehearsal on the same graph; validate and benchmark on the device"
        ))  # fmt: skip
    if rtx & set(builds) and not rtx & set(runs):
        rows.append(NotHere(
            "opening an rtx-* engine that was built here",
            "its build proves that TensorRT's parser and builder accept the graph, no more"
        ))  # fmt: skip
    return rows


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
