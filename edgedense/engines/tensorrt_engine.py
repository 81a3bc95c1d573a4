"""A deserialized TensorRT engine: what all execution contexts on it share."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from edgedense.engines.cuda import active, open_cuda, release
from edgedense.engines.fit import Built, check_fit
from edgedense.engines.runner import Interface
from edgedense.engines.runtime_cache import KernelCache, cache_path
from edgedense.engines.tensorrt_api import data_type, dialect_of, explain, load, open_logger
from edgedense.errors import InputError


class Running(Protocol):
    """What runs on an engine and is freed before it, unless a thread is ``busy`` with it."""

    @property
    def busy(self) -> bool:
        """Whether a thread runs it."""
        ...

    def free(self) -> None:
        """Free everything."""
        ...


class OpenEngine:
    """An engine on GPU 0, with its CUDA context, TensorRT's runtime and log.

    ``lanes`` are the execution contexts that are open on it: they are closed before it is.
    ``notes`` say what is not as it was where the engine was built.
    Errors: MachineError without GPU or library, or where the engine does not open here; InputError
    where its inputs and outputs are not those of ``interface``.

    TensorRT's objects go with their last reference, so no function has one in a variable of its
    own: the traceback of an error would keep it past its CUDA context.
    """

    def __init__(
        self, path: Path, interface: Interface, module_name: str, plan: bytes, built: Built | None
    ) -> None:
        self.name = module_name
        self.path = path
        self.trt = load(module_name)
        self.dialect = dialect_of(self.trt)
        self.cuda = open_cuda()
        self.lanes: list[Running] = []
        self.notes: tuple[str, ...] = ()
        self._held = ExitStack()
        self._kernels: KernelCache | None = None
        self._configs: dict[bool, Any] = {}
        self._closed = False
        try:
            with active(self.cuda):
                if built is not None:
                    version = str(self.trt.__version__)
                    self.notes = check_fit(built, version, self.cuda.gpu, path)
                self._open(plan)
                self._check_tensors(interface)
                self.batches = self._profile_batches(interface.input_name)
            self.interface = replace(interface, batch=self.batches)
        except BaseException:
            self.close()
            raise

    def new_context(self, *, graphs: bool) -> Any:
        """An execution context; with ``graphs``, one that captures them itself where it can."""
        if not self.dialect.ahead_of_time:
            context = self._engine.create_execution_context()
        else:
            context = self._engine.create_execution_context(self._config(graphs))
        if context is None:
            raise explain(reversed(self._journal.errors), f"{self.path}: no execution context")
        return context

    def close(self) -> None:
        """Free what runs on it, engine, runtime and CUDA context, in this order."""
        if self._closed:
            return
        if any(lane.busy for lane in self.lanes):
            raise RuntimeError(f"{self.path} is running in another thread: let that end first")
        self._closed = True
        with ExitStack() as last:  # from its end to its start, whatever fails on the way
            last.callback(self.cuda.close)
            last.callback(release, self.cuda, self._held)
            for lane in tuple(self.lanes):
                last.callback(lane.free)

    def _open(self, plan: bytes) -> None:
        logger, self._journal = open_logger(self.trt)
        self._held.callback(setattr, self, "_runtime", None)
        self._runtime = self.trt.Runtime(logger)
        self._held.callback(setattr, self, "_engine", None)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            what = f"{self.path} does not open on this machine"
            raise explain(reversed(self._journal.errors), what)
        if self.dialect.ahead_of_time:
            self._open_kernels(plan)

    def _open_kernels(self, plan: bytes) -> None:
        self._held.callback(self._configs.clear)
        cache = self._config(graphs=False).create_runtime_cache()
        if cache is None:
            return
        self._held.callback(setattr, self, "_kernels", None)
        place = cache_path(plan, str(self.trt.__version__), self.cuda.gpu)
        self._kernels = KernelCache(cache, place)
        self._config(graphs=False).set_runtime_cache(cache)
        self._held.callback(self._kernels.save)

    def _config(self, graphs: bool) -> Any:
        """How TensorRT for RTX is to run a context, which has to outlive it."""
        if graphs not in self._configs:
            self._configs[graphs] = self._engine.create_runtime_config()
            if self._kernels is not None:
                self._configs[graphs].set_runtime_cache(self._kernels.cache)
            if graphs and self.dialect.own_graphs:
                whole = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                self._configs[graphs].cuda_graph_strategy = whole
        return self._configs[graphs]

    def _check_tensors(self, interface: Interface) -> None:
        """Raise InputError where the engine's tensors are not those of ``interface``."""
        ends = range(self._engine.num_io_tensors)
        names = [self._engine.get_tensor_name(index) for index in ends]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        types = {name: self._engine.get_tensor_dtype(name) for name in names}
        wanted = {
            interface.input_name: self.trt.TensorIOMode.INPUT,
            interface.output_name: self.trt.TensorIOMode.OUTPUT,
        }
        kind = data_type(self.trt, interface.dtype)
        if modes != wanted or any(found != kind for found in types.values()):
            told = ", ".join(f"{name} ({types[name].name})" for name in names)
            raise InputError(
                f"{self.path} has the tensors {told}, not {interface.dtype}"
                f" {interface.input_name} and {interface.output_name}",
                "Engine and manifest do not belong together: build the engine again.",
            )

    def _profile_batches(self, input_name: str) -> tuple[int, int, int]:
        """(min, opt, max) batch that the engine was built for."""
        low, opt, high = (
            int(next(iter(dims))) for dims in self._engine.get_tensor_profile_shape(input_name, 0)
        )
        return low, opt, high
