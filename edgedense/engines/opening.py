"""Opening an engine artifact: its bytes are verified first, then the right runtime loads them."""

from __future__ import annotations

from edgedense.artifact import Artifact
from edgedense.engines.runner import Interface, Runner
from edgedense.environment import has_gpu, require
from edgedense.errors import InputError, MachineError

STAGE = "build-engine"


def open_engine(artifact: Artifact, *, graphs: bool = True) -> Runner:
    """A runner for an engine artifact; ``graphs`` allows CUDA graphs.

    Errors: InputError where this is no engine or its bytes were changed (an engine is executable
    code); MachineError where its runtime or its GPU is missing, or not the one that it was
    built for.
    """
    if artifact.manifest.stage != STAGE:
        raise InputError(
            f"{artifact.path} is a {artifact.manifest.stage} artifact, not an engine",
            "Build one: edgedense build-engine DIR -o ENGINE --target cpu",
        )
    backend = artifact.fact("report", "backend")
    interface = recorded_interface(artifact)
    if backend == "onnxruntime":
        data = artifact.data("model.onnx")
        require("onnxruntime", "running this engine")
        from edgedense.engines.onnxruntime import OnnxRunner

        return OnnxRunner(artifact.path / "model.onnx", interface, data=data)
    if not has_gpu():
        raise _needs_gpu(artifact)
    from edgedense.engines.fit import Built
    from edgedense.engines.tensorrt import TensorRTRunner

    module = "tensorrt_rtx" if backend == "tensorrt-rtx" else "tensorrt"
    built = Built.from_report(artifact.manifest.report, artifact.path)
    plan = artifact.data("model.engine")
    path = artifact.path / "model.engine"
    return TensorRTRunner(path, interface, module, plan, built=built, graphs=graphs)


def recorded_interface(artifact: Artifact) -> Interface:
    """Input and output that an artifact records. Errors: InputError where they are incomplete."""
    try:
        return Interface.from_dict(artifact.manifest.interface)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{artifact.path}: the manifest's interface is damaged ({error})",
            "Make the artifact again.",
        ) from error


def _needs_gpu(artifact: Artifact) -> MachineError:
    target = artifact.fact("report", "target")
    return MachineError(
        f"{artifact.path}: an engine for {target} needs that GPU, and there is none here",
        "Copy the directory to the machine that has it; benchmark and validate it there.",
    )
