"""Run a TensorRT engine (classic 8.6 to 11, or TensorRT for RTX) through pycuda."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgedense.engines.runner import Floats, Images, Interface
from edgedense.engines.tensorrt_api import data_type, explain, load, open_logger
from edgedense.environment import require
from edgedense.errors import InputError, MachineError


class TensorRTRunner:
    """One engine with its own execution context, stream and buffers, on GPU 0.

    An engine is executable code: give the bytes that ``artifact.data`` has verified as ``plan``;
    without it, ``path`` is read and trusted.
    It belongs to the thread that made it (a CUDA context is current in one thread) and refuses
    calls from another with RuntimeError. Batches above the profile's maximum are run in parts,
    those below its minimum are padded.
    Errors: MachineError without GPU or library, or where the engine does not open here; InputError
    where its inputs and outputs are not those of ``interface``.
    """

    def __init__(
        self,
        path: Path,
        interface: Interface,
        module_name: str = "tensorrt",
        plan: bytes | None = None,
    ) -> None:
        self.name = module_name
        self._owner = threading.get_ident()
        self._trt = load(module_name)
        self._cuda = load_cuda()
        self._cuda_context = start_cuda(self._cuda)
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._stream: Any = None
        self._buffers: dict[str, Buffer] = {}
        try:
            self._open(path, path.read_bytes() if plan is None else plan)
            check_tensors(self._trt, self._engine, interface, path)
            self._batches = profile_batches(self._engine, interface.input_name)
            self.interface = replace(interface, batch=self._batches)
            self._bind()
        except BaseException:
            self._free()
            raise
        self._cuda_context.pop()

    def __call__(self, images: Images) -> Floats:
        """Logits (N, classes) of normalised images (N, channels, height, width)."""
        self._check_usable()
        if images.ndim != 4 or images.shape[1:] != self.interface.input_shape:
            raise InputError(
                f"images of shape {images.shape} do not fit the engine's input"
                f" (N, {', '.join(map(str, self.interface.input_shape))})",
                "Use the preprocessing that is recorded in the engine's artifact.",
            )
        images = self.interface.fed(images)
        logits = np.empty((len(images), *self.interface.output_shape), np.float32)
        largest = self._batches[2]
        self._cuda_context.push()
        try:
            for start in range(0, len(images), largest):
                part = images[start : start + largest]
                logits[start : start + len(part)] = self._run(part)
        finally:
            self._cuda_context.pop()
        return logits

    def close(self) -> None:
        """Free context, engine, runtime, buffers and stream, in this order."""
        if self._cuda_context is None:
            return
        self._check_usable()
        self._cuda_context.push()
        self._free()

    def __enter__(self) -> TensorRTRunner:
        """The runner itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _check_usable(self) -> None:
        if threading.get_ident() != self._owner:
            raise RuntimeError(
                "a TensorRTRunner belongs to the thread that made it: make one for each thread"
            )
        if self._cuda_context is None:
            raise RuntimeError("this TensorRTRunner is closed")

    def _open(self, path: Path, plan: bytes) -> None:
        logger, journal = open_logger(self._trt)
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise explain(reversed(journal.errors), f"{path} does not open on this machine")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise explain(reversed(journal.errors), f"{path}: no execution context")
        self._stream = self._cuda.Stream()

    def _bind(self) -> None:
        """Pinned host memory and device memory for the largest batch of both tensors."""
        dtype = np.dtype(self.interface.dtype)
        faces = (
            (self.interface.input_name, self.interface.input_shape),
            (self.interface.output_name, self.interface.output_shape),
        )
        for name, shape in faces:
            host = self._cuda.pagelocked_empty((self._batches[2], *shape), dtype)
            self._buffers[name] = Buffer(host, self._cuda.mem_alloc(host.nbytes))
            if not self._context.set_tensor_address(name, int(self._buffers[name].device)):
                raise MachineError(f"TensorRT refuses memory for {name}", "Build it again.")

    def _run(self, images: Images) -> Images:
        face, stream, count = self.interface, self._stream, len(images)
        source, result = self._buffers[face.input_name], self._buffers[face.output_name]
        batch = max(count, self._batches[0])
        source.host[:count] = images
        source.host[count:batch] = 0
        if not self._context.set_input_shape(
            face.input_name, self._trt.Dims((batch, *face.input_shape))
        ):
            raise MachineError(f"TensorRT refuses a batch of {batch}", "Build the engine again.")
        self._cuda.memcpy_htod_async(source.device, source.host[:batch], stream)
        if not self._context.execute_async_v3(int(stream.handle)):
            raise MachineError("TensorRT did not start the inference", "See: edgedense doctor")
        self._cuda.memcpy_dtoh_async(result.host[:batch], result.device, stream)
        stream.synchronize()
        return result.host[:count]

    def _free(self) -> None:
        """Free everything; the CUDA context must be current, and is gone afterwards."""
        self._context = None
        self._engine = None
        self._runtime = None
        while self._buffers:
            self._buffers.popitem()[1].device.free()
        self._stream = None
        context, self._cuda_context = self._cuda_context, None
        context.pop()
        context.detach()


@dataclass(frozen=True)
class Buffer:
    """One tensor's pinned host memory and device memory, as large as the largest batch."""

    host: Images
    device: Any


def load_cuda() -> Any:
    """Import pycuda's driver module. Errors: MachineError where it is absent or does not load."""
    require("pycuda", "running a TensorRT engine")
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise MachineError(
            f"pycuda is installed but does not load: {error}",
            "It needs the NVIDIA driver's libcuda; see: edgedense doctor",
        ) from error


def start_cuda(cuda: Any) -> Any:
    """The primary context of GPU 0, made current. Errors: MachineError where there is no GPU."""
    try:
        cuda.init()
        context = cuda.Device(0).retain_primary_context()
    except cuda.Error as error:
        raise MachineError(
            f"no GPU answers ({error})", "Run this on the device; see: edgedense doctor"
        ) from error
    context.push()
    return context


def check_tensors(trt: Any, engine: Any, interface: Interface, path: Path) -> None:
    """Raise InputError where the engine's tensors are not those of ``interface``."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    modes = {name: engine.get_tensor_mode(name) for name in names}
    wanted = {
        interface.input_name: trt.TensorIOMode.INPUT,
        interface.output_name: trt.TensorIOMode.OUTPUT,
    }
    types = {name: engine.get_tensor_dtype(name) for name in names}
    kind = data_type(trt, interface.dtype)
    if modes != wanted or any(found != kind for found in types.values()):
        told = ", ".join(f"{name} ({types[name].name})" for name in names)
        raise InputError(
            f"{path} has the tensors {told}, not {interface.dtype}"
            f" {interface.input_name} and {interface.output_name}",
            "Engine and manifest do not belong together: build the engine again.",
        )


def profile_batches(engine: Any, input_name: str) -> tuple[int, int, int]:
    """(min, opt, max) batch that the engine was built for."""
    low, opt, high = (
        int(next(iter(dims))) for dims in engine.get_tensor_profile_shape(input_name, 0)
    )
    return low, opt, high
