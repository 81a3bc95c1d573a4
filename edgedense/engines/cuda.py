"""The few CUDA calls that running an engine takes, behind whichever binding is installed.

cuda-python comes as wheels and can capture CUDA graphs, so it is asked first. pycuda, which is
compiled with the CUDA toolkit at hand, has no call for capturing.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from edgedense.engines.runner import Images
from edgedense.environment import installed
from edgedense.errors import MachineError

# modules of the bindings, best first, and where each is put behind Cuda
BINDINGS = {
    "cuda.bindings": "edgedense.engines.cuda_python",
    "pycuda": "edgedense.engines.cuda_pycuda",
}
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: never waits for the legacy default stream


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, and its compute capability times ten (87 is 8.7)."""

    name: str
    sm: int


@dataclass
class Handle:
    """Something that CUDA handed out; ``release`` gives it back, or the last reference does."""

    value: Any
    release: Callable[[Any], object] | None = None

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        value, self.value = self.value, None
        if value is not None and self.release is not None:
            self.release(value)


class Cuda(Protocol):
    """GPU 0 and its primary context.

    Every call but ``push`` and ``close`` wants the context current in the calling thread (see
    :func:`active`). What fails raises MachineError.
    """

    name: str
    gpu: Gpu
    captures: bool

    def push(self) -> None:
        """Make the context current in this thread."""
        ...

    def pop(self) -> None:
        """Make it current no more."""
        ...

    def close(self) -> None:
        """Let go of the context; it must not be current in this thread."""
        ...

    def stream(self) -> Handle:
        """A stream that does not wait for the default one."""
        ...

    def event(self) -> Handle:
        """An event that keeps the time."""
        ...

    def device_memory(self, size: int) -> Handle:
        """``size`` bytes on the GPU."""
        ...

    def host_memory(self, shape: tuple[int, ...], dtype: str) -> Handle:
        """A page-locked array."""
        ...

    def number(self, handle: Handle) -> int:
        """Address of device memory, or number of a stream, as TensorRT wants them."""
        ...

    def copy_in(self, target: Handle, source: Images, stream: Handle) -> None:
        """Start a copy to the GPU."""
        ...

    def copy_out(self, target: Images, source: Handle, stream: Handle) -> None:
        """Start a copy from the GPU."""
        ...

    def record(self, event: Handle, stream: Handle) -> None:
        """Let ``event`` take the time when ``stream`` comes to it."""
        ...

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Milliseconds between two recorded events, on the GPU's clock."""
        ...

    def synchronize(self, stream: Handle) -> None:
        """Wait until ``stream`` has done everything."""
        ...

    def capture(self, stream: Handle, work: Callable[[], bool]) -> Handle | None:
        """What ``work`` starts on ``stream``, as a graph; None where it cannot be captured."""
        ...

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Start a captured graph."""
        ...


def open_cuda() -> Cuda:
    """GPU 0 through the best binding here. Errors: MachineError without binding, driver or GPU."""
    for binding, home in BINDINGS.items():
        if installed(binding):
            found: Cuda = importlib.import_module(home).open_gpu()
            return found
    raise MachineError(
        "running a TensorRT engine needs CUDA from Python, and neither cuda-python nor pycuda is"
        " installed here",
        "pip install cuda-bindings   (of the driver's CUDA: nvidia-smi tells it)",
    )


@contextlib.contextmanager
def active(cuda: Cuda) -> Iterator[None]:
    """The context is current in this thread, inside the block."""
    cuda.push()
    try:
        yield
    finally:
        cuda.pop()


def release(cuda: Cuda, held: contextlib.ExitStack) -> None:
    """Free what is ``held``, all of it whatever fails, with the context current if it can be."""
    with contextlib.ExitStack() as current:
        try:
            current.enter_context(active(cuda))
        finally:
            held.close()


def failed(what: str, reason: object) -> MachineError:
    """The error for a CUDA call that failed."""
    text = " ".join(str(reason).split())
    if "out of memory" in text.lower().replace("_", " "):
        return MachineError(
            f"CUDA: {what}: {text}",
            "Lower the maximum batch (--batch), close other programs, run without a desktop.",
        )
    return MachineError(f"CUDA: {what}: {text}", "See: edgedense doctor")


def no_gpu(reason: object) -> MachineError:
    """The error where the driver or the GPU does not answer."""
    return MachineError(
        f"no GPU answers ({' '.join(str(reason).split())})",
        "Run this on the device; see: edgedense doctor",
    )
