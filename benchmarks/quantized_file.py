"""What a quantized ONNX file is worth: numbers, INT8 share, lint, TensorRT-RTX, time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from side_by_side import alone

from edgedense.build import BuildOptions
from edgedense.build.tensorrt import build_tensorrt
from edgedense.data import ImageSet, Preprocess, batches
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.reference import RecordedReference
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt_api import load as load_tensorrt
from edgedense.errors import EdgedenseError
from edgedense.lint import LintReport, lint
from edgedense.lint.file import CONVOLUTIONS
from edgedense.lint.read import read_file
from edgedense.stats import agreeing, logit_sqnr_db, top_k
from edgedense.targets import find_target


def judged(path: Path, interface: Interface, reference: RecordedReference, images: ImageSet,
           preprocess: Preprocess) -> dict[str, Any]:  # fmt: skip
    """All that a row says of its file but the time; top-1 where the labels mean something."""
    runner = OnnxRunner(path, interface)
    logits = np.concatenate([runner(batch.images) for batch in batches(images, preprocess, 32)])
    runner.close()
    found = lint(path)
    return {
        "sqnr_db": logit_sqnr_db(reference.logits, logits),
        "top1": 100 * float(top_k(logits, reference.labels, 1).mean()),
        "agreement": 100 * float(agreeing(logits, reference.logits).mean()),
        "file_bytes": path.stat().st_size,
        "lint_errors": found.count("error"),
        "lint_warnings": found.count("warning"),
        "lint_rules": counts(found),
        **int8_share(path),
        **alone(built, path, interface),
    }


def counts(found: LintReport) -> dict[str, int]:
    """Findings by rule and severity."""
    groups = found.groups()
    return {f"{g.first.rule} {g.first.severity}": len(g.findings) for g in groups}


def int8_share(path: Path) -> dict[str, Any]:
    """How much of the network's convolutions and products has Q/DQ on data and weights."""
    file = read_file(path)
    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    macs, int8, float_ops = 0, 0, []
    for op in file.weighted:
        weight = file.stored(op.input(1))
        if weight is None:
            raise ValueError(f"{path}: the weights of {op.name} are computed")
        pixels = int(np.prod(shapes[op.output][2:])) if op.kind in CONVOLUTIONS else 1
        macs += weight.size * pixels
        if file.is_int8(op):
            int8 += weight.size * pixels
        else:
            float_ops.append(op.name or op.output)
    convolutions = [op for op in file.weighted if op.kind in CONVOLUTIONS]
    return {
        "convolutions": len(convolutions),
        "int8_convolutions": sum(file.is_int8(op) for op in convolutions),
        "int8_macs_percent": 100 * int8 / macs,
        "in_float": float_ops,
    }


def built(path: Path, interface: Interface) -> dict[str, Any]:
    """Whether TensorRT-RTX builds the file for SM 8.6, and its activation bytes."""
    target = find_target("rtx-ampere")
    options = BuildOptions(target.name, rest="fp32")  # batch 1:1:8; types are those in the file
    plan = path.with_suffix(".engine")
    try:
        engine = build_tensorrt(
            load_tensorrt(target.module), path, plan,
            interface=interface, options=options, target=target,
        )  # fmt: skip
    except EdgedenseError as error:
        return {"built": f"no: {error.what.partition(': ')[2] or error.what}"}
    finally:
        plan.unlink(missing_ok=True)
    return {"built": "yes", "activation_bytes": engine.activation_bytes}


def latencies(paths: Mapping[str, Path], interface: Interface, image: NDArray[np.float32],
              rounds: int) -> dict[str, float]:  # fmt: skip
    """Median milliseconds of one image on the CPU, all files in turns, in random order."""
    runners = {name: OnnxRunner(path, interface) for name, path in paths.items()}
    order = np.random.default_rng(0)
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds + 3):
        for name in order.permutation(list(paths)):
            started = time.perf_counter()
            runners[name](image)
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(times[3:])) for name, times in taken.items()}
