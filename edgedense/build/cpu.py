"""The engine for ``cpu``: the ONNX file itself, loaded once by ONNX Runtime to see that it runs.

For INT8 that is the file of integer operators, which the stage ``quantize`` wrote beside the Q/DQ
files and compared with the simulation.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgedense.build.golden import Golden, golden_sqnr, golden_warnings
from edgedense.build.options import BuiltEngine
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.runner import Interface
from edgedense.environment import installed, version


def build_cpu(
    onnx: Path,
    destination: Path,
    precision: str,
    interface: Interface,
    golden: Golden | None = None,
) -> BuiltEngine:
    """Copy ``onnx`` to ``destination``, and run it on the ``golden`` images.

    Errors: InputError where ONNX Runtime cannot load it, or where it computes NaN.
    """
    shutil.copyfile(onnx, destination)
    runner = OnnxRunner(destination, interface)
    found = None if golden is None else golden_sqnr(runner, golden)
    runner.close()
    warnings = () if golden is None else golden_warnings(found, golden, precision)
    slow = "ONNX Runtime has no FP16 kernels for this CPU: it casts, and is slow"
    return BuiltEngine(
        file=destination,
        runtime_version=version("onnxruntime") or "",
        weights_bytes=_weights_bytes(destination),
        golden_sqnr_db=found,
        warnings=(*warnings, slow) if precision == "fp16" else warnings,
    )


def _weights_bytes(path: Path) -> int | None:
    if not installed("onnx"):
        return None
    import onnx

    arrays = onnx.load(path).graph.initializer
    return sum(len(array.raw_data) for array in arrays)
