"""From a hand-made graph to an engine that runs here, by the builders of the stage ``build``."""

from __future__ import annotations

from pathlib import Path

from edgedense.build import BuildOptions
from edgedense.build.device import preflight
from edgedense.build.tensorrt import build_tensorrt
from edgedense.engines.runner import Interface, Runner
from edgedense.engines.tensorrt_api import load
from edgedense.environment import has_gpu, require, version
from edgedense.errors import MachineError
from edgedense.graph.nodes import Graph
from edgedense.latency import Precision
from edgedense.targets import ONNXRUNTIME, Target

_ONE = (1, 1, 1)


def check_machine(target: Target) -> None:
    """Raise MachineError where engines for ``target`` cannot be made and run here."""
    require("onnx", "profile-target")
    if target.backend == ONNXRUNTIME:
        require("onnxruntime", "profile-target")
        return
    if not has_gpu():
        raise MachineError(
            f"{target.name} can only be measured on that device, and there is no GPU here",
            f"Run this there: edgedense profile-target --target {target.name} -o TABLE.json",
        )
    preflight(load(target.module), target)


def precisions(target: Target) -> tuple[Precision, ...]:
    """What is measured on ``target``: its floating-point type, and INT8 where it has it."""
    floating: Precision = "fp32" if target.backend == ONNXRUNTIME else "fp16"
    return (floating, "int8") if target.int8 else (floating,)


def runtime_of(target: Target) -> str:
    """Name and version of what runs engines for ``target`` here."""
    return f"{target.module} {version(target.module) or 'of unknown version'}"


def built(graph: Graph, precision: Precision, target: Target, folder: Path) -> Runner:
    """A runner of ``graph``, its files in ``folder``. Errors: those of the builders."""
    interface = Interface(graph.input, graph.input_shape, graph.output, graph.output_shape, _ONE)
    source = export(graph, precision, target, folder / "chain.onnx")
    if target.backend == ONNXRUNTIME:
        from edgedense.build.cpu import build_cpu
        from edgedense.engines.onnxruntime import OnnxRunner

        engine = folder / "model.onnx"
        build_cpu(source, engine, precision, interface)
        return OnnxRunner(engine, interface)
    from edgedense.engines.tensorrt import TensorRTRunner

    engine = folder / "model.engine"
    options = BuildOptions(target.name, precision, _ONE)
    trt = load(target.module)
    build_tensorrt(trt, source, engine, interface=interface, options=options, target=target)
    return TensorRTRunner(engine, interface, target.module)


def export(graph: Graph, precision: Precision, target: Target, path: Path) -> Path:
    """Write ``graph`` as the ONNX that engines for ``target`` are built from."""
    from edgedense.graph.export import export_onnx
    from edgedense.graph.export_integer import export_integer

    if target.backend != ONNXRUNTIME:
        export_onnx(graph, path, "fp16", {})
    elif precision == "int8":
        export_integer(graph, path, {})
    else:
        export_onnx(graph, path, "fp32", {})
    return path
