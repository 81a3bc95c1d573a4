"""All findings about this machine in one answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedense import __version__
from edgedense.doctor import abilities
from edgedense.doctor.abilities import NotHere, Remedy
from edgedense.doctor.machine import Gpu, Interpreter, Machine, look
from edgedense.doctor.matrix import JetPack, jetpack_of
from edgedense.doctor.problems import Ability, Problem, dla, int8, problems
from edgedense.engines.cuda import BINDINGS
from edgedense.environment import HOMES, cores, cpu_model, installed, memory_bytes, version


@dataclass(frozen=True)
class Diagnosis:
    """All findings; memory in bytes, ``l4t`` is the release of a Jetson's system.

    ``tensorrt`` is the version that would be used: this Python's, else the system's.
    ``expected`` is what this JetPack brings. What does not apply, or is not told, is None.
    """

    edgedense: str
    python: str
    virtual_environment: bool
    cpu: str
    cores: int
    memory_bytes: int
    available_bytes: int | None
    swap_bytes: int | None
    packages: dict[str, str | None]
    gpu: Gpu | None
    board: str | None
    l4t: str | None
    jetpack: str | None
    expected: JetPack | None
    tensorrt: str | None
    int8: Ability
    dla: Ability
    power_mode: str | None
    clocks_pinned: bool | None
    builds: tuple[str, ...]
    runs: tuple[str, ...]
    problems: tuple[Problem, ...]
    missing: tuple[Remedy, ...]
    not_here: tuple[NotHere, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def examine(root: Path = Path("/"), python: Interpreter | None = None) -> Diagnosis:
    """Look at this machine; ``root`` is where its /proc, /sys, /etc and /var are."""
    python = python or Interpreter.here()
    packages = {name: _version(name) for name in (*HOMES, *BINDINGS)}
    machine = look(root)
    tensorrt = _tensorrt(packages, machine)
    in_python = packages["tensorrt"] is not None
    found = tuple(problems(machine, python, tensorrt, in_python=in_python))
    stopped = any(problem.level == "error" for problem in found)
    builds = abilities.builds(packages, machine.gpu, stopped=stopped)
    runs = abilities.runs(packages, machine.gpu, stopped=stopped)
    mode = machine.power_mode
    return Diagnosis(
        edgedense=__version__,
        python=python.version,
        virtual_environment=python.virtual,
        cpu=cpu_model(),
        cores=cores(),
        memory_bytes=machine.memory.total_bytes or memory_bytes(),
        available_bytes=machine.memory.available_bytes,
        swap_bytes=machine.memory.swap_bytes,
        packages=packages,
        gpu=machine.gpu,
        board=machine.board,
        l4t=machine.l4t,
        jetpack=machine.jetpack,
        expected=jetpack_of(machine.l4t) if machine.board else None,
        tensorrt=tensorrt,
        int8=int8(machine),
        dla=dla(machine, tensorrt),
        power_mode=mode.name or f"mode {mode.number}" if mode else None,
        clocks_pinned=machine.clocks_pinned,
        builds=builds,
        runs=runs,
        problems=found,
        missing=tuple(abilities.missing(packages, machine, stopped=stopped)),
        not_here=tuple(abilities.not_here(builds, runs, jetson=machine.board is not None)),
    )


def _version(module: str) -> str | None:
    """Of an installed package; some of the system's do not tell theirs."""
    if not installed(module):
        return None
    return (version(module) if module in HOMES else None) or "unknown"


def _tensorrt(packages: dict[str, str | None], machine: Machine) -> str | None:
    own = packages["tensorrt"]
    return own if own not in (None, "unknown") else machine.system_tensorrt or own
