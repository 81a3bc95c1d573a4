"""Test cases of the lint: what other tools write for DenseNet-121, without its weights.

A skeleton keeps every node, name, type, shape, zero-point and scale of a tensor. Weights, biases
and affines become zeros, the scales of one weight their largest, and shapes that can be inferred
are dropped, so that xz brings it to some kilobytes. The lint must find the same in both.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from quantization_cases import Given
from quantized_file import int8_share
from side_by_side import alone, slug

from edgedense.engines.tensorrt_api import load as load_tensorrt
from edgedense.lint import LintReport, lint
from edgedense.targets import find_target

TOOLS = (
    "ModelOpt entropy, defaults",
    "ModelOpt max, defaults",
    "ModelOpt entropy",
    "ONNX Runtime, defaults",
    "ONNX Runtime, defaults made symmetric",
    "ONNX Runtime percentile",
    "ONNX Runtime percentile, outputs too",
    "NNCF",
)
PLACES = 4  # examples of each finding
SMALL = 16  # elements that are kept whatever they are: shapes, axes, limits


def record(given: Given, folder: Path) -> None:
    """Write a skeleton, and what was found in the whole file, of each of ``TOOLS``."""
    from quantization import quantized

    folder.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        row = quantized(tool, given)
        if "failed" in row:
            raise click.ClickException(f"{tool}: {row['failed']}")
        whole, found = Path(row["path"]), lint(Path(row["path"]))
        reduced = whole.with_suffix(".skeleton.onnx")
        onnx.save(skeleton(onnx.load(whole)), reduced)
        if lint(reduced).findings != found.findings:
            raise click.ClickException(f"{tool}: the lint finds something else in the skeleton")
        share = int8_share(whole)
        facts = {
            "tool": tool,
            "version": row["version"],
            **{key: share[key] for key in ("convolutions", "int8_convolutions", "in_float")},
            **summary(found),
            **alone(accepted, whole),
        }
        packed = lzma.compress(reduced.read_bytes(), preset=9)
        (folder / f"{slug(tool)}.onnx.xz").write_bytes(packed)
        (folder / f"{slug(tool)}.json").write_text(json.dumps(facts, indent=1) + "\n")
        click.echo(f"{tool}: {len(packed) / 1e3:.0f} kB, {found.count('error')} errors", err=True)


def summary(found: LintReport) -> dict[str, Any]:
    """What is compared: numbers, and of each kind of finding how many and the first places."""
    return {
        "opset": found.opset,
        "operators": found.operators,
        "int8_operators": found.int8_operators,
        "findings": [
            {
                "rule": group.first.rule,
                "severity": group.first.severity,
                "count": len(group.findings),
                "places": [[f.place, f.detail] for f in group.findings[:PLACES]],
            }
            for group in found.groups()
        ],
    }


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` without its numbers, in place."""
    del model.graph.value_info[:]
    numbers = {
        name
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    for tensor in _tensors(model):
        values = numpy_helper.to_array(tensor)
        if values.size <= SMALL or (tensor.name in numbers and not values.any()):
            continue
        known = tensor.name in numbers and (values > 0).all() and np.isfinite(values).all()
        flat = np.full_like(values, values.max() if known else 0)
        tensor.CopyFrom(numpy_helper.from_array(flat, tensor.name))
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value")


def accepted(path: Path) -> dict[str, Any]:
    """Whether TensorRT-RTX parses and builds the file as it is, and what it says of it."""
    target = find_target("rtx-ampere")
    trt = load_tensorrt(target.module)
    told: list[tuple[str, str]] = []

    class Journal(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            told.append((severity.name, " ".join(message.split())))

    journal = Journal()
    builder = trt.Builder(journal)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, journal)
    plan = None
    if parser.parse(path.read_bytes()):
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        profile = builder.create_optimization_profile()
        for at in range(network.num_inputs):
            value = network.get_input(at)
            fixed = tuple(value.shape)[1:]
            profile.set_shape(value.name, (1, *fixed), (1, *fixed), (8, *fixed))
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
    errors = [message for severity, message in told if severity in ("ERROR", "INTERNAL_ERROR")]
    misread = sum("Defaulting to INT8" in message for _, message in told)
    return {
        "tensorrt_rtx": str(trt.__version__),
        "tensorrt_rtx_accepts": plan is not None,
        "tensorrt_rtx_says": [message[:300] for message in errors[:1]],
        "tensorrt_rtx_reads_uint8_as_int8": misread,
    }
