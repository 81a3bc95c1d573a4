"""Small ONNX models that keep every rule, and edits that break one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedense.lint import Finding, lint
from edgedense.targets import find_target

Edit = Callable[[onnx.ModelProto], object]
FLOATS = {np.float32: TensorProto.FLOAT, np.float16: TensorProto.FLOAT16}


class Builder:
    """Collects nodes and constants; every node is called as its output."""

    def __init__(self, rest: Any = np.float32) -> None:
        self.rest = rest
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def pair(self, value: str, scale: float = 0.05) -> str:
        s = self.constant(f"{value}.scale", self.rest(scale))
        z = self.constant(f"{value}.zero", np.int8(0))
        self.op("QuantizeLinear", [value, s, z], f"{value}.q")
        return self.op("DequantizeLinear", [f"{value}.q", s, z], f"{value}.dq")

    def conv(self, value: str, inputs: int, outputs: int, name: str, kind: str = "Conv") -> str:
        shape = (outputs, inputs, 3, 3) if kind == "Conv" else (inputs, outputs, 3, 3)
        w = self.constant(f"{name}.w8", np.ones(shape, np.int8))
        s = self.constant(f"{name}.ws", np.full(outputs, 0.01, self.rest))
        z = self.constant(f"{name}.wz", np.zeros(outputs, np.int8))
        axis = 0 if kind == "Conv" else 1
        weight = self.op("DequantizeLinear", [w, s, z], f"{name}.w", axis=axis)
        bias = self.constant(f"{name}.b", np.zeros(outputs, self.rest))
        return self.op(kind, [value, weight, bias], name, pads=[1] * 4)

    def norm(self, value: str, channels: int, name: str) -> str:
        facts = [
            self.constant(f"{name}.{i}", np.full(channels, number, self.rest))
            for i, number in enumerate((1, 0.1, 0, 1))
        ]
        return self.op("BatchNormalization", [value, *facts], name)

    def model(self, output: str, channels: int = 32, opset: int | None = None) -> onnx.ModelProto:
        kind = FLOATS[self.rest]
        ends = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in (("x", ["n", channels, 8, 8]), (output, None))
        ]
        body = helper.make_graph(self.nodes, "g", ends[:1], ends[1:], self.constants)
        version = opset or (17 if self.rest is np.float32 else 19)
        return helper.make_model(
            body, opset_imports=[helper.make_opsetid("", version)], ir_version=9
        )


def dense(rest: Any = np.float32, opset: int | None = None) -> onnx.ModelProto:
    """Two layers and a concat, as ``conv`` places the pairs; it keeps every rule."""
    b = Builder(rest)
    first = b.conv(b.pair("x"), 32, 32, "first")
    relu = b.op("Relu", [b.norm(first, 32, "bn1")], "relu1")
    second = b.conv(b.pair(relu), 32, 32, "second")
    joined = b.op("Concat", [first, second], "concat", axis=1)
    relu = b.op("Relu", [b.norm(joined, 64, "bn2")], "relu2")
    return b.model(b.conv(b.pair(relu), 64, 32, "last"), opset=opset)


def block(chained: bool = False, outer: float = 0.05) -> onnx.ModelProto:
    """Three values joined as ``block`` places the pairs: one scale; ``outer`` is the last's."""
    b = Builder()
    parts = [b.pair(b.conv(b.pair("x"), 32, 32, "conv0"))]
    joined = parts[0]
    for i in (1, 2):
        relu = b.op("Relu", [b.norm(joined, 32 * i, f"bn{i}")], f"relu{i}")
        made = b.conv(b.pair(relu, 0.02), 32 * i, 32, f"conv{i}")
        parts.append(b.pair(made, outer if i == 2 else 0.05))
        inputs = [joined, parts[-1]] if chained else list(parts)
        joined = b.op("Concat", inputs, f"concat{i}", axis=1)
    relu = b.op("Relu", [b.norm(joined, 96, "bn")], "relu")
    return b.model(b.conv(b.pair(relu, 0.03), 96, 32, "last"))


def cloned(chained: bool = False, scales: tuple[float, float] = (0.05, 0.07)) -> onnx.ModelProto:
    """Each concat's output has a pair of its own, its inputs have none."""
    b = Builder()
    parts = [b.conv(b.pair("x"), 32, 32, "conv0")]
    joined = parts[0]
    for i, scale in enumerate(scales, 1):
        relu = b.op(
            "Relu", [b.norm(b.op("Identity", [joined], f"i{i}"), 32 * i, f"bn{i}")], f"relu{i}"
        )
        parts.append(b.conv(b.pair(relu), 32 * i, 32, f"conv{i}"))
        raw = f"concat{i - 1}" if chained and i > 1 else parts[0]
        inputs = [raw, parts[-1]] if chained else list(parts)
        joined = b.pair(b.op("Concat", inputs, f"concat{i}", axis=1), scale)
    relu = b.op("Relu", [b.norm(joined, 96, "bn")], "relu")
    return b.model(b.conv(b.pair(relu), 96, 32, "last"))


def found_in(model: onnx.ModelProto, path: Path, target: str | None = None) -> tuple[Finding, ...]:
    onnx.save(model, path)
    return lint(path, find_target(target) if target else None).findings


def places(findings: tuple[Finding, ...], rule: str) -> list[str]:
    return [finding.node for finding in findings if finding.rule == rule]


def node(model: onnx.ModelProto, name: str) -> Any:
    return next(n for n in model.graph.node if n.name == name)


def put(name: str, value: Any) -> Edit:
    """Replace a constant."""

    def edit(model: onnx.ModelProto) -> None:
        for entry in model.graph.initializer:
            if entry.name == name:
                entry.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
                return
        raise KeyError(name)

    return edit


def add(name: str, value: Any) -> Edit:
    """Add a constant."""
    return lambda m: m.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def wire(name: str, position: int, value: str) -> Edit:
    """Let a node read something else."""
    return lambda m: node(m, name).input.__setitem__(position, value)


def insert(before: str, *nodes: Any) -> Edit:
    """Put nodes in front of the one called ``before``."""

    def edit(model: onnx.ModelProto) -> None:
        rest = list(model.graph.node)
        at = next(i for i, n in enumerate(rest) if n.name == before)
        del model.graph.node[:]
        model.graph.node.extend([*rest[:at], *nodes, *rest[at:]])

    return edit


def pair_of(value: str, scale: str, zero: str) -> list[Any]:
    """A pair behind ``value`` that shares constants; its output is ``value.extra``."""
    codes, out = f"{value}.eq", f"{value}.extra"
    return [
        helper.make_node("QuantizeLinear", [value, scale, zero], [codes], name=codes),
        helper.make_node("DequantizeLinear", [codes, scale, zero], [out], name=out),
    ]


def all_of(*edits: Edit) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        for one in edits:
            one(model)

    return edit


def parsed(model: onnx.ModelProto) -> bool:
    """Whether the parser of TensorRT-RTX takes it."""
    import tensorrt_rtx as trt

    class Quiet(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            pass

    builder = trt.Builder(Quiet())
    network = builder.create_network(0)
    return bool(trt.OnnxParser(network, Quiet()).parse(model.SerializeToString()))
