"""The one builder for classic TensorRT (on the device) and TensorRT for RTX (ahead of time)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgedense.artifact import write_whole
from edgedense.build.advice import weak_precisions
from edgedense.build.device import Machine, start_builder
from edgedense.build.golden import Golden
from edgedense.build.options import BuildOptions, BuiltEngine
from edgedense.build.tryout import inspect, try_out
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
    machine: Machine
    golden: Golden | None
    notes: list[str] = field(default_factory=list)


def build_tensorrt(
    trt: Any,
    onnx_path: Path,
    destination: Path,
    *,
    interface: Interface,
    options: BuildOptions,
    target: Target,
    machine: Machine | None = None,
    golden: Golden | None = None,
    progress: Progress = SILENT,
) -> BuiltEngine:
    """Build ``onnx_path`` and write the serialized plan to ``destination``.

    ``trt`` is the imported module; the notes of ``machine`` go in front of TensorRT's own warnings.
    Where the engine can be opened on this machine, ``inspector.json`` and ``profile.json`` go
    beside it, and it is run on the ``golden`` images. Errors: InputError where the parser or
    builder refuses the graph; MachineError where the machine is too small.
    """
    machine = machine or Machine()
    job = Job(
        trt=trt,
        dialect=dialect_of(trt),
        onnx_path=onnx_path,
        destination=destination,
        interface=interface,
        options=options,
        target=target,
        machine=machine,
        golden=golden,
        notes=list(machine.notes),
    )
    # the builder's memory is free again by now
    return _tried(job, _built(job, progress), progress)


def _built(job: Job, progress: Progress) -> BuiltEngine:
    """The engine by the best typing that goes."""
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


def _tried(job: Job, built: BuiltEngine, progress: Progress) -> BuiltEngine:
    """What opening and running the new engine tells of it, where this machine can do that."""
    gpu = job.machine.gpu
    if job.dialect.ahead_of_time and (gpu is None or gpu.sm not in job.target.sms):
        return built
    opened = inspect(job.trt, job.dialect, job.destination, job.interface)
    built = replace(
        built,
        activation_bytes=opened.activation_bytes or built.activation_bytes,
        warnings=(*built.warnings, *opened.warnings),
    )
    if gpu is None:  # no CUDA from Python
        return built
    name, precision = job.trt.__name__, job.options.precision
    trial = try_out(name, job.destination, job.interface, precision, job.golden, progress)
    return replace(
        built,
        golden_sqnr_db=trial.golden_sqnr_db,
        warnings=(*built.warnings, *trial.warnings),
    )


def _attempt(job: Job, typing: str, progress: Progress) -> BuiltEngine | EdgedenseError:
    """One build. What the parser refuses is raised; what the builder refuses is returned."""
    trt, options = job.trt, job.options
    logger, journal = open_logger(trt)
    builder = start_builder(trt, logger, journal)
    network = builder.create_network(_network_flags(trt, job.dialect.typings[typing]))
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
            job.dialect,
            config,
            lambda: builder.build_serialized_network(network, config),
            progress,
            f"build for {job.target.name}",
        )
    if plan is None:
        return explain(reversed(journal.errors), f"no engine from {job.onnx_path.name}")
    job.destination.write_bytes(bytes(plan))
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cache, bytes(config.get_timing_cache().serialize()))
    return BuiltEngine(
        file=job.destination,
        runtime_version=str(trt.__version__),
        weights_bytes=told_bytes(journal, "Total Weights Memory"),
        activation_bytes=told_bytes(journal, "Total Activation Memory"),
        layers=int(network.num_layers),
        strongly_typed=typing == "strong",
        warnings=(*job.notes, *journal.unique_warnings()),
    )


def _network_flags(trt: Any, flag: str | None) -> int:
    return 0 if flag is None else 1 << int(getattr(trt.NetworkDefinitionCreationFlag, flag))


def _parse(job: Job, network: Any, logger: Any, journal: Journal) -> None:
    parser = job.trt.OnnxParser(network, logger)
    if not parser.parse(job.onnx_path.read_bytes()):
        reason = _parser_error(parser, job.dialect) if parser.num_errors else "no reason given"
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


def _parser_error(parser: Any, dialect: Dialect) -> str:
    """The first parser error in one line."""
    error = parser.get_error(0)
    place = f"node {error.node()}"
    if dialect.node_names:
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
        _name_capabilities(trt, config, job.target.sms)


def _name_capabilities(trt: Any, config: Any, sms: tuple[int, ...]) -> None:
    """The GPUs that one engine is to serve; any release may bring new ones, so the enum is asked"""
    known = trt.ComputeCapability.__members__
    config.num_compute_capabilities = len(sms)
    for index, sm in enumerate(sms):
        name = f"SM{sm}"
        if name not in known or not config.set_compute_capability(known[name], index):
            raise MachineError(
                f"tensorrt-rtx {trt.__version__} does not build for SM {sm}",
                "Upgrade it: pip install -U tensorrt-rtx-cu12",
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


def told_bytes(journal: Journal, label: str) -> int | None:
    """``label: N bytes`` in the builder's own summary; None where this version does not say it.

    The log is the only place that has these figures on a machine without a GPU.
    """
    for line in reversed(journal.news):
        if match := re.fullmatch(rf"\s*{re.escape(label)}: (\d+) bytes\s*", line):
            return int(match[1])
    return None
