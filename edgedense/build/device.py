"""Whether this machine can build for a target: asked before the work."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edgedense.build.advice import version_note
from edgedense.engines.cuda import BINDINGS, Gpu, open_cuda
from edgedense.engines.tensorrt_api import explain, open_logger
from edgedense.environment import has_gpu, installed
from edgedense.errors import MachineError
from edgedense.targets import Target


@dataclass(frozen=True)
class Machine:
    """GPU 0 where it was asked, and what the report ought to say about this machine."""

    gpu: Gpu | None = None
    notes: tuple[str, ...] = ()


def preflight(trt: Any, target: Target) -> Machine:
    """What builds here. Errors: MachineError where there is no GPU, or not the target's."""
    if target.ahead_of_time:
        return Machine(_any_gpu())
    note = version_note(target, str(trt.__version__))
    notes = (note,) if note else ()
    if not any(map(installed, BINDINGS)):
        start_builder(trt, *open_logger(trt))
        return Machine(
            None, (*notes, "the GPU was not compared with the target: no cuda-python or pycuda")
        )
    gpu = _gpu()
    if gpu.sm not in target.sms:
        raise MachineError(
            f"this GPU ({gpu.name}) is SM {gpu.sm}, the target's is SM {target.sm}",
            "Run this on the device itself, or name this machine's target (edgedense targets).",
        )
    return Machine(gpu, notes)


def start_builder(trt: Any, logger: Any, journal: Any) -> Any:
    """A TensorRT builder. Errors: MachineError where CUDA does not start."""
    try:
        return trt.Builder(logger)
    except TypeError as error:  # pybind11's answer to a null builder: CUDA did not start
        raise explain(journal.errors, "TensorRT's builder does not start") from error


def _gpu() -> Gpu:
    cuda = open_cuda()
    cuda.close()
    return cuda.gpu


def _any_gpu() -> Gpu | None:
    """GPU 0 where there is one that answers: an engine built ahead of time needs none."""
    if has_gpu() and any(map(installed, BINDINGS)):
        with suppress(MachineError):
            return _gpu()
    return None
