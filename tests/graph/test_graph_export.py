from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Floats, images, logits, relative_error, sizes, specs, tiny, tiramisus, trained
from onnx import helper, numpy_helper
from onnx_rules import File

from edgedense import artifact
from edgedense.densenet.family import Spec
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.runner import Interface
from edgedense.environment import installed
from edgedense.errors import InputError
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower
from edgedense.graph.nodes import (
    Affine,
    Conv,
    GlobalPool,
    Graph,
    Linear,
    Node,
    Quantize,
    Weighted,
    out_axis,
)
from edgedense.graph.run import GraphRunner
from edgedense.graph.weights import quantized_weight

SIZE = (16, 16)


def quantized(graph: Graph, x: Floats) -> Graph:
    """Q/DQ before every convolution and the classifier, with scales from running on ``x``."""
    peak: dict[str, float] = {}
    GraphRunner(graph)(x, lambda name, value: peak.setdefault(name, float(value.abs().max())))
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted):
            pair = f"{node.name}.in"
            scale = float(np.float16(max(peak[node.input], 0.1) / 120))
            nodes.append(Quantize(pair, node.input, scale))
            by_output = np.moveaxis(node.weight, out_axis(node), 0)
            rows = np.abs(by_output).reshape(len(by_output), -1).max(axis=1)
            weight_scale = np.float16(np.maximum(rows, 1e-3) / 126).astype(np.float32)
            node = replace(node, input=pair, weight_scale=weight_scale)  # noqa: PLW2901
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def small(spec: Spec | None = None) -> tuple[Graph, Graph]:
    spec = spec or tiny()
    graph = lower(trained(spec), SIZE)
    return graph, quantized(graph, images(spec, SIZE))


def run(path: Path, graph: Graph, x: Floats) -> Floats:
    interface = Interface(graph.input, graph.input_shape, graph.output, graph.output_shape)
    return OnnxRunner(path, interface, threads=1, exact=True)(x)


def sqnr_db(wanted: Floats, found: Floats) -> float:
    noise = np.square(wanted - found).sum()
    return float(10 * np.log10(np.square(wanted).sum() / max(noise, 1e-30)))


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_fp32_onnx_computes_what_the_network_does(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    network = trained(spec, data.draw(st.integers(0, 99)))
    path = tmp_path_factory.getbasetemp() / "fp32.onnx"
    graph = lower(network, size)
    export_onnx(graph, path, "fp32", {})
    for count in (1, 3):  # the batch axis is free
        x = images(spec, size, count)
        assert relative_error(logits(network, x), run(path, graph, x)) < 1e-4
    assert File(onnx.load(path), "fp32").complaints() == []


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_int8_onnx_computes_what_the_simulation_does(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    x = images(spec, size)
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    placed = quantized(graph, x)
    simulated = GraphRunner(placed)(x)
    noise_db = sqnr_db(GraphRunner(graph)(x), simulated)
    for rest, floor_db in (("fp32", min(noise_db + 6, 60)), ("fp16", min(noise_db - 6, 30))):
        path = tmp_path_factory.getbasetemp() / f"int8.{rest}.onnx"
        export_onnx(placed, path, rest, {})
        assert sqnr_db(simulated, run(path, placed, x)) > floor_db
        file = File(onnx.load(path), rest)
        assert file.complaints() == []
        assert len(file.quantized()) == len(list(graph.weighted()))


def test_int8_layers_agree_to_the_last_bit_where_sums_are_exact(tmp_path: Path) -> None:
    """Powers of two for scales: float32 sums of integers are exact, so no code may flip."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (5, 3, 3, 3)).astype(np.float32)
    conv = Conv("c", "q", weight, np.arange(5, dtype=np.float32), 1, 1, np.ones(5, np.float32))
    head = Linear("y", "p2", np.eye(5, dtype=np.float32)[:4], np.zeros(4, np.float32))
    from edgedense.graph.nodes import GlobalPool, Relu

    nodes = (
        Quantize("q", "x", 0.25),
        conv,
        Relu("r", "c"),
        Quantize("p", "r", 16.0),
        GlobalPool("p2", "p"),
        head,
    )
    graph = Graph("x", (3, 4, 4), nodes)
    x = rng.normal(scale=20, size=(2, 3, 4, 4)).astype(np.float32)
    x[0, 0] = (np.arange(16).reshape(4, 4) - 8.5) / 4  # ties
    export_onnx(graph, tmp_path / "q.onnx", "fp32", {})
    np.testing.assert_array_equal(run(tmp_path / "q.onnx", graph, x), GraphRunner(graph)(x))


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "spec",
    [
        tiny(),
        tiny((1, 2, 1), 3, bottleneck=False, pool="max", in_channels=1),
        tiny((2, 1), stem="imagenet"),
        tiny((1,), 1, num_classes=1),
    ],
)
def test_files_keep_every_rule(spec: Spec, rest: str, tmp_path: Path) -> None:
    for graph in small(spec):
        export_onnx(graph, tmp_path / "x.onnx", rest, {})
        assert File(onnx.load(tmp_path / "x.onnx"), rest).complaints() == []


def test_ends_have_the_names_and_shapes_of_the_interface(tmp_path: Path) -> None:
    for rest in ("fp32", "fp16"):
        export_onnx(small()[1], tmp_path / "x.onnx", rest, {"edgedense.preprocess": "{}"})
        model = onnx.load(tmp_path / "x.onnx")
        ends = {}
        for value in (*model.graph.input, *model.graph.output):
            axes = value.type.tensor_type.shape.dim
            ends[value.name] = [axis.dim_param or axis.dim_value for axis in axes]
        assert ends == {"images": ["batch", 3, *SIZE], "logits": ["batch", 3]}
        assert {p.key: p.value for p in model.metadata_props} == {"edgedense.preprocess": "{}"}
        assert json.loads(model.metadata_props[0].value) == {}


def test_int8_weights_are_stored_as_int8_once(tmp_path: Path) -> None:
    graph, placed = small()
    export_onnx(placed, tmp_path / "x.onnx", "fp16", {})
    constants = File(onnx.load(tmp_path / "x.onnx"), "fp16").constants
    for node in placed.weighted():
        stored = constants[f"{node.name}.weight.int8"]
        np.testing.assert_array_equal(stored, quantized_weight(node))
        scale = constants[f"{node.name}.weight.scale"]
        np.testing.assert_array_equal(scale.astype(np.float32), node.weight_scale)
    shares = {n.name: n for n in graph.weighted()}
    assert not any(f"{name}.weight" in constants for name in shares)


def test_a_parameter_beyond_fp16_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    def grow(node: Node) -> Node:
        if isinstance(node, Affine) and node.name == "norm5":
            return replace(node, shift=node.shift + np.float32(70_000))
        return node

    graph = small()[0].map(grow)
    with pytest.raises(InputError, match=r"norm5\.shift: 7e\+04 does not fit into FP16") as caught:
        export_onnx(graph, tmp_path / "x.onnx", "fp16", {})
    assert "--rest fp32" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    export_onnx(graph, tmp_path / "x.onnx", "fp32", {})


# the checker itself: each line breaks one rule in a good file


def constant(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for i, entry in enumerate(model.graph.initializer):
        if entry.name == name:
            value = change(numpy_helper.to_array(entry))
            model.graph.initializer[i].CopyFrom(numpy_helper.from_array(np.asarray(value), name))
            return
    raise KeyError(name)


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


BREAKS: dict[str, Callable[[onnx.ModelProto], object]] = {
    "zero-point is not int8 0": lambda m: constant(m, "conv0.in.zero_point", lambda v: v + 1),
    "scale is not positive": lambda m: constant(m, "conv0.in.scale", lambda v: -v),
    "no explicit zero-point": lambda m: node(m, "conv0.in.q").input.pop(),
    "weight is not per output channel": lambda m: node(m, "conv0.weight").attribute.pop(),
    "differ in shape": lambda m: constant(m, "conv0.weight.scale", lambda v: v[:1]),
    "not finite": lambda m: constant(m, "conv0.bias", lambda v: v + np.inf),
    "concat of one value": lambda m: node(m, "denseblock1.concat").input.__delitem__(slice(1, 9)),
    "weight of -128": lambda m: constant(m, "conv0.weight.int8", lambda v: np.full_like(v, -128)),
    "opset": lambda m: setattr(m.opset_import[0], "version", 18),
    "nobody reads it": lambda m: m.graph.initializer.append(
        numpy_helper.from_array(np.ones(1, np.float32), "orphan")
    ),
    "not folded": lambda m: node(m, "norm5").input.__setitem__(
        0, "denseblock2.denselayer1.conv1"
    ),
    "LeakyRelu is not expected": lambda m: setattr(
        node(m, "norm5.relu"), "op_type", "LeakyRelu"
    ),
    "quantizes a BN": lambda m: node(m, "conv0.in.q").input.__setitem__(0, "norm5"),
    "read by Relu": lambda m: node(m, "norm5.relu").input.__setitem__(0, "conv0.in"),
    "type": lambda m: m.graph.node.append(
        helper.make_node("Cast", ["conv0"], ["odd"], name="odd", to=onnx.TensorProto.DOUBLE)
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", BREAKS)
def test_the_checker_sees_a_broken_rule(rule: str, tmp_path: Path) -> None:
    export_onnx(small()[1], tmp_path / "x.onnx", "fp32", {})
    model = onnx.load(tmp_path / "x.onnx")
    BREAKS[rule](model)
    if rule == "not folded":
        model.graph.node.remove(node(model, "denseblock2.denselayer1.conv1.relu"))
    file = File(model, "fp32")
    if rule in (
        "quantizes a BN",
        "read by Relu",
        "not folded",
        "differ in shape",
        "no explicit zero-point",
        "concat of one value",
    ):
        file.__dict__["types"] = {"images": 1, "logits": 1}  # shapes need not fit any more
    assert any(rule in complaint for complaint in file.complaints())


IMAGENET = tiny((2, 2), 8, stem="imagenet", stem_width=16)
KINDS: dict[str, Spec] = {
    "bc": tiny((2, 2), 8, stem_width=16),
    "deep-blur": replace(IMAGENET, stem="deep-blur", stem_hidden=(8, 8)),
    "same": replace(IMAGENET, padding="same"),
    "no-relu": replace(tiny((2, 2), 8), transition_relu=False),
    "tiramisu": FCDenseNetSpec.build([1, 2], 2, 8, num_classes=3, stem_width=16),
}


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("kind", ["bc", "deep-blur", "same", "no-relu", "tiramisu"])
def test_tensorrt_rtx_parses_and_builds_it_without_complaint(
    kind: str, precision: str, tmp_path: Path
) -> None:
    from edgedense.build import BuildOptions, build_engine

    graph, placed = small(KINDS[kind])
    with artifact.create(tmp_path / "q", "quantize", parents={}, options={}) as draft:
        for rest in ("fp32", "fp16"):
            export_onnx(graph, draft.path / f"{rest}.onnx", rest, {})
            export_onnx(placed, draft.path / f"int8.{rest}.onnx", rest, {})
        draft.interface = Interface("images", (3, *SIZE), "logits", graph.output_shape).to_dict()
    source = artifact.read(tmp_path / "q")
    report = build_engine(source, tmp_path / "engine", BuildOptions("rtx-ampere", precision))
    assert report.engine_bytes > 0
    # the builder's own remarks about scales come at any INT8 network, the parser's never
    assert all(line.startswith("(foreignNode)") for line in report.warnings), report.warnings
    if precision == "int8":
        wanted = sum(node.weight.size for node in placed.weighted())
        assert report.weights_bytes is not None
        half = build_engine(source, tmp_path / "e2", BuildOptions("rtx-ampere", "fp16"))
        assert half.weights_bytes is not None
        assert report.weights_bytes < half.weights_bytes < 4 * wanted


@settings(deadline=None, max_examples=30)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    height=st.integers(5, 9),
    border=st.floats(-2, 2, width=32),
)
def test_what_a_convolution_pads_with_is_a_map_behind_it(
    kernel: int,
    stride: int,
    padding: int,
    height: int,
    border: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rng = np.random.default_rng(kernel)
    weight = rng.normal(size=(4, 2, kernel, kernel)).astype(np.float32)
    conv = Conv("y", "images", weight, np.ones(4, np.float32), stride, padding, border=border)
    head = Linear("logits", "mean", np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    graph = Graph("images", (2, height, 7), (conv, GlobalPool("mean", "y"), head))
    x = rng.normal(size=(3, 2, height, 7)).astype(np.float32)
    seen: dict[str, tuple[int, ...]] = {}
    wanted = GraphRunner(graph)(x, lambda name, value: seen.update({name: tuple(value.shape)}))
    padded = torch.nn.functional.pad(torch.from_numpy(x), (padding,) * 4, value=border)
    plain = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), stride=stride) + 1
    np.testing.assert_allclose(wanted, plain.mean((2, 3)), atol=1e-4)
    assert graph.sizes()["y"] == seen["y"][2:] == plain.shape[2:]
    assert "mean" not in graph.sizes()
    path = tmp_path_factory.getbasetemp() / "border.onnx"
    export_onnx(graph, path, "fp32", {})
    np.testing.assert_allclose(run(path, graph, x), wanted, atol=1e-4)


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_sizes_are_those_of_the_values(data: st.DataObject) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    graph = lower(trained(spec), size)
    seen: dict[str, tuple[int, ...]] = {}
    GraphRunner(graph)(images(spec, size), lambda n, v: seen.update({n: tuple(v.shape[2:])}))
    assert graph.sizes() == {name: shape for name, shape in seen.items() if shape}
