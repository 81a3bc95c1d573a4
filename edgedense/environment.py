"""What this machine and this process are: recorded in every artifact, shown by ``doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

from edgedense import __version__
from edgedense.errors import MachineError

# distribution that brings a module, and the extra of ours that installs it
HOMES = {
    "numpy": ("numpy", ""),
    "PIL": ("pillow", ""),
    "torch": ("torch", "compress"),
    "torch_pruning": ("torch-pruning", "compress"),
    "onnx": ("onnx", "compress"),
    "safetensors": ("safetensors", "compress"),
    "onnxruntime": ("onnxruntime", "cpu"),
    "tensorrt": ("tensorrt", "device"),
    "cuda.bindings": ("cuda-bindings", "device"),
    "pycuda": ("pycuda", "device"),
    "tensorrt_rtx": ("tensorrt-rtx", "rtx"),
    "sklearn": ("scikit-learn", "demo"),
    "h5py": ("h5py", "keras"),
    "ray": ("ray", "ray"),
    "cryptography": ("cryptography", "sign"),
}


COMPRESS = ("torch", "torch_pruning", "onnx", "onnxruntime", "safetensors")


def installed(module: str) -> bool:
    """Whether ``module`` can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def version(module: str) -> str | None:
    """Installed version of the distribution that brings ``module``; None where it is absent."""
    name = HOMES[module][0]
    for candidate in (name, *_ALIASES.get(module, ())):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


# the same module under other distribution names
_ALIASES = {
    "tensorrt": ("tensorrt-cu12", "tensorrt-cu13", "tensorrt-cu11"),
    "tensorrt_rtx": ("tensorrt-rtx-cu12", "tensorrt_rtx_cu12", "tensorrt-rtx-cu13"),
    "onnxruntime": ("onnxruntime-gpu",),
}


def require(module: str, why: str) -> None:
    """Raise MachineError, naming the extra to install, where ``module`` is absent."""
    if not installed(module):
        extra = HOMES[module][1]
        raise MachineError(
            f"{why} needs {module}, which is not installed here",
            f"pip install 'edgedense[{extra}]'   (or see: edgedense doctor)",
        )


# device files of NVIDIA's drivers: discrete GPUs, Jetson (two generations), Windows' Linux
_GPU_DEVICES = (
    "/dev/nvidiactl",
    "/dev/nvgpu",
    "/dev/nvhost-ctrl-gpu",
    "/dev/nvhost-gpu",
    "/dev/dxg",
)


def has_gpu() -> bool:
    """Whether a driver offers an NVIDIA GPU to this process; nothing is opened."""
    return any(Path(device).exists() for device in _GPU_DEVICES)


def has_vnni() -> bool:
    """Whether the CPU has x86's exact 8-bit dot products; False where the system does not tell."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def cpu_model() -> str:
    """Name of the processor, as the kernel tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Physical memory in bytes; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def thread_limit() -> int:
    """Threads of this process by OMP_NUM_THREADS, which PyTorch obeys by itself; 0: not told."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def describe(seed: int | None = None) -> dict[str, Any]:
    """Versions, processor and seed, as they go into a manifest (nothing heavy is imported)."""
    modules = {module: version(module) for module in HOMES if installed(module)}
    return {
        "edgedense": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "packages": modules,
        "seed": seed,
        "byteorder": sys.byteorder,
    }
