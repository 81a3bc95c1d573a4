"""Fakes of tensorrt and CUDA that have exactly what a recorded version has, and keep a diary.

An attribute, method, enum member or argument that the version lacks raises. Behaviour is the least
that a build and a run need: the "engine" answers the mean of each image times (1 + class).
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from recorded_gpu import COMPUTE_MS, PYCUDA, PYCUDA_FUNCTIONS, Gpu, cuda_python, recorded

CLASSIC = ("8.6.1", "10.3.0", "10.7.0", "10.13.3.9", "10.16.1.11", "11.4.0.106")
RTX = "1.7.1.116"
PYCUDA_VERSION = "2026.1"
CUDA_PYTHON = ("12.8.0", "13.4.4")
HIDDEN = '{"Layers": ["N/A due to dynamic shapes"]}'
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


@dataclass
class Script:
    """What the fake device is and how the fake builder behaves."""

    sm: tuple[int, int] = (8, 7)
    gpu_name: str = "Orin (fake)"
    fail_at: int = 0  # the call that fails, counted from 1; 0: none does
    captures: bool = True  # whether the network can be captured as a graph
    runtime_cache: bytes = b"KERNELS"
    parses: bool = True
    plan: bytes | None = b"PLAN"
    opens: bool = True
    log: list[tuple[str, str]] = field(default_factory=list)  # said while building
    typing_fails: bool = False  # the first, strongly typed build finds no kernel
    cache_matches: bool = True
    batches: tuple[int, int, int] = (1, 2, 4)
    dtype: str = "FLOAT"  # of the engine's ends
    spoils: float = 1.0  # what every logit is multiplied with
    inspector: str = '{"Layers": ["conv"]}'


class Api:
    """One fake version: ``trt``, ``pycuda`` and ``cuda_python`` are the modules.

    ``calls`` is the diary, ``failed`` the call that was made to fail, ``gpu`` the device.
    """

    def __init__(
        self, version: str, script: Script | None = None, cuda_version: str = CUDA_PYTHON[-1]
    ) -> None:
        self.rtx = version == RTX
        self.version = version
        self.script = script or Script()
        self.calls: list[tuple[str, Any]] = []
        self.failed: str | None = None
        self.gpu = Gpu(self.script.sm, self.script.gpu_name)
        self.loggers: list[Any] = []
        self.builds = 0
        name = f"tensorrt-{'rtx-' if self.rtx else ''}{version}.json"
        self.trt = self._module("tensorrt_rtx" if self.rtx else "tensorrt", name)
        self.trt.__version__ = version
        self.pycuda = self._pycuda()
        self.cuda_python = cuda_python(self, cuda_version)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def args(self, name: str) -> list[Any]:
        return [args for called, args in self.calls if called == name]

    def note(self, name: str, args: Any) -> bool:
        """Write a call into the diary; whether it is the one that has to fail."""
        kept = tuple(map(keepable, args)) if isinstance(args, tuple) else keepable(args)
        self.calls.append((name, kept))
        if len(self.calls) != self.script.fail_at:
            return False
        self.failed = name
        return True

    def strike(self, name: str, args: Any) -> None:
        """Note a call, and raise what its library raises where it has to fail."""
        fails = self.note(name, args)
        del args
        if fails:
            if name.startswith("cuda."):
                raise self.pycuda.Error(f"{name} failed: out of memory")
            raise RuntimeError(f"{name} failed")

    def check_arguments(self, name: str, signatures: Any, args: Any) -> None:
        check_arguments(self, name, signatures, args)

    def say(self, severity: str, text: str) -> None:
        self.loggers[-1].log(getattr(self.trt.ILogger, severity), text)

    def make(self, name: str) -> Any:
        kind = self.classes[name]
        return kind.__new__(kind)

    def _module(self, module_name: str, file_name: str) -> Any:
        facts = recorded(file_name)
        module = types.ModuleType(module_name)
        self.classes: dict[str, type] = {}
        for name, members in facts["enums"].items():
            setattr(module, name, enum.Enum(name, {m: i for i, m in enumerate(members)}))
            getattr(module, name).__int__ = lambda self: self.value
            self.classes[name] = getattr(module, name)
        for name, members in facts["classes"].items():
            self.classes[name] = fake_class(self, name, members, TRT_BEHAVIOUR)
            setattr(module, name, self.classes[name])
        severity = enum.Enum("Severity", SEVERITIES)
        for name in SEVERITIES:
            setattr(module.ILogger, name, severity[name])
        return module

    def _pycuda(self) -> Any:
        facts = dict(recorded(f"pycuda-{PYCUDA_VERSION}.json")["classes"])
        driver = types.ModuleType("pycuda.driver")
        for name, value in facts.pop("driver").items():
            if isinstance(value, list):
                behave = PYCUDA_FUNCTIONS.get(name, nothing)
                setattr(driver, name, function(self, f"cuda.{name}", value, behave))
        driver.Error = type("Error", (Exception,), {})
        for name, members in facts.items():
            self.classes[f"cuda.{name}"] = fake_class(self, f"cuda.{name}", members, PYCUDA)
            setattr(driver, name, self.classes[f"cuda.{name}"])
        return driver


def keepable(value: Any) -> Any:
    """A value for the diary, which must not keep alive what goes with its last reference."""
    return type(value) if hasattr(type(value), "__del__") else value


def nothing(api: Api, owner: Any, *args: Any) -> None:
    return None


def function(api: Api, name: str, signatures: Any, behave: Callable[..., Any]) -> Any:
    def call(*args: Any, **named: Any) -> Any:
        assert not named, f"{name}: keyword arguments are not recorded"
        check_arguments(api, name, signatures, args)
        try:
            api.strike(name, args)
        except BaseException:
            del args
            raise
        return behave(api, None, *args)

    return call


def fake_class(api: Api, name: str, members: dict[str, Any], behaviour: Any) -> type:
    space: dict[str, Any] = {"_members": frozenset(members), "_name": name}

    def setattribute(self: Any, attribute: str, value: Any) -> None:
        if attribute not in members or members[attribute] != "property":
            raise AttributeError(f"{name}.{attribute} does not exist in {api.version}")
        try:
            api.strike(f"{name}.{attribute}=", value)
        except BaseException:
            del self
            raise
        self.__dict__[f"={attribute}"] = value

    def initialise(self: Any, *args: Any) -> None:
        if members.get("__init__") in (None, "callable", "property"):
            raise TypeError(f"{name} has no constructor")
        check_arguments(api, name, members["__init__"], args)
        try:
            api.strike(name, args)
        except BaseException:
            del self, args
            raise
        behaviour.get((name, "__init__"), nothing)(api, self, *args)

    for member, signatures in members.items():
        if isinstance(signatures, list) and member != "__init__":
            behave = behaviour.get((name, member), nothing)
            space[member] = method(api, name, member, signatures, behave)
        elif signatures == "property":
            space[member] = getter(api, name, member, behaviour)
    extra = {k[1]: v for k, v in behaviour.items() if k[0] == name and k[1].startswith("__")}
    extra.pop("__init__", None)
    for dunder, behave in extra.items():
        space[dunder] = lambda self, *args, behave=behave: behave(api, self, *args)
    space |= {"__setattr__": setattribute, "__init__": initialise}
    return type(name, (), space)


def method(api: Api, owner: str, member: str, signatures: Any, behave: Any) -> Any:
    def call(self: Any, *args: Any) -> Any:
        check_arguments(api, f"{owner}.{member}", signatures, args)
        ends = member in ("free", "detach")  # then it is gone, even if that fails
        found = behave(api, self, *args) if ends else None
        try:
            api.strike(f"{owner}.{member}", args)
        except BaseException:
            del self, args  # real bindings have no frame that a traceback could keep
            raise
        return found if ends else behave(api, self, *args)

    return call


def getter(api: Api, owner: str, member: str, behaviour: Any) -> property:
    def get(self: Any) -> Any:
        if (owner, member) in behaviour:
            return behaviour[owner, member](api, self)
        return self.__dict__.get(f"={member}")

    def put(self: Any, value: Any) -> None:
        raise AssertionError("setattr is caught before")

    return property(get, put)


def check_arguments(api: Api, name: str, signatures: Sequence[Sequence[str]], args: Any) -> None:
    """Raise TypeError, as pybind11 does, where no recorded overload takes ``args``."""
    for signature in signatures:
        required = sum(not argument.endswith("=") for argument in signature)
        if required <= len(args) <= len(signature) and all(
            fits(api, argument.partition(":")[2].rstrip("="), value)
            for argument, value in zip(signature, args, strict=False)
        ):
            return
    raise TypeError(f"{name}{args!r} fits none of {signatures} in {api.version}")


def fits(api: Api, kind: str, value: Any) -> bool:
    if kind in ("int", "SupportsInt"):
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if kind in ("str", "bool", "tuple", "list"):
        return isinstance(value, {"str": str, "bool": bool, "tuple": tuple, "list": list}[kind])
    if kind in ("buffer", "Buffer"):
        return isinstance(value, bytes | bytearray | memoryview)
    if kind in api.classes:
        return isinstance(value, api.classes[kind])
    return not kind.startswith("I") or kind == "IParserError"


# behaviour: tensorrt


def create_builder(api: Api, builder: Any, logger: Any) -> None:
    api.loggers.append(logger)


def build(api: Api, builder: Any, network: Any, config: Any) -> Any:
    api.builds += 1
    monitor = getattr(config, "progress_monitor", None)
    if monitor:
        monitor.phase_start("Building engine", None, 2)
        going = monitor.step_complete("Building engine", 0)
        going = going and monitor.step_complete("Building engine", 1)
        monitor.phase_finish("Building engine")
        if not going:
            return None
    for severity, text in api.script.log:
        api.say(severity, text)
    if api.script.typing_fails and api.builds == 1:
        api.say("ERROR", "Could not find any implementation for node stem/Conv")
        return None
    return None if api.script.plan is None else host_memory(api, api.script.plan)


def host_memory(api: Api, data: bytes) -> Any:
    memory = api.make("IHostMemory")
    memory.__dict__["data"] = data
    return memory


def set_dims(api: Api, dims: Any, shape: Any = ()) -> None:
    dims.__dict__["shape"] = tuple(shape)


def dims_of(api: Api, *shape: int) -> Any:
    dims = api.make("Dims")
    dims.__dict__["shape"] = shape
    return dims


def deserialize(api: Api, runtime: Any, data: bytes) -> Any:
    assert bytes(data) == api.script.plan, "the runtime got other bytes than the plan"
    if not api.script.opens:
        api.say("ERROR", "Version tag does not match. Note: Current Version: 213")
        return None
    return handed_out(api, "ICudaEngine", "engine", runtime)


def profile_shapes(api: Api, engine: Any, name: str, index: int) -> list[Any]:
    return [dims_of(api, size, 3, 4, 4) for size in api.script.batches]


def set_shape(api: Api, context: Any, name: str, shape: Any) -> bool:
    batch = shape.__dict__["shape"][0]
    context.__dict__["batch"] = batch
    return api.script.batches[0] <= batch <= api.script.batches[2]


def set_address(api: Api, context: Any, name: str, address: int) -> bool:
    assert ("device", address) in api.gpu.live
    context.__dict__[name] = address
    return True


def execute(api: Api, context: Any, stream: int) -> bool:
    assert ("stream", stream) in api.gpu.live
    if api.gpu.capturing is not None and not api.script.captures:
        return False
    batch = context.__dict__["batch"]
    api.gpu.do(lambda: compute(api, context, batch), COMPUTE_MS)
    profiler = context.__dict__.get("=profiler")
    if profiler is not None:
        profiler.report_layer_time("stem", 1.0 + 2 * batch)
        profiler.report_layer_time("head", 0.5)
    return True


def compute(api: Api, context: Any, batch: int) -> None:
    held = context.__dict__
    assert held["batch"] == batch, "the context was changed under a captured graph"
    dtype = np.float16 if api.script.dtype == "HALF" else np.float32
    images = api.gpu.memory(held["images"]).view(dtype)[: batch * 48].reshape(batch, 48)
    logits = images.mean(1, keepdims=True) * np.arange(1, 11, dtype=np.float32)
    target = api.gpu.memory(held["logits"]).view(dtype)
    target[: batch * 10] = (api.script.spoils * logits).reshape(-1)


def handed_out(api: Api, name: str, kind: str, parent: Any) -> Any:
    """An object of ``name`` that the GPU's books know as a ``kind``, which ``parent`` outlives."""
    found = api.make(name)
    found.__dict__["number"] = api.gpu.give(kind, ("part of", parent.__dict__["number"]))
    found.__dict__["in context"] = bool(api.gpu.contexts)
    return found


def start_runtime(api: Api, runtime: Any, logger: Any) -> None:
    api.loggers.append(logger)
    runtime.__dict__["number"] = api.gpu.give("runtime")
    runtime.__dict__["in context"] = bool(api.gpu.contexts)


def end(kind: str) -> Any:
    """What goes with its last reference, and only after its parts."""

    def gone(api: Api, thing: Any) -> None:
        number = thing.__dict__.get("number")
        if number is not None:
            if thing.__dict__["in context"]:
                api.gpu.need_context(f"the end of the {kind}")
            for (part, _), value in api.gpu.live.items():
                if isinstance(value, tuple) and value == ("part of", number):
                    api.gpu.wrongs.append(f"the {kind} was freed before its {part}")
            api.gpu.take(kind, number)

    return gone


def tell_layers(api: Api, inspector: Any, form: Any) -> str:
    """Formats are hidden while the batch is free, as TensorRT does."""
    context = inspector.__dict__.get("=execution_context")
    settled = context is not None and "batch" in context.__dict__
    return api.script.inspector if settled else HIDDEN


def keep_kernels(api: Api, config: Any, cache: Any) -> bool:
    config.__dict__["cache"] = cache
    return True


def read_kernels(api: Api, cache: Any, data: bytes) -> bool:
    return bytes(data) == api.script.runtime_cache


TRT_BEHAVIOUR: dict[tuple[str, str], Callable[..., Any]] = {
    ("Builder", "__init__"): create_builder,
    ("Builder", "create_network"): lambda api, *_: api.make("INetworkDefinition"),
    ("Builder", "create_builder_config"): lambda api, *_: api.make("IBuilderConfig"),
    ("Builder", "create_optimization_profile"): lambda api, *_: api.make("IOptimizationProfile"),
    ("Builder", "build_serialized_network"): build,
    ("INetworkDefinition", "num_layers"): lambda api, _: 7,
    ("INetworkDefinition", "get_input"): lambda api, *_: api.make("ITensor"),
    ("INetworkDefinition", "get_output"): lambda api, *_: api.make("ITensor"),
    ("OnnxParser", "parse"): lambda api, *_: api.script.parses,
    ("OnnxParser", "num_errors"): lambda api, _: 0 if api.script.parses else 1,
    ("OnnxParser", "get_error"): lambda api, *_: api.make("ParserError"),
    ("ParserError", "node"): lambda api, _: 5,
    ("ParserError", "desc"): lambda api, _: "Assertion failed:\n non-zero zero point",
    ("ParserError", "node_name"): lambda api, _: "stem_q",
    ("ParserError", "node_operator"): lambda api, _: "QuantizeLinear",
    ("IBuilderConfig", "add_optimization_profile"): lambda api, *_: 0,
    ("IBuilderConfig", "set_compute_capability"): lambda api, *_: True,
    ("IBuilderConfig", "create_timing_cache"): lambda api, *_: api.make("ITimingCache"),
    ("IBuilderConfig", "set_timing_cache"): lambda api, *_: api.script.cache_matches,
    ("IBuilderConfig", "get_timing_cache"): lambda api, *_: api.make("ITimingCache"),
    ("ITimingCache", "serialize"): lambda api, _: host_memory(api, b"TIMINGS"),
    ("IHostMemory", "__bytes__"): lambda api, memory: memory.__dict__["data"],
    ("Dims", "__init__"): set_dims,
    ("Dims", "__iter__"): lambda api, dims: iter(dims.__dict__["shape"]),
    ("Dims", "__repr__"): lambda api, dims: str(dims.__dict__["shape"]),
    ("Runtime", "__init__"): start_runtime,
    ("Runtime", "__del__"): end("runtime"),
    ("Runtime", "deserialize_cuda_engine"): deserialize,
    ("ICudaEngine", "num_io_tensors"): lambda api, _: 2,
    ("ICudaEngine", "get_tensor_name"): lambda api, _, index: ("images", "logits")[index],
    ("ICudaEngine", "get_tensor_mode"): lambda api, _, name: (
        api.trt.TensorIOMode.INPUT if name == "images" else api.trt.TensorIOMode.OUTPUT
    ),
    ("ICudaEngine", "get_tensor_dtype"): lambda api, *_: getattr(
        api.trt.DataType, api.script.dtype
    ),
    ("ICudaEngine", "get_tensor_profile_shape"): profile_shapes,
    ("ICudaEngine", "device_memory_size"): lambda api, _: 4096,
    ("ICudaEngine", "device_memory_size_v2"): lambda api, _: 4096,
    ("ICudaEngine", "create_execution_context"): lambda api, engine, *_: handed_out(
        api, "IExecutionContext", "execution", engine
    ),
    ("ICudaEngine", "__del__"): end("engine"),
    ("ICudaEngine", "create_runtime_config"): lambda api, _: api.make("IRuntimeConfig"),
    ("IRuntimeConfig", "create_runtime_cache"): lambda api, _: api.make("IRuntimeCache"),
    ("IRuntimeConfig", "set_runtime_cache"): keep_kernels,
    ("IRuntimeCache", "deserialize"): read_kernels,
    ("IRuntimeCache", "serialize"): lambda api, _: host_memory(api, api.script.runtime_cache),
    ("IExecutionContext", "__del__"): end("execution"),
    ("ICudaEngine", "create_engine_inspector"): lambda api, *_: api.make("EngineInspector"),
    ("EngineInspector", "get_engine_information"): tell_layers,
    ("IExecutionContext", "set_input_shape"): set_shape,
    ("IExecutionContext", "set_tensor_address"): set_address,
    ("IExecutionContext", "execute_async_v3"): execute,
}
