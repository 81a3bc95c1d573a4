"""The one builder for classic TensorRT (on the device) and TensorRT for RTX (ahead of time)."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedense.artifact import write_whole
from edgedense.build.advice import version_note, weak_precisions
from edgedense.build.options import BuildOptions, BuiltEngine
from edgedense.build.watch import stdout_kept_clean, watch
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt_api import (
    Dialect,
    Journal,
    data_type,
    dialect_of,
    explain,
    open_logger,
)
from edgedense.errors import EdgedenseError, InputError, MachineError
from edgedense.progress import SILENT, Progress
from edgedense.targets import Target

NO_KERNEL = "Could not find any implementation"
# a uint8 zero point is read as int8 with this warning only: half of the range is lost in silence
MISREAD = "Defaulting to INT8"


@dataclass(frozen=True)
class Job:
    """All that a build needs to know."""

    trt: Any
    dialect: Dialect
    onnx_path: Path
    destination: Path
    interface: Interface
    options: BuildOptions
    target: Target
    notes: list[str] = field(default_factory=list)


def build_tensorrt(
    trt: Any,
    onnx_path: Path,
    destination: Path,
    *,
    interface: Interface,
    options: BuildOptions,
    target: Target,
    notes: tuple[str, ...] = (),
    progress: Progress = SILENT,
) -> BuiltEngine:
    """Build ``onnx_path`` and write the serialized plan to ``destination``.

    ``trt`` is the imported module; ``notes`` go in front of TensorRT's own warnings. Beside the
    plan goes ``inspector.json``, where the engine can be opened on this machine. Errors: InputError
    where the parser or builder refuses the graph; MachineError where the machine is too small.
    """
    dialect = dialect_of(trt)
    job = Job(trt, dialect, onnx_path, destination, interface, options, target, list(notes))
    *fallbacks, last = job.dialect.typings
    for typing in fallbacks:
        built = _attempt(job, typing, progress)
        if isinstance(built, BuiltEngine):
            return built
        if NO_KERNEL not in built.what:
            raise built
        job.notes.append(f"the strongly typed build failed, so it is weakly typed: {built.what}")
        progress.say("no kernel for a layer as typed in the ONNX; building weakly typed instead")
    built = _attempt(job, last, progress)
    if isinstance(built, EdgedenseError):
        raise built
    return built


def preflight(trt: Any, target: Target) -> tuple[str, ...]:
    """Whether this machine can build for ``target``; returns notes for the report.

    Errors: MachineError where there is no GPU, or not the one that the target names.
    """
    if target.ahead_of_time:
        return ()
    version = str(trt.__version__)
    note = version_note(target, version)
    notes = (note,) if note else ()
    try:
        cuda = importlib.import_module("pycuda.driver")
    except ImportError as error:
        _builder(trt, *open_logger(trt))
        return (*notes, f"the GPU was not compared with the target: no pycuda ({error})")
    check_device(cuda, target)
    return notes


def check_device(cuda: Any, target: Target) -> None:
    """Raise MachineError where GPU 0 does not answer, or is not the target's."""
    try:
        cuda.init()
        device = cuda.Device(0)
    except cuda.Error as error:
        raise MachineError(f"no GPU answers ({error})", "See: edgedense doctor") from error
    major, minor = device.compute_capability()
    sm = major * 10 + minor
    if sm not in target.sms:
        raise MachineError(
            f"this GPU ({device.name()}) is SM {sm}, the target's is SM {target.sm}",
            "Run this on the device itself, or name this machine's target (edgedense targets).",
        )


def _attempt(job: Job, typing: str, progress: Progress) -> BuiltEngine | EdgedenseError:
    """One build. What the parser refuses is raised; what the builder refuses is returned."""
    trt, options = job.trt, job.options
    logger, journal = open_logger(trt)
    builder = _builder(trt, logger, journal)
    network = builder.create_network(_network_flags(trt, job.dialect, typing))
    _parse(job, network, logger, journal)
    if typing == "weak":
        _type_ends(trt, network, job.interface)
    config = builder.create_builder_config()
    _configure(job, config, typing)
    _add_profile(trt, builder, config, job.interface, options.batch)
    cache = _open_timing_cache(job, config)
    with stdout_kept_clean():
        plan = watch(
            trt,
            config,
            lambda: builder.build_serialized_network(network, config),
            progress,
            f"build for {job.target.name}",
        )
    if plan is None:
        return explain(reversed(journal.errors), f"no engine from {job.onnx_path.name}")
    data = bytes(plan)
    job.destination.write_bytes(data)
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, bytes(config.get_timing_cache().serialize()))
    inspected = None if job.dialect.ahead_of_time else _inspect(job, data, logger, journal)
    return BuiltEngine(
        file=job.destination,
        runtime_version=str(trt.__version__),
        weights_bytes=told_bytes(journal, "Total Weights Memory"),
        activation_bytes=inspected or told_bytes(journal, "Total Activation Memory"),
        layers=int(network.num_layers),
        strongly_typed=typing == "strong",
        warnings=(*job.notes, *journal.unique_warnings()),
    )


def _builder(trt: Any, logger: Any, journal: Journal) -> Any:
    try:
        return trt.Builder(logger)
    except TypeError as error:  # pybind11's answer to a null builder: CUDA did not start
        raise explain(journal.errors, "TensorRT's builder does not start") from error


def _network_flags(trt: Any, dialect: Dialect, typing: str) -> int:
    if dialect.network_flag is None or (typing == "weak" and dialect.half_scales):
        return 0
    return 1 << int(getattr(trt.NetworkDefinitionCreationFlag, dialect.network_flag))


def _parse(job: Job, network: Any, logger: Any, journal: Journal) -> None:
    parser = job.trt.OnnxParser(network, logger)
    if not parser.parse(job.onnx_path.read_bytes()):
        reason = _parser_error(parser) if parser.num_errors else "no reason given"
        raise InputError(
            f"{job.onnx_path.name}: TensorRT's parser refuses it: {reason}",
            "Quantize again with this edgedense; if it stays, this TensorRT is too old for it.",
        )
    for line in journal.warnings:
        if MISREAD in line:
            raise InputError(
                f"{job.onnx_path.name}: TensorRT would read its uint8 quantization as int8",
                "Quantize to int8 with zero point 0 (edgedense quantize does).",
            )


def _type_ends(trt: Any, network: Any, interface: Interface) -> None:
    """The ends in the types that were asked for; the FP32 file that 8.x reads has FP32 ones."""
    for end in (network.get_input(0), network.get_output(0)):
        end.dtype = data_type(trt, interface.dtype)


def _parser_error(parser: Any) -> str:
    """The first parser error in one line; node names are known from TensorRT 10 on."""
    error = parser.get_error(0)
    place = f"node {error.node()}"
    if hasattr(error, "node_name"):
        name, operator = error.node_name(), error.node_operator()
        place += f" ({' '.join(word for word in (operator, name) if word)})"
    return f"{place}: {' '.join(str(error.desc()).split())}"


def _configure(job: Job, config: Any, typing: str) -> None:
    trt, options = job.trt, job.options
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if typing == "weak":
        for name in weak_precisions(options):
            config.set_flag(getattr(trt.BuilderFlag, name.upper()))
    if job.dialect.ahead_of_time:
        config.num_compute_capabilities = len(job.target.sms)
        for index, sm in enumerate(job.target.sms):
            capability = getattr(trt.ComputeCapability, f"SM{sm}", None)
            if capability is None or not config.set_compute_capability(capability, index):
                raise MachineError(
                    f"tensorrt-rtx {trt.__version__} does not build for SM {sm}",
                    "Upgrade it: pip install -U tensorrt-rtx",
                )


def _add_profile(
    trt: Any, builder: Any, config: Any, interface: Interface, batch: tuple[int, int, int]
) -> None:
    profile = builder.create_optimization_profile()
    shapes = [trt.Dims((size, *interface.input_shape)) for size in batch]
    profile.set_shape(interface.input_name, *shapes)
    if config.add_optimization_profile(profile) < 0:
        raise InputError(
            f"TensorRT refuses batch {batch} for input {interface.input_name!r}",
            "The ONNX may have a fixed batch: quantize again with this edgedense.",
        )


def _open_timing_cache(job: Job, config: Any) -> Path | None:
    """Give the builder its timing cache; returns where to write it back, if anywhere."""
    path = job.options.timing_cache
    if path is None:
        return None
    if job.dialect.ahead_of_time:
        job.notes.append("TensorRT for RTX has no timing cache: --timing-cache was not used")
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise InputError(
            f"{path}: this timing cache is from another GPU or another TensorRT, or damaged",
            "Remove it, or name another with --timing-cache.",
        )
    return path


def _inspect(job: Job, plan: bytes, logger: Any, journal: Journal) -> int:
    """Open the new engine, write ``inspector.json``; returns its activation memory in bytes."""
    trt = job.trt
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise explain(reversed(journal.errors), "the new engine does not open on this machine")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    json.loads(text)
    (job.destination.parent / "inspector.json").write_text(text, encoding="utf-8")
    modern = hasattr(engine, "device_memory_size_v2")
    return int(engine.device_memory_size_v2 if modern else engine.device_memory_size)


def told_bytes(journal: Journal, label: str) -> int | None:
    """``label: N bytes`` in the builder's own summary; None where this version does not say it.

    The log is the only place that has these figures on a machine without a GPU.
    """
    for line in reversed(journal.news):
        if match := re.fullmatch(rf"\s*{re.escape(label)}: (\d+) bytes\s*", line):
            return int(match[1])
    return None
