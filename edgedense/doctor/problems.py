"""What stands in the way on this machine, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgedense.doctor.machine import Interpreter, Machine
from edgedense.doctor.matrix import (
    BINDINGS_EVIDENCE,
    BINDINGS_SOURCE,
    NO_INT8,
    NO_INT8_SOURCE,
    WEAK,
    Dla,
    Evidence,
    JetPack,
    dla_of,
    jetpack_of,
    limits_of,
)

_GIB = 2**30
_LITTLE = 2 * _GIB  # builders of engines have been killed below
_SWAP = 4 * _GIB


@dataclass(frozen=True)
class Problem:
    """``error``: engines cannot be built or run; ``warning``: it may fail; ``hint``: better so.

    ``evidence`` and ``source`` say how it is known, see ``edgedense.doctor.matrix``.
    """

    level: Literal["error", "warning", "hint"]
    what: str
    remedy: str
    evidence: Evidence
    source: str

    @property
    def said(self) -> str:
        """``what``, marked where it is weakly founded."""
        mark = WEAK.get(self.evidence)
        return f"{self.what} ({mark})" if mark else self.what


@dataclass(frozen=True)
class Ability:
    """Whether this Jetson's GPU or DLA can do something; None: not known."""

    has: bool | None
    why: str
    evidence: Evidence | None = None
    source: str = ""


def problems(
    machine: Machine, python: Interpreter, tensorrt: str | None, *, in_python: bool
) -> Iterator[Problem]:
    """All of a Jetson's; ``tensorrt`` is its version, ``in_python`` whether this Python has it."""
    if machine.board is None or machine.gpu is None or machine.gpu.sm is None:
        return
    row = jetpack_of(machine.l4t)
    if tensorrt:
        for limit in limits_of(tensorrt, machine.gpu.sm, machine.l4t, machine.board):
            what = limit.what.format(version=tensorrt)
            yield Problem("error", what, limit.remedy, limit.evidence, limit.source)
    if row is None:
        yield _unknown(machine)
    else:
        yield from _python(row, python, machine, in_python=in_python)
    if machine.gpu.sm in NO_INT8:
        yield Problem("warning", "INT8 engines cannot be built for this GPU",
                      "Build with --precision fp16.", "docs", NO_INT8_SOURCE)  # fmt: skip
    yield from _memory(machine)
    yield from _speed(machine)


def int8(machine: Machine) -> Ability:
    """Whether the GPU has INT8 kernels."""
    sm = machine.gpu.sm if machine.gpu else None
    if sm is None:
        return Ability(None, "no GPU is known")
    if sm in NO_INT8:
        return Ability(False, f"no kernels for SM {sm}", "docs", NO_INT8_SOURCE)
    return Ability(True, f"kernels for SM {sm}")


def dla(machine: Machine, tensorrt: str | None) -> Ability:
    """Whether there is a DLA that this TensorRT can build for; edgedense builds for the GPU."""
    if machine.board is None or machine.gpu is None or machine.gpu.sm is None:
        return Ability(False, "no Jetson")
    found: Dla | None = dla_of(tensorrt, machine.gpu.sm, machine.l4t, machine.board)
    if found is None:
        return Ability(None, "depends on the TensorRT version, which is not known")
    return Ability(found.has, found.what, found.evidence, found.source)


def environment_command(row: JetPack | None) -> str:
    """Makes a virtual environment that sees JetPack's TensorRT."""
    python = f"python{row.python}" if row else "python3"
    return f"{python} -m venv --system-site-packages ENV"


def _unknown(machine: Machine) -> Problem:
    return Problem(
        "warning",
        f"Jetson Linux {machine.l4t or 'of unknown release'} is not in our table of JetPacks",
        "Known are JetPack 4.6, 5.1, 6.0 to 6.2.1 and 7.0 on: cat /etc/nv_tegra_release",
        "source", "edgedense.doctor.matrix",
    )  # fmt: skip


def _python(
    row: JetPack, python: Interpreter, machine: Machine, *, in_python: bool
) -> Iterator[Problem]:
    if in_python:
        return
    if tuple(map(int, row.python.split("."))) < (3, 10):
        yield Problem(
            "error",
            f"JetPack {machine.jetpack or row.versions} has TensorRT for Python {row.python}; "
            "edgedense needs 3.10 or later",
            "Quantize elsewhere and build here from the ONNX file: /usr/src/tensorrt/bin/trtexec "
            "--onnx=FILE --saveEngine=FILE",
            row.evidence, row.source)  # fmt: skip
    elif python.minor != row.python:
        yield Problem(
            "error",
            f"JetPack's TensorRT is for Python {row.python}, this is {python.version}",
            environment_command(row), BINDINGS_EVIDENCE, BINDINGS_SOURCE)  # fmt: skip
    elif machine.system_tensorrt and not python.sees_system:
        yield Problem(
            "error",
            f"TensorRT {machine.system_tensorrt} is installed, but this virtual environment does "
            "not see the system's packages",
            environment_command(row), "docs", "Python's venv: --system-site-packages")  # fmt: skip


def _memory(machine: Machine) -> Iterator[Problem]:
    left, swap = machine.memory.available_bytes, machine.memory.swap_bytes
    source = "NVIDIA/retinanet-examples#144, ultralytics#19614"
    if left is not None and left < _LITTLE:
        yield Problem(
            "warning",
            f"{left / 1e9:.1f} GB of memory are free: a build may end as \"Killed\"",
            "sudo systemctl isolate multi-user.target   (stops the desktop), and build-engine "
            "--workspace 1024",
            "report", source)  # fmt: skip
    total = machine.memory.total_bytes
    if swap is not None and swap < _SWAP and total is not None and total < 9e9:
        yield Problem(
            "hint",
            f"{swap / 1e9:.1f} GB of swap beside {total / 1e9:.1f} GB of memory",
            "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile "
            "&& sudo swapon /swapfile",
            "report", source)  # fmt: skip


def _speed(machine: Machine) -> Iterator[Problem]:
    mode = machine.power_mode
    best = [number for number, name in machine.power_modes.items() if name.startswith("MAXN")]
    if mode and best and mode.number not in best:
        name = mode.name or f"mode {mode.number}"
        yield Problem(
            "hint", f"power mode {name}: its latencies are not those of the board at its best",
            f"sudo nvpmodel -m {best[-1]}", "docs",
            "Jetson Linux Developer Guide, Supported Modes and Power Efficiency")  # fmt: skip
    if machine.clocks_pinned is False:
        yield Problem(
            "hint", "clocks follow the load: latencies scatter",
            "sudo jetson_clocks   (undone by a restart)", "docs",
            "Jetson Linux Developer Guide, Maximizing Jetson Performance")  # fmt: skip
