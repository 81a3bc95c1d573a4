"""CUDA through cuda-python's driver module, which speaks to any driver of its major version."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from edgedense.engines.cuda import NON_BLOCKING, Gpu, Handle, failed, no_gpu
from edgedense.engines.runner import Images
from edgedense.errors import MachineError

NAME_LENGTH = 256


def open_gpu() -> CudaPython:
    """GPU 0. Errors: MachineError where cuda-python does not load or no GPU answers."""
    try:
        driver = importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise MachineError(
            f"cuda-python is installed but does not load: {error}",
            "Install the one of the driver's CUDA, such as: pip install 'cuda-bindings==12.*'",
        ) from error
    try:
        return CudaPython(driver)
    except MachineError as error:
        raise no_gpu(error.what) from error


class CudaPython:
    """See :class:`edgedense.engines.cuda.Cuda`."""

    name = "cuda-python"
    captures = True

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", 0)
        names = driver.CUdevice_attribute
        major, minor = (
            self._call("cuDeviceGetAttribute", attribute, self._device)
            for attribute in (
                names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                names.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        name = bytes(self._call("cuDeviceGetName", NAME_LENGTH, self._device))
        self.gpu = Gpu(name.partition(b"\0")[0].decode(errors="replace"), 10 * major + minor)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)

    def push(self) -> None:
        """Make the context current in this thread."""
        self._call("cuCtxPushCurrent", self._context)

    def pop(self) -> None:
        """Make it current no more."""
        self._call("cuCtxPopCurrent")

    def close(self) -> None:
        """Let go of the context."""
        self._call("cuDevicePrimaryCtxRelease", self._device)

    def stream(self) -> Handle:
        """A stream."""
        return self._made("cuStreamCreate", NON_BLOCKING, by="cuStreamDestroy")

    def event(self) -> Handle:
        """An event."""
        return self._made("cuEventCreate", 0, by="cuEventDestroy")

    def device_memory(self, size: int) -> Handle:
        """``size`` bytes on the GPU."""
        return self._made("cuMemAlloc", size, by="cuMemFree")

    def host_memory(self, shape: tuple[int, ...], dtype: str) -> Handle:
        """A page-locked array."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._call("cuMemAllocHost", size))
        memory = (ctypes.c_byte * size).from_address(address)
        array = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        return Handle(array, lambda _: self._call("cuMemFreeHost", address))

    def number(self, handle: Handle) -> int:
        """Address or number."""
        return int(handle.value)

    def copy_in(self, target: Handle, source: Images, stream: Handle) -> None:
        """Start a copy to the GPU."""
        place, size = source.ctypes.data, source.nbytes
        self._call("cuMemcpyHtoDAsync", target.value, place, size, stream.value)

    def copy_out(self, target: Images, source: Handle, stream: Handle) -> None:
        """Start a copy from the GPU."""
        place, size = target.ctypes.data, target.nbytes
        self._call("cuMemcpyDtoHAsync", place, source.value, size, stream.value)

    def record(self, event: Handle, stream: Handle) -> None:
        """Let ``event`` take the time."""
        self._call("cuEventRecord", event.value, stream.value)

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Milliseconds between two events."""
        return float(self._call("cuEventElapsedTime", start.value, end.value))

    def synchronize(self, stream: Handle) -> None:
        """Wait for ``stream``."""
        self._call("cuStreamSynchronize", stream.value)

    def capture(self, stream: Handle, work: Callable[[], bool]) -> Handle | None:
        """A graph of what ``work`` starts; None where it cannot be captured."""
        # other threads may allocate meanwhile
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        try:
            self._call("cuStreamBeginCapture", stream.value, mode)
            complete = False
            try:
                complete = work()
            finally:
                graph = self._call("cuStreamEndCapture", stream.value)
                launchable = self._instantiated(graph, complete)
        except MachineError:
            return None
        return launchable

    def _instantiated(self, graph: Any, complete: bool) -> Handle | None:
        """The graph in a form that can be launched; None where it is not ``complete``."""
        try:
            if not complete:
                return None
            return self._made("cuGraphInstantiate", graph, 0, by="cuGraphExecDestroy")
        except MachineError:
            return None
        finally:
            with contextlib.suppress(MachineError):  # an invalid capture has no graph
                self._call("cuGraphDestroy", graph)

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Start a captured graph."""
        self._call("cuGraphLaunch", graph.value, stream.value)

    def _made(self, name: str, *args: Any, by: str) -> Handle:
        """What call ``name`` makes, and call ``by`` gives back."""
        return Handle(self._call(name, *args), lambda value: self._call(by, value))

    def _call(self, name: str, *args: Any) -> Any:
        """What a driver call returns beside its status, if anything."""
        try:
            status, *values = getattr(self._driver, name)(*args)
        except RuntimeError as error:  # no libcuda, or a driver that is too old for the call
            raise failed(name, error) from error
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise failed(name, status.name)
        return values[0] if values else None
