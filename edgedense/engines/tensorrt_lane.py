"""One execution context on an open TensorRT engine, with its own stream, buffers and events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from edgedense.engines.cuda import Handle, active, release
from edgedense.engines.runner import Floats, Images, Phases
from edgedense.engines.tensorrt_engine import OpenEngine
from edgedense.errors import InputError, MachineError


@dataclass(frozen=True)
class Buffer:
    """One tensor's page-locked and device memory, as large as the largest batch."""

    host: Handle
    device: Handle


class Lane:
    """Runs an engine: images in, logits out.

    Any thread may use it, but one at a time: another gets RuntimeError and wants a fork.
    A batch above the profile's maximum is run in parts, one below its minimum is padded. With
    ``graphs``, the second batch of a size in a row is captured as a CUDA graph where the binding
    can do that, and replayed from then on; any change of the batch size drops the graph, since
    changing its execution context would make it undefined.
    """

    def __init__(self, engine: OpenEngine, *, graphs: bool = True) -> None:
        self.name = engine.name
        self.interface = engine.interface
        self.notes = engine.notes
        self.gpu = engine.cuda.gpu
        self._engine = engine
        self._cuda = engine.cuda
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._buffers: dict[str, Buffer] = {}
        self._graphs = graphs
        self._captures = graphs and engine.cuda.captures and not engine.dialect.own_graphs
        self._graph: Handle | None = None
        self._batch, self._ran = 0, False
        self._closed = False
        engine.lanes.append(self)
        try:
            with active(self._cuda):
                self._open()
        except BaseException:
            self.free()
            raise

    @property
    def busy(self) -> bool:
        """Whether a thread runs it."""
        return self._lock.locked()

    @property
    def cuda_graph(self) -> bool:
        """Whether calls replay a CUDA graph: one captured here, or TensorRT for RTX's own."""
        return self._graph is not None or (self._graphs and self._engine.dialect.own_graphs)

    def __call__(self, images: Images) -> Floats:
        """Logits (N, classes) of normalised images (N, channels, height, width)."""
        with self._using():
            return self._infer(images, None)

    def timed(self, images: Images) -> tuple[Floats, Phases]:
        """The logits, and what copies and compute took by the GPU's clock, summed over parts."""
        spans: list[Phases] = []
        with self._using():
            logits = self._infer(images, spans)
        return logits, Phases(
            sum(span.copy_in_ms for span in spans),
            sum(span.compute_ms for span in spans),
            sum(span.copy_out_ms for span in spans),
        )

    def fork(self, *, graphs: bool | None = None) -> Lane:
        """Another lane on the same engine; ``graphs`` None means as in this one."""
        self._check_open()
        return Lane(self._engine, graphs=self._graphs if graphs is None else graphs)

    def watch_layers(self) -> dict[str, float]:
        """Have TensorRT time every layer from now on: ms by name, in a dict that keeps growing."""
        times: dict[str, float] = {}
        with self._using():
            self._context.profiler = layer_clock(self._engine.trt, times)
        return times

    def close(self) -> None:
        """Free what is this lane's own."""
        self.free()

    def free(self) -> None:
        """Free graph, execution context, events, buffers and stream, in this order."""
        if self._closed:
            return
        if not self._lock.acquire(blocking=False):
            raise _in_use()
        self._closed = True
        self._engine.lanes.remove(self)
        try:
            release(self._cuda, self._held)
        finally:
            self._lock.release()

    def __enter__(self) -> Lane:
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

    @contextmanager
    def _using(self) -> Iterator[None]:
        self._check_open()
        if not self._lock.acquire(blocking=False):
            raise _in_use()
        try:
            with active(self._cuda):
                yield
        finally:
            self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this TensorRT runner is closed")

    def _open(self) -> None:
        self._stream = self._hold(self._cuda.stream())
        for name, shape in self._faces():
            size = (self._engine.batches[2], *shape)
            host = self._hold(self._cuda.host_memory(size, self.interface.dtype))
            device = self._hold(self._cuda.device_memory(host.value.nbytes))
            self._buffers[name] = Buffer(host, device)
        self._marks = [self._hold(self._cuda.event()) for _ in range(4)]
        self._held.callback(setattr, self, "_context", None)
        self._context = self._engine.new_context(graphs=self._graphs)
        for name, buffer in self._buffers.items():
            if not self._context.set_tensor_address(name, self._cuda.number(buffer.device)):
                raise MachineError(f"TensorRT refuses memory for {name}", "Build it again.")
        self._held.callback(self._drop_graph)
        # nothing is freed while the GPU may still write to it
        self._held.callback(self._cuda.synchronize, self._stream)

    def _hold(self, handle: Handle) -> Handle:
        self._held.callback(handle.free)
        return handle

    def _faces(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        face = self.interface
        return (face.input_name, face.input_shape), (face.output_name, face.output_shape)

    def _infer(self, images: Images, spans: list[Phases] | None) -> Floats:
        face = self.interface
        if images.ndim != 4 or images.shape[1:] != face.input_shape:
            raise InputError(
                f"images of shape {images.shape} do not fit the engine's input"
                f" (N, {', '.join(map(str, face.input_shape))})",
                "Use the preprocessing that is recorded in the engine's artifact.",
            )
        images = face.fed(images)
        logits = np.empty((len(images), *face.output_shape), np.float32)
        largest = self._engine.batches[2]
        for start in range(0, len(images), largest):
            part = images[start : start + largest]
            logits[start : start + len(part)] = self._run(part, spans is not None)
            if spans is not None:
                spans.append(self._elapsed())
        return logits

    def _run(self, images: Images, timed: bool) -> Images:
        cuda, stream, count = self._cuda, self._stream, len(images)
        source, result = (self._buffers[name] for name, _ in self._faces())
        batch = max(count, self._engine.batches[0])
        source.host.value[:count] = images
        source.host.value[count:batch] = 0
        self._set_batch(batch)
        steps: tuple[Callable[[], None], ...] = (
            lambda: cuda.copy_in(source.device, source.host.value[:batch], stream),
            self._compute,
            lambda: cuda.copy_out(result.host.value[:batch], result.device, stream),
        )
        for mark, step in zip(self._marks, steps, strict=False):
            if timed:
                cuda.record(mark, stream)
            step()
        if timed:
            cuda.record(self._marks[-1], stream)
        cuda.synchronize(stream)
        logits: Images = result.host.value[:count]
        return logits

    def _elapsed(self) -> Phases:
        start, copied, computed, end = self._marks
        return Phases(
            self._cuda.elapsed_ms(start, copied),
            self._cuda.elapsed_ms(copied, computed),
            self._cuda.elapsed_ms(computed, end),
        )

    def _set_batch(self, batch: int) -> None:
        if batch == self._batch:
            return
        self._drop_graph()
        self._batch = 0
        face = self.interface
        dims = self._engine.trt.Dims((batch, *face.input_shape))
        if not self._context.set_input_shape(face.input_name, dims):
            raise MachineError(f"TensorRT refuses a batch of {batch}", "Build the engine again.")
        self._batch = batch

    def _compute(self) -> None:
        """Start the network; a batch size is captured when it comes a second time in a row."""
        if self._captures and self._ran and self._graph is None:
            self._graph = self._cuda.capture(self._stream, self._enqueue)
            self._captures = self._graph is not None  # what cannot be captured once, never can
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        elif not self._enqueue():
            raise MachineError("TensorRT did not start the inference", "See: edgedense doctor")
        self._ran = True

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._cuda.number(self._stream)))

    def _drop_graph(self) -> None:
        self._ran = False
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.free()


def layer_clock(trt: Any, times: dict[str, float]) -> Any:
    """A TensorRT profiler that adds what each layer took, in ms, to ``times``."""

    class Clock(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name] = times.get(layer_name, 0.0) + ms

    return Clock()


def _in_use() -> RuntimeError:
    return RuntimeError("another thread runs this TensorRT runner: fork one for each thread")
