"""CUDA through pycuda: no graphs, since pycuda has no call for capturing them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from edgedense.engines.cuda import NON_BLOCKING, Gpu, Handle, failed, no_gpu
from edgedense.engines.runner import Images
from edgedense.errors import MachineError


def open_gpu() -> Pycuda:
    """GPU 0. Errors: MachineError where pycuda does not load or no GPU answers."""
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise MachineError(
            f"pycuda is installed but does not load: {error}",
            "It needs the NVIDIA driver's libcuda; see: edgedense doctor",
        ) from error
    try:
        driver.init()
        device = driver.Device(0)
        major, minor = device.compute_capability()
        gpu = Gpu(str(device.name()), 10 * major + minor)
        return Pycuda(driver, gpu, device.retain_primary_context())
    except driver.Error as error:
        raise no_gpu(error) from error


class Pycuda:
    """See :class:`edgedense.engines.cuda.Cuda`.

    Streams and events have no call that frees them: they go with their last reference, which has
    to be while the context is current.
    """

    name = "pycuda"
    captures = False

    def __init__(self, driver: Any, gpu: Gpu, context: Any) -> None:
        self.gpu = gpu
        self._driver = driver
        self._context = context

    def push(self) -> None:
        """Make the context current in this thread."""
        self._call("no context", self._context.push)

    def pop(self) -> None:
        """Make it current no more."""
        self._call("no context", self._context.pop)

    def close(self) -> None:
        """Let go of the context."""
        self._call("the context stays", self._context.detach)

    def stream(self) -> Handle:
        """A stream."""
        return Handle(self._call("no stream", self._driver.Stream, NON_BLOCKING))

    def event(self) -> Handle:
        """An event."""
        return Handle(self._call("no event", self._driver.Event))

    def device_memory(self, size: int) -> Handle:
        """``size`` bytes on the GPU."""
        memory = self._call(f"no {size} bytes on the GPU", self._driver.mem_alloc, size)
        return Handle(memory, self._free)

    def host_memory(self, shape: tuple[int, ...], dtype: str) -> Handle:
        """A page-locked array."""
        array = self._call("no page-locked memory", self._driver.pagelocked_empty, shape, dtype)
        return Handle(array, lambda array: self._free(array.base))

    def number(self, handle: Handle) -> int:
        """Address or number."""
        return int(getattr(handle.value, "handle", handle.value))

    def copy_in(self, target: Handle, source: Images, stream: Handle) -> None:
        """Start a copy to the GPU."""
        copy = self._driver.memcpy_htod_async
        self._call("copying in", copy, target.value, source, stream.value)

    def copy_out(self, target: Images, source: Handle, stream: Handle) -> None:
        """Start a copy from the GPU."""
        copy = self._driver.memcpy_dtoh_async
        self._call("copying out", copy, target, source.value, stream.value)

    def record(self, event: Handle, stream: Handle) -> None:
        """Let ``event`` take the time."""
        self._call("recording an event", event.value.record, stream.value)

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Milliseconds between two events."""
        return float(self._call("reading events", start.value.time_till, end.value))

    def synchronize(self, stream: Handle) -> None:
        """Wait for ``stream``."""
        self._call("waiting for the GPU", stream.value.synchronize)

    def capture(self, stream: Handle, work: Callable[[], bool]) -> Handle | None:
        """None: pycuda cannot capture."""
        return None

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Never called: there is no graph to launch."""
        raise RuntimeError("pycuda captures no graphs, so there is none to launch")

    def _free(self, allocation: Any) -> None:
        self._call("freeing memory", allocation.free)

    def _call(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except self._driver.Error as error:
            raise failed(what, error) from error
        finally:
            del function, args  # a traceback would keep streams and events past their context
