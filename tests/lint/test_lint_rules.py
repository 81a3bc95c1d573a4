"""Each rule: a file that breaks it is found at the right place, a file that keeps it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lint_models import (
    Builder,
    Edit,
    add,
    all_of,
    block,
    cloned,
    dense,
    found_in,
    insert,
    node,
    pair_of,
    parsed,
    places,
    put,
    wire,
)
from onnx import TensorProto, helper

from edgedense.environment import installed
from edgedense.lint import RULES

NAMES = {rule.name for rule in RULES}
ZERO8 = np.zeros(32, np.int8)
ONE_OFF = np.eye(32, dtype=np.int8)[5]


def computed_scale(model: onnx.ModelProto) -> None:
    peak = helper.make_node("ReduceMax", ["x"], ["peak"], name="peak", keepdims=0)
    insert("x.q", peak)(model)
    for name in ("x.q", "x.dq"):
        wire(name, 1, "peak")(model)


def int32_bias(model: onnx.ModelProto) -> None:
    add("b32", np.zeros(32, np.int32))(model)
    add("bs", np.full(32, 1e-3, np.float32))(model)
    add("bz", np.zeros(32, np.int32))(model)
    insert("first", helper.make_node("DequantizeLinear", ["b32", "bs", "bz"], ["b"], name="bias",
                                     axis=0))(model)  # fmt: skip
    wire("first", 2, "b")(model)


def computed_bias(model: onnx.ModelProto) -> None:
    insert("first", helper.make_node("Neg", ["first.b"], ["b"], name="neg"))(model)
    wire("first", 2, "b")(model)


def drop_zero(*names: str) -> Edit:
    return lambda m: [node(m, name).input.pop() for name in names]


def kind(name: str, to: str) -> Edit:
    return lambda m: setattr(node(m, name), "op_type", to)


def free_axis(model: onnx.ModelProto) -> None:
    axis = model.graph.input[0].type.tensor_type.shape.dim[2]
    axis.dim_param = "height"


def per_channel(value: str) -> Edit:
    scales = np.full(32, 0.05, np.float32)
    return all_of(put(f"{value}.scale", scales), put(f"{value}.zero", ZERO8))


def extra_pair(value: str, reader: str) -> Edit:
    """A second pair behind ``value``, for one of its readers."""
    nodes = pair_of(value, "x.scale", "x.zero")
    return all_of(insert(reader, *nodes), lambda m: _rewire(m, reader, value, f"{value}.extra"))


def _rewire(model: onnx.ModelProto, reader: str, old: str, new: str) -> None:
    inputs = node(model, reader).input
    inputs[list(inputs).index(old)] = new


def first_to_concat_only(model: onnx.ModelProto) -> None:
    """bn1 becomes the only reader of ``first``."""
    wire("concat", 0, "relu1")(model)


def nested(model: onnx.ModelProto) -> None:
    add("yes", np.bool_(True))(model)
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    bodies = [
        helper.make_graph([helper.make_node("Identity", ["concat"], ["inner"])], name, [], [out])
        for name in ("a", "b")
    ]
    branch = helper.make_node("If", ["yes"], ["branch"], name="branch", then_branch=bodies[0],
                              else_branch=bodies[1])  # fmt: skip
    insert("bn2", branch)(model)
    wire("bn2", 0, "branch")(model)


def unneeded_output(model: onnx.ModelProto) -> None:
    model.graph.node.extend(pair_of("last", "x.scale", "x.zero"))
    model.graph.output[0].name = "last.extra"


# rule, edit of the model `dense`, where it is found, severity
BROKEN: list[tuple[str, Edit, list[str], str]] = [
    ("integer-operator", kind("first", "QLinearConv"), ["first"], "error"),
    ("integer-operator", kind("first", "ConvInteger"), ["first"], "error"),
    ("zero-point-missing", drop_zero("x.q", "x.dq"), ["x.q", "x.dq"], "error"),
    ("zero-point-missing", drop_zero("first.w"), ["first.w"], "error"),
    ("zero-point-missing", wire("x.q", 2, ""), ["x.q"], "error"),
    ("uint8", put("x.zero", np.uint8(0)), ["x.q"], "error"),
    ("uint8", all_of(put("first.w8", np.ones((32, 32, 3, 3), np.uint8)),
                     put("first.wz", np.zeros(32, np.uint8))), ["first.w"], "error"),
    ("code-type", put("x.zero", np.int16(0)), ["x.q"], "error"),
    ("zero-point-nonzero", put("x.zero", np.int8(3)), ["x.q"], "error"),
    ("zero-point-nonzero", put("x.zero", np.uint8(128)), ["x.q"], "error"),
    ("zero-point-nonzero", put("first.wz", ONE_OFF), ["first.w"], "error"),
    ("int32-bias", int32_bias, ["bias"], "error"),
    *(("scale-not-positive", put("relu1.scale", np.float32(bad)), ["relu1.q"], "error")
      for bad in (0, -0.1, np.nan, np.inf)),
    ("scale-not-positive", put("first.ws", np.zeros(32, np.float32)), ["first.w"], "error"),
    ("scale-computed", computed_scale, ["x.q"], "warning"),
    ("scale-shape", put("first.wz", np.zeros(3, np.int8)), ["first.w"], "error"),
    ("scale-shape", put("first.wz", np.int8(0)), ["first.w"], "error"),
    ("scale-shape", all_of(put("first.ws", np.ones(3, np.float32)),
                           put("first.wz", np.zeros(3, np.int8))), ["first.w"], "error"),
    ("activation-per-channel", per_channel("relu1"), ["relu1.q"], "error"),
    ("weight-axis", lambda m: node(m, "first.w").attribute.pop(), ["first"], "warning"),
    ("weight-per-tensor", all_of(put("first.ws", np.float32(1)), put("first.wz", np.int8(0))),
     ["first"], "info"),
    ("pair-differs", all_of(add("other", np.float32(1)), wire("x.dq", 1, "other")), ["x.dq"],
     "warning"),
    ("bias-computed", computed_bias, ["first"], "error"),
    ("opset-low", lambda m: setattr(m.opset_import[0], "version", 12), ["first.w"], "error"),
    ("opset-low", all_of(*(put(name, np.float16(1)) for name in ("x.scale", "relu1.scale"))),
     ["x.q"], "error"),
    ("opset-high", lambda m: setattr(m.opset_import[0], "version", 26), [""], "warning"),
    ("scale-fp16", put("relu2.scale", np.float16(1)), ["relu2.q"], "info"),
    ("mixed-floats", put("first.b", np.zeros(32, np.float16)), ["first"], "error"),
    ("fp16-overflow", put("bn1.1", np.full(32, np.inf, np.float16)), ["bn1"], "error"),
    ("concat-single", lambda m: node(m, "concat").input.pop(), ["concat"], "warning"),
    ("norm-unfolded", first_to_concat_only, ["bn1"], "warning"),
    ("free-axes", free_axis, [""], "warning"),
    ("unseen", nested, ["branch"], "info"),
    ("qdq-before-relu", extra_pair("bn2", "relu2"), ["bn2.eq"], "warning"),
    ("qdq-behind-norm", all_of(extra_pair("bn2", "relu2"), kind("relu2", "AveragePool")),
     ["bn2.eq"], "warning"),
    ("qdq-unneeded", extra_pair("first", "bn1"), ["first.eq"], "warning"),
    ("qdq-unneeded", unneeded_output, ["last.eq"], "warning"),
    ("qdq-double", extra_pair("x.dq", "first"), ["x.dq.eq"], "warning"),
    ("half-quantized", wire("second", 0, "relu1"), ["second"], "warning"),
    ("half-quantized", all_of(add("w", np.ones((32, 32, 3, 3), np.float32)),
                              wire("second", 1, "w")), ["second"], "warning"),
    ("mixed-readers", wire("concat", 1, "relu1"), ["concat"], "info"),
    ("concat-partial", extra_pair("first", "concat"), ["concat"], "warning"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "edit", "where", "severity"), BROKEN, ids=[f"{b[0]}-{i}" for i, b in enumerate(BROKEN)]
)
def test_a_broken_rule_is_found_at_its_place(
    rule: str, edit: Edit, where: list[str], severity: str, tmp_path: Path
) -> None:
    model = dense()
    edit(model)
    findings = found_in(model, tmp_path / "x.onnx")
    assert places(findings, rule) == where
    hit = next(finding for finding in findings if finding.rule == rule)
    assert hit.severity == severity
    assert hit.tensor
    assert hit.hazard.endswith(".") and hit.remedy.endswith(".")


@pytest.mark.parametrize("rest", [np.float32, np.float16])
def test_a_file_that_keeps_every_rule(rest: Any, tmp_path: Path) -> None:
    findings = found_in(dense(rest), tmp_path / "x.onnx")
    assert [f.rule for f in findings] == (["scale-fp16"] if rest is np.float16 else [])
    assert all(f.severity == "info" for f in findings)


@pytest.mark.parametrize(
    ("inputs", "outputs", "found"),
    [(32, 64, None), (32, 48, "info"), (16, 32, "info"), (24, 32, "warning"), (40, 12, "warning")],
)
def test_channels(inputs: int, outputs: int, found: str | None, tmp_path: Path) -> None:
    for kind in ("Conv", "ConvTranspose"):
        b = Builder()
        middle = b.op("Relu", [b.conv(b.pair("x"), inputs, outputs, "odd", kind)], "relu")
        b.op("GlobalAveragePool", [middle], "y")
        findings = found_in(b.model("y", inputs), tmp_path / "x.onnx")
        assert [(f.rule, f.node, f.severity) for f in findings] == (
            [("channels", "odd", found)] if found else []
        )


def test_images_and_classes_are_no_odd_channels_but_the_stem_is_told(tmp_path: Path) -> None:
    b = Builder()
    relu = b.op("Relu", [b.conv(b.pair("x"), 3, 32, "stem")], "relu")
    b.conv(b.pair(relu), 32, 11, "classes")
    findings = found_in(b.model("classes", 3), tmp_path / "x.onnx")
    assert [(f.rule, f.node) for f in findings] == [("stem-int8", "stem")]


def test_a_grouped_convolution_counts_channels_of_a_group(tmp_path: Path) -> None:
    b = Builder()
    b.op("Relu", [b.conv(b.pair("x"), 16, 64, "odd")], "relu")
    node_ = b.nodes[-2]
    node_.attribute.append(helper.make_attribute("group", 4))
    findings = found_in(b.model("relu", 64), tmp_path / "x.onnx")
    assert [(f.rule, f.detail) for f in findings] == [("channels", "in 16, out 16")]


def test_an_fp32_constant_that_is_cast_to_fp16_must_fit(tmp_path: Path) -> None:
    for value, wanted in ((7e4, ["cast"]), (6e4, [])):
        model = dense()
        add("big", np.full(32, value, np.float32))(model)
        cast = helper.make_node("Cast", ["big"], ["big16"], name="cast", to=TensorProto.FLOAT16)
        model.graph.node.append(cast)
        assert places(found_in(model, tmp_path / "x.onnx"), "fp16-overflow") == wanted


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (None, {"scale-fp16": "info"}),
        ("jetson-agx-xavier", {"scale-fp16": "error", "opset-high": "warning"}),
        ("jetson-orin-nano", {"scale-fp16": "warning", "opset-high": "warning"}),
        ("jetson-thor", {}),
        ("rtx-ada", {}),
        ("cpu", {}),
        (
            "jetson-nano",
            {"scale-fp16": "error", "opset-high": "warning", "no-int8": "error"},
        ),
    ],
)
def test_a_target_narrows_to_its_versions(
    target: str | None, wanted: dict[str, str], tmp_path: Path
) -> None:
    findings = found_in(dense(np.float16), tmp_path / "x.onnx", target)
    assert {f.rule: f.severity for f in findings} == wanted


def test_fp32_beside_int8_is_told_where_typing_is_strong(tmp_path: Path) -> None:
    for target, wanted in (("jetson-thor", ["rest-fp32"]), ("jetson-agx-xavier", [])):
        findings = found_in(dense(), tmp_path / "x.onnx", target)
        assert [f.rule for f in findings if f.rule != "opset-high"] == wanted


def test_bias_of_a_later_parser_is_only_a_warning(tmp_path: Path) -> None:
    model = dense()
    computed_bias(model)
    for target, severity in (("rtx-ada", "warning"), ("jetson-orin-nano", "error")):
        findings = found_in(model, tmp_path / "x.onnx", target)
        assert [f.severity for f in findings if f.rule == "bias-computed"] == [severity]


def test_onnx_runtime_is_not_held_to_tensorrts_rules(tmp_path: Path) -> None:
    model = dense()
    put("x.zero", np.uint8(128))(model)
    put("first.ws", np.zeros(32, np.float32))(model)
    assert [f.rule for f in found_in(model, tmp_path / "x.onnx", "cpu")] == ["scale-not-positive"]


def test_turing_has_no_fp32_product(tmp_path: Path) -> None:
    b = Builder()
    b.op("Flatten", [b.op("GlobalAveragePool", ["x"], "mean")], "flat")
    b.op("Gemm", ["flat", b.constant("w", np.ones((5, 32), np.float32))], "y", transB=1)
    for target, wanted in (("rtx-turing", ["y"]), ("rtx-ada", []), ("t4", [])):
        assert places(found_in(b.model("y"), tmp_path / "x.onnx", target), "fp32-product") == wanted


def test_every_rule_is_broken_by_some_test() -> None:
    elsewhere = {"concat-unequal", "channels", "stem-int8", "rest-fp32", "fp32-product", "no-int8"}
    assert {rule for rule, *_ in BROKEN} | elsewhere == NAMES
    assert len(NAMES) == len(RULES)


# what TensorRT's own parser says of the same files
REFUSED = {"zero-point-nonzero", "scale-not-positive", "scale-shape", "int32-bias", "code-type",
           "mixed-floats", "integer-operator"}  # fmt: skip


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_tensorrts_parser_refuses_what_we_call_refused() -> None:
    assert parsed(dense())
    assert parsed(dense(np.float16))
    assert parsed(block()) and parsed(cloned(chained=True))
    wrong = []
    for i, (rule, edit, _, _) in enumerate(BROKEN):
        if rule in REFUSED:
            model = dense()
            edit(model)
            if parsed(model):
                wrong.append((i, rule))
    infinite = next(i for i, (rule, *_) in enumerate(BROKEN) if rule == "scale-not-positive") + 3
    assert wrong == [(infinite, "scale-not-positive")]  # which is not refused, but NaN
