"""A fake GPU, and fakes of pycuda and cuda-python on it that have what the recordings have.

It keeps count of everything it hands out, so a test can ask what was never freed, or twice.
"""

from __future__ import annotations

import enum
import json
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
BINDINGS = ("pycuda", "cuda-python")
COPY_IN_MS, COMPUTE_MS, COPY_OUT_MS = 1.0, 10.0, 2.0


@cache
def recorded(name: str) -> Any:
    """The facts of a recording; nobody may change them."""
    return json.loads((HERE / name).read_text())


@dataclass
class Gpu:
    """Memory, streams, events and graphs; a clock that the work moves on.

    ``live`` is what was handed out and not freed, ``freed`` the kinds in the order of freeing,
    ``wrongs`` are things that a driver would not forgive.
    """

    sm: tuple[int, int] = (8, 7)
    name: str = "Orin (fake)"
    live: dict[tuple[str, int], Any] = field(default_factory=dict)
    freed: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    current: dict[int, list[Any]] = field(default_factory=dict)
    clock_ms: float = 0.0
    capturing: list[Callable[[], None]] | None = None
    numbers: int = 0x1000
    lock: Any = field(default_factory=threading.RLock)

    @property
    def contexts(self) -> list[Any]:
        """Contexts that are current in this thread."""
        return self.current.setdefault(threading.get_ident(), [])

    def give(self, kind: str, value: Any = None, number: int | None = None) -> int:
        with self.lock:
            self.numbers += 0x1000
            found = self.numbers if number is None else number
            self.live[kind, found] = value
            return found

    def take(self, kind: str, number: int) -> None:
        with self.lock:
            self.freed.append(kind)
            if (kind, number) not in self.live:
                self.wrongs.append(f"{kind} {number:#x} was freed twice, or never handed out")
            self.live.pop((kind, number), None)

    def need_context(self, what: str) -> None:
        if not self.contexts:
            self.wrongs.append(f"{what} without a current context")

    def memory(self, address: int) -> Any:
        return self.live["device", address]

    def allocate(self, size: int) -> int:
        return self.give("device", np.full(size, 0xFF, np.uint8))

    def copy_in(self, address: int, source: np.ndarray) -> None:
        self.do(lambda: self._write(address, source), COPY_IN_MS)

    def copy_out(self, target: np.ndarray, address: int) -> None:
        self.do(lambda: self._read(target, address), COPY_OUT_MS)

    def do(self, work: Callable[[], None], takes_ms: float) -> None:
        """Work on a stream: done at once, or kept for later while it is captured."""
        self.need_context("work on a stream")

        def step() -> None:
            work()
            self.clock_ms += takes_ms

        if self.capturing is None:
            step()
        else:
            self.capturing.append(step)

    def _write(self, address: int, source: np.ndarray) -> None:
        assert source.flags.c_contiguous, "contiguous memory only"
        data = source.reshape(-1).view(np.uint8)
        self.memory(address)[: data.size] = data

    def _read(self, target: np.ndarray, address: int) -> None:
        target.reshape(-1).view(np.uint8)[:] = self.memory(address)[: target.nbytes]


# pycuda


class Pagelocked:
    """What an array of pycuda's page-locked memory has for its base."""

    def __init__(self, api: Any, shape: Any, dtype: Any) -> None:
        self._bytes = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xFF, np.uint8)
        self.__array_interface__ = {
            **self._bytes.__array_interface__,
            "shape": tuple(shape),
            "typestr": np.dtype(dtype).str,
        }
        self.number = api.gpu.give("host", self._bytes)
        self.free = lambda: api.classes["cuda.PagelockedHostAllocation"].free(self)


def pagelocked(api: Any, _: Any, shape: Any, dtype: Any) -> np.ndarray:
    return np.asarray(Pagelocked(api, shape, dtype))


def allocation(api: Any, _: Any, size: int) -> Any:
    memory = api.make("cuda.DeviceAllocation")
    memory.__dict__["number"] = api.gpu.allocate(size)
    return memory


def made(kind: str) -> Callable[..., None]:
    def start(api: Any, thing: Any, *args: Any) -> None:
        api.gpu.need_context(f"a new {kind}")
        thing.__dict__["number"] = api.gpu.give(kind)

    return start


def gone(kind: str) -> Callable[..., None]:
    """What pycuda does when the last reference goes."""

    def end(api: Any, thing: Any) -> None:
        if "number" in thing.__dict__:
            api.gpu.need_context(f"the end of a {kind}")
            api.gpu.take(kind, thing.__dict__["number"])

    return end


def free(kind: str) -> Callable[..., None]:
    def give_back(api: Any, thing: Any) -> None:
        api.gpu.take(kind, thing.number)

    return give_back


def retain(api: Any, device: Any) -> Any:
    context = api.make("cuda.Context")
    context.__dict__["number"] = api.gpu.give("context")
    return context


def record(api: Any, event: Any, stream: Any) -> Any:
    event.__dict__["at"] = api.gpu.clock_ms
    return event


PYCUDA_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mem_alloc": allocation,
    "memcpy_htod_async": lambda api, _, target, source, stream: api.gpu.copy_in(
        target.number, source
    ),
    "memcpy_dtoh_async": lambda api, _, target, source, stream: api.gpu.copy_out(
        target, source.number
    ),
    "pagelocked_empty": pagelocked,
}
PYCUDA: dict[tuple[str, str], Callable[..., Any]] = {
    ("cuda.Device", "compute_capability"): lambda api, _: api.gpu.sm,
    ("cuda.Device", "name"): lambda api, _: api.gpu.name,
    ("cuda.Device", "retain_primary_context"): retain,
    ("cuda.Context", "push"): lambda api, context: api.gpu.contexts.append(context),
    ("cuda.Context", "pop"): lambda api, context: api.gpu.contexts.pop(),
    ("cuda.Context", "detach"): free("context"),
    ("cuda.DeviceAllocation", "__int__"): lambda api, memory: memory.number,
    ("cuda.DeviceAllocation", "free"): free("device"),
    ("cuda.PagelockedHostAllocation", "free"): free("host"),
    ("cuda.Stream", "__init__"): made("stream"),
    ("cuda.Stream", "__del__"): gone("stream"),
    ("cuda.Stream", "handle"): lambda api, stream: stream.number,
    ("cuda.Event", "__init__"): made("event"),
    ("cuda.Event", "__del__"): gone("event"),
    ("cuda.Event", "record"): record,
    ("cuda.Event", "time_till"): lambda api, start, end: end.at - start.at,
}


# cuda-python


class Number:
    """A handle of cuda-python: an object that int() reads."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value


def cuda_python(api: Any, version: str) -> Any:
    """The module ``cuda.bindings.driver`` of that version."""
    facts = recorded(f"cuda-bindings-{version}.json")
    driver = types.ModuleType("cuda.bindings.driver")
    for name, members in facts["enums"].items():
        api.classes[name] = numbered(name, tuple(members))
        setattr(driver, name, api.classes[name])
    for name, signature in facts["functions"].items():
        setattr(driver, name, driver_call(api, driver, name, signature))
    return driver


@cache
def numbered(name: str, members: tuple[str, ...]) -> Any:
    return enum.IntEnum(name, {member: number for number, member in enumerate(members)})


def driver_call(api: Any, driver: Any, name: str, signature: Any) -> Any:
    def call(*args: Any) -> tuple[Any, ...]:
        api.check_arguments(f"driver.{name}", [signature["takes"]], args)
        fault = api.note(f"driver.{name}", args)
        ends = name in ENDING
        if ends:
            DRIVER[name](api, *args)
        if fault:
            if name == "cuStreamEndCapture":
                api.gpu.capturing = None
            return driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY, *[None] * signature["gives"]
        if ends:
            return (driver.CUresult.CUDA_SUCCESS,)
        found = DRIVER.get(name, lambda *_: None)(api, *args)
        assert (found is not None) == signature["gives"], f"the fake of {name} is wrong"
        values = () if found is None else (found,)
        return driver.CUresult.CUDA_SUCCESS, *values

    return call


def attribute(api: Any, attribute: Any, device: Any) -> int:
    return api.gpu.sm["MAJOR" not in attribute.name]


def host(api: Any, size: int) -> int:
    array = np.full(size, 0xFF, np.uint8)
    return api.gpu.give("host", array, array.ctypes.data)


def bytes_at(api: Any, address: int, size: int) -> np.ndarray:
    """Page-locked memory from ``address`` on, which may lie within an allocation."""
    for (kind, start), array in api.gpu.live.items():
        if kind == "host" and start <= address and address + size <= start + array.size:
            return array[address - start : address - start + size]
    raise AssertionError(f"{address:#x} is no page-locked memory")


def start_event(api: Any, event: Any, stream: Any) -> None:
    api.gpu.live["event", int(event)] = api.gpu.clock_ms


def end_capture(api: Any, stream: Any) -> Number:
    work, api.gpu.capturing = api.gpu.capturing, None
    return Number(api.gpu.give("graph", work))


def begin_capture(api: Any, stream: Any, mode: Any) -> None:
    assert api.gpu.capturing is None
    api.gpu.capturing = []


def launch(api: Any, graph: Any, stream: Any) -> None:
    for step in api.gpu.live["executable", int(graph)]:
        step()


def release_context(api: Any, device: Any) -> None:
    """There is one primary context, held as often as it was retained."""
    held = [number for kind, number in api.gpu.live if kind == "context"]
    api.gpu.take("context", held[-1] if held else 0)


def ending(kind: str) -> Callable[..., None]:
    def end(api: Any, thing: Any) -> None:
        api.gpu.need_context(f"the end of a {kind}")
        api.gpu.take(kind, int(thing))

    return end


ENDING = {
    "cuMemFree", "cuMemFreeHost", "cuStreamDestroy", "cuEventDestroy", "cuGraphDestroy",
    "cuGraphExecDestroy", "cuDevicePrimaryCtxRelease",
}  # fmt: skip
DRIVER: dict[str, Callable[..., Any]] = {
    "cuDeviceGet": lambda api, ordinal: ordinal,
    "cuDeviceGetAttribute": attribute,
    "cuDeviceGetName": lambda api, length, _: api.gpu.name.encode().ljust(length, b"\0"),
    "cuDevicePrimaryCtxRetain": lambda api, _: Number(api.gpu.give("context")),
    "cuDevicePrimaryCtxRelease": release_context,
    "cuCtxPushCurrent": lambda api, context: api.gpu.contexts.append(context),
    "cuCtxPopCurrent": lambda api: api.gpu.contexts.pop(),
    "cuMemAlloc": lambda api, size: Number(api.gpu.allocate(size)),
    "cuMemFree": ending("device"),
    "cuMemAllocHost": host,
    "cuMemFreeHost": ending("host"),
    "cuMemcpyHtoDAsync": lambda api, target, source, size, _: api.gpu.copy_in(
        int(target), bytes_at(api, source, size)
    ),
    "cuMemcpyDtoHAsync": lambda api, target, source, size, _: api.gpu.copy_out(
        bytes_at(api, target, size), int(source)
    ),
    "cuStreamCreate": lambda api, _: Number(api.gpu.give("stream")),
    "cuStreamDestroy": ending("stream"),
    "cuEventCreate": lambda api, _: Number(api.gpu.give("event")),
    "cuEventDestroy": ending("event"),
    "cuEventRecord": start_event,
    "cuEventElapsedTime": lambda api, start, end: (
        api.gpu.live["event", int(end)] - api.gpu.live["event", int(start)]
    ),
    "cuStreamBeginCapture": begin_capture,
    "cuStreamEndCapture": end_capture,
    "cuGraphInstantiate": lambda api, graph, _: Number(
        api.gpu.give("executable", api.gpu.live["graph", int(graph)])
    ),
    "cuGraphDestroy": ending("graph"),
    "cuGraphExecDestroy": ending("executable"),
    "cuGraphLaunch": launch,
}
