"""What can be built and run here, what is missing, and what no result of this machine shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgedense.doctor.machine import Gpu, Machine
from edgedense.doctor.matrix import jetpack_of
from edgedense.doctor.problems import environment_command
from edgedense.engines.cuda import BINDINGS
from edgedense.targets import ONNXRUNTIME, TARGETS, TENSORRT, TENSORRT_RTX, Target

Packages = dict[str, str | None]


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


def builds(packages: Packages, gpu: Gpu | None, *, stopped: bool) -> tuple[str, ...]:
    """Targets that engines can be built for; ``stopped``: nothing of TensorRT works."""
    return tuple(target.name for target in TARGETS if _builds(target, packages, gpu, stopped))


def runs(packages: Packages, gpu: Gpu | None, *, stopped: bool) -> tuple[str, ...]:
    """Targets whose engines run here."""
    return tuple(target.name for target in TARGETS if _runs(target, packages, gpu, stopped))


def missing(packages: Packages, machine: Machine, *, stopped: bool) -> Iterator[Remedy]:
    """What a user of this machine may want and has not got, beside what problems tell."""
    jetson, gpu = machine.board is not None, None if stopped else machine.gpu
    if gpu and jetson and packages["tensorrt"] is None:
        yield _system_tensorrt(machine)
    elif gpu and packages["tensorrt"] is None:
        yield Remedy("tensorrt: build and run engines here", _pip("device"))
    if gpu and not _cuda(packages):
        yield Remedy("CUDA from Python: run TensorRT engines here", _cuda_command(machine))
    if packages["onnxruntime"] is None:
        yield Remedy("onnxruntime: the cpu target", _pip("cpu"))
    if not jetson and packages["tensorrt_rtx"] is None:
        yield Remedy("tensorrt-rtx: build rtx-* engines without a GPU", _pip("rtx"))
    absent = [n for n in ("torch", "torch_pruning", "onnx", "safetensors") if packages[n] is None]
    if absent and not jetson:
        yield Remedy(f"{', '.join(absent)}: inspect, prune and quantize", _pip("compress"))
    if machine.gpu is None and packages["tensorrt"] is not None:
        yield Remedy("an NVIDIA driver: tensorrt cannot build without a GPU",
                     "install the driver, or work on the device")  # fmt: skip


def not_here(builds: tuple[str, ...], runs: tuple[str, ...], *, jetson: bool) -> Iterator[NotHere]:
    """The honest table: what no result of this machine can show."""
    classic = {target.name for target in TARGETS if target.backend == TENSORRT}
    rtx = {target.name for target in TARGETS if target.backend == TENSORRT_RTX}
    if not classic & set(builds):
        yield NotHere(
            "building for jetson-* and data-centre targets",
            "the code is tested against the recorded Python API of TensorRT 8.6, 10 and 11; "
            "build on the device")  # fmt: skip
    if not (classic | rtx) & set(runs):
        yield NotHere(
            "accuracy and latency of a TensorRT engine",
            "the cpu engine is a rehearsal on the same graph; validate and benchmark on the device"
        )  # fmt: skip
    if rtx & set(builds) and not rtx & set(runs):
        yield NotHere(
            "opening an rtx-* engine that was built here",
            "its build proves that TensorRT's parser and builder accept the graph, no more"
        )  # fmt: skip
    if not jetson:
        yield NotHere(
            "power, clocks and throttling of a Jetson",
            "their readers are tested on recorded outputs of Nano, Xavier, Orin and Thor; none "
            "was run on a board by us")  # fmt: skip


def _builds(target: Target, packages: Packages, gpu: Gpu | None, stopped: bool) -> bool:
    if packages[target.module] is None:
        return False
    if target.backend != TENSORRT:
        return True
    return gpu is not None and gpu.sm in target.sms and not stopped


def _runs(target: Target, packages: Packages, gpu: Gpu | None, stopped: bool) -> bool:
    if packages[target.module] is None:
        return False
    if target.backend == ONNXRUNTIME:
        return True
    return gpu is not None and gpu.sm in target.sms and _cuda(packages) and not stopped


def _cuda(packages: Packages) -> bool:
    """Whether there is a binding of CUDA that runners can use."""
    return any(packages.get(name) for name in BINDINGS)


def _system_tensorrt(machine: Machine) -> Remedy:
    """JetPack brings TensorRT for the system Python; a virtual environment must let it through."""
    command = environment_command(jetpack_of(machine.l4t))
    install = "" if machine.system_tensorrt else "sudo apt install nvidia-jetpack, then: "
    return Remedy(f"tensorrt: build and run engines on this {machine.board}", install + command)


def _cuda_command(machine: Machine) -> str:
    """The bindings' major version is the driver's; that of a Jetson is known."""
    row = jetpack_of(machine.l4t)
    if row is None:
        return "pip install cuda-bindings   (of the driver's CUDA: nvidia-smi tells it)"
    return (
        f"pip install 'cuda-bindings=={row.cuda.partition('.')[0]}.*'   "
        "(or pycuda, with /usr/local/cuda/bin in PATH)"
    )


def _pip(extra: str) -> str:
    return f"pip install 'edgedense[{extra}]'"
