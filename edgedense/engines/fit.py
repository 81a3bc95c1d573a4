"""Whether an engine opens here: asked before it is deserialized, since that runs its code.

An engine opens only in the TensorRT that built it, on GPUs of the compute capability that it was
built for (developer guide, "Engine Compatibility"); TensorRT itself says so in a number, or stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from edgedense.engines.cuda import Gpu
from edgedense.errors import InputError, MachineError


@dataclass(frozen=True)
class Built:
    """What an engine's manifest records of its build.

    ``sms`` are the compute capabilities times ten that it opens on, ``gpu`` the name of the GPU
    that it was built on. What is not recorded is None or empty.
    """

    target: str
    tensorrt: str | None = None
    sms: tuple[int, ...] = ()
    gpu: str | None = None

    @classmethod
    def from_report(cls, report: Mapping[str, Any], path: Path) -> Built:
        """From the report of an engine artifact. Errors: InputError where it is damaged."""
        try:
            version, sm, gpu = (report.get(key) for key in ("runtime_version", "sm", "gpu"))
            served = report.get("sms", ()) if sm is None else (sm,)
            if version is not None:
                Version(version)
            sms = tuple(int(number) for number in served)
            return cls(str(report["target"]), version, sms, gpu if gpu is None else str(gpu))
        except (KeyError, TypeError, ValueError, InvalidVersion) as error:
            raise InputError(
                f"{path}: the manifest's report is damaged ({error})", "Build the engine again."
            ) from error


def check_fit(built: Built, version: str, gpu: Gpu, path: Path) -> tuple[str, ...]:
    """Raise MachineError where TensorRT ``version`` on ``gpu`` does not open an engine.

    Returns notes on what may make it slower here than where it was built.
    """
    if built.tensorrt is not None and Version(built.tensorrt) != Version(version):
        raise _misfit(
            f"{path} was built by TensorRT {built.tensorrt}, and this machine has {version}:"
            " an engine opens only in the version that built it",
            built,
        )
    if built.sms and gpu.sm not in built.sms:
        served = " or ".join(map(str, built.sms))
        raise _misfit(
            f"{path} was built for SM {served}, and this GPU ({gpu.name}) is SM {gpu.sm}", built
        )
    if built.gpu not in (None, gpu.name):
        return (
            f"the engine was built on {built.gpu} and runs on {gpu.name}: its kernels were chosen"
            " for the former; build it here for its best latency",
        )
    return ()


def _misfit(what: str, built: Built) -> MachineError:
    return MachineError(
        what,
        "Build it again for this machine, from what quantize wrote: edgedense build-engine"
        f" QUANTIZED -o ENGINE --target {built.target}   (targets: edgedense targets)",
    )
