"""The build stage: from a quantize artifact to an engine artifact."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import Artifact, Draft
from edgedense.board import l4t_release
from edgedense.build.advice import cannot_build_here, source_onnx, trtexec
from edgedense.build.device import Machine, preflight
from edgedense.build.golden import load_golden
from edgedense.build.options import BuildOptions, BuildReport, BuiltEngine
from edgedense.build.tensorrt import build_tensorrt
from edgedense.engines.opening import STAGE, recorded_interface
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt_api import dialect_of, load
from edgedense.environment import installed
from edgedense.errors import InputError, MachineError
from edgedense.progress import SILENT, Progress
from edgedense.targets import ONNXRUNTIME, TENSORRT, TENSORRT_RTX, Target

# payload of the source that travels on, where it is there
TRAVELLERS = (artifact.GOLDEN_FILE, artifact.CALIBRATION_FILE, artifact.REFERENCE_FILE)


@dataclass(frozen=True)
class Order:
    """One build as it was asked for, its options checked."""

    source: Artifact
    destination: Path
    options: BuildOptions
    target: Target
    progress: Progress

    @property
    def interface(self) -> Interface:
        """Input and output of the engine to be, in its batch range.

        The types are those of the file that the options mean, also where a TensorRT that does not
        take it builds from another.
        """
        plain = recorded_interface(self.source).of(self.options.onnx_name(self.target))
        return replace(plain, batch=self.options.batch)


def build_engine(
    source: Artifact, destination: Path, options: BuildOptions, progress: Progress = SILENT
) -> BuildReport:
    """Build an engine from a quantize artifact and write the engine artifact ``destination``.

    Errors: InputError for options or a graph that cannot be built; MachineError where this
    machine cannot do it, with the command for the one that can.
    """
    order = Order(source, destination, options, options.check(), progress)
    _check_source(source, options.onnx_name(order.target))
    with artifact.create(
        destination,
        STAGE,
        parents={"model": source.sha256},
        options=options.to_dict(),
        preprocess=source.manifest.preprocess,
    ) as draft:
        report = _build(order, draft)
        artifact.copy_files(source, [name for name in TRAVELLERS if source.has(name)], draft)
        draft.interface = order.interface.to_dict()
        draft.model = dict(source.manifest.model)
        draft.report = report.to_dict()
    return report


def _check_source(source: Artifact, needed: str) -> None:
    stage = source.manifest.stage
    if stage != "quantize":
        raise InputError(
            f"{source.path} is a {stage} artifact, but an engine is built from a quantize artifact",
            "Make one first: edgedense quantize MODEL -o DIR --calib SET",
        )
    if not source.has(needed):
        held = ", ".join(name for name in source.manifest.files if name.endswith(".onnx"))
        raise InputError(
            f"{source.path} holds no {needed}, only {held or 'no ONNX at all'}",
            "Quantize again, or choose another --precision or --rest.",
        )


def _build(order: Order, draft: Draft) -> BuildReport:
    options, target = order.options, order.target
    started = time.perf_counter()
    machine = Machine()
    if target.backend == ONNXRUNTIME:
        onnx_name, built = _build_cpu(order, draft)
    else:
        trt, machine = _start(order)
        onnx_name, built = _build_gpu(order, draft, trt, machine)
    return BuildReport(
        engine=str(order.destination / built.file.name),
        backend=target.backend,
        target=target.name,
        precision=options.precision,
        engine_bytes=built.file.stat().st_size,
        weights_bytes=built.weights_bytes,
        activation_bytes=built.activation_bytes,
        seconds=time.perf_counter() - started,
        artifact=str(order.destination),
        onnx=onnx_name,
        batch=options.batch,
        sms=target.sms,
        runtime_version=built.runtime_version,
        layers=built.layers,
        strongly_typed=built.strongly_typed,
        warnings=built.warnings,
        trtexec=_trtexec(order, built),
        golden_sqnr_db=built.golden_sqnr_db,
        tensorrt=None if target.backend == ONNXRUNTIME else built.runtime_version,
        sm=machine.gpu.sm if machine.gpu and target.backend == TENSORRT else None,
        gpu=machine.gpu.name if machine.gpu and target.backend == TENSORRT else None,
        l4t=l4t_release(),
    )


def _build_cpu(order: Order, draft: Draft) -> tuple[str, BuiltEngine]:
    from edgedense.build.cpu import build_cpu

    onnx_name = order.options.onnx_name(order.target)
    return onnx_name, build_cpu(
        order.source.file(onnx_name),
        draft.path / "model.onnx",
        order.options.precision,
        order.interface,
        load_golden(order.source, order.interface),
    )


def _build_gpu(order: Order, draft: Draft, trt: Any, machine: Machine) -> tuple[str, BuiltEngine]:
    """The payload that was built from, and what came of it."""
    half_scales = dialect_of(trt).half_scales
    onnx_name = source_onnx(order.options, order.target, half_scales=half_scales)
    _check_source(order.source, onnx_name)
    return onnx_name, build_tensorrt(
        trt,
        order.source.file(onnx_name),
        draft.path / "model.engine",
        interface=order.interface,
        options=order.options,
        target=order.target,
        machine=machine,
        golden=load_golden(order.source, order.interface),
        progress=order.progress,
    )


def _start(order: Order) -> tuple[Any, Machine]:
    """The TensorRT module, and the machine. Errors: MachineError, with the ways out if it must."""
    if order.target.backend == TENSORRT and not installed("tensorrt"):
        raise _go_elsewhere(order, "this machine has no tensorrt")
    try:
        trt = load(order.target.module)
        return trt, preflight(trt, order.target)
    except MachineError as error:
        if order.target.backend == TENSORRT_RTX:
            raise
        raise _go_elsewhere(order, error.what) from error


def _go_elsewhere(order: Order, why: str) -> MachineError:
    return cannot_build_here(
        why,
        order.source.path,
        order.destination,
        options=order.options,
        target=order.target,
        interface=order.interface,
    )


def _trtexec(order: Order, built: BuiltEngine) -> str | None:
    """The equivalent trtexec line; None where trtexec is not that runtime's tool."""
    if order.target.backend != TENSORRT:
        return None
    return trtexec(
        str(order.source.path),
        "model.engine",
        order.options,
        order.target,
        version=built.runtime_version,
        interface=order.interface,
        strongly_typed=built.strongly_typed is not False,
    )
