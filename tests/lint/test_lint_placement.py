"""Rules that need the eye for several nodes: scales that meet in a concat, pairs in a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lint_models import Builder, add, block, cloned, dense, found_in, insert, places, put, wire
from onnx import helper


@pytest.mark.parametrize("chained", [False, True])
def test_block_placement_with_one_scale_keeps_every_rule(chained: bool, tmp_path: Path) -> None:
    assert found_in(block(chained), tmp_path / "x.onnx") == ()


@pytest.mark.parametrize("chained", [False, True])
def test_one_unequal_scale_is_found_where_it_is_joined(chained: bool, tmp_path: Path) -> None:
    findings = found_in(block(chained, outer=0.06), tmp_path / "x.onnx")
    assert [(f.rule, f.node, f.detail) for f in findings] == [
        ("concat-unequal", "concat2", "scales 0.05, 0.06")
    ]


@pytest.mark.parametrize("chained", [False, True])
def test_a_scale_for_each_concat_requantizes_what_they_share(chained: bool, tmp_path: Path) -> None:
    findings = found_in(cloned(chained), tmp_path / "x.onnx")
    assert places(findings, "concat-unequal") == ["concat1", "concat2"]
    same = found_in(cloned(chained, (0.05, 0.05)), tmp_path / "x.onnx")
    assert places(same, "concat-unequal") == []


def test_a_q_behind_a_concat_is_pulled_into_the_inputs_that_have_none(tmp_path: Path) -> None:
    """ModelOpt: the first input of a block has a pair, the others get theirs from behind."""
    for behind, wanted in (("", ["concat-partial"]), ("q", []), ("other", ["concat-unequal"])):
        b = Builder()
        b.pair("x")
        made = [b.conv("x.dq", 32, 32, name) for name in ("a", "b")]
        joined = b.op("Concat", [b.pair(made[0], 0.1), made[1]], "concat", axis=1)
        joined = b.pair(joined, 0.1 if behind == "q" else 0.2) if behind else joined
        relu = b.op("Relu", [b.norm(joined, 64, "bn")], "relu")
        b.conv(b.pair(relu), 64, 32, "last")
        assert [f.rule for f in found_in(b.model("last"), tmp_path / "x.onnx")] == wanted


@pytest.mark.parametrize(("again", "found"), [(0.05, []), (0.06, ["pool.q"])])
def test_a_pool_between_two_pairs(again: float, found: list[str], tmp_path: Path) -> None:
    b = Builder()
    pool = b.op("MaxPool", [b.pair("x", 0.05)], "pool", kernel_shape=[1, 1])
    b.conv(b.pair(pool, again), 32, 32, "conv")
    findings = found_in(b.model("conv"), tmp_path / "x.onnx")
    assert [(f.rule, f.node) for f in findings] == [("qdq-double", name) for name in found]


@pytest.mark.parametrize(("zero", "found"), [(np.int8(-128), []), (np.int8(0), ["bn1.q"])])
def test_a_quantizer_that_is_the_relu_too_may_follow_a_norm(
    zero: np.int8, found: list[str], tmp_path: Path
) -> None:
    """ONNX Runtime drops a ReLU where the lowest code stands for 0."""
    b = Builder()
    normed = b.pair(b.norm(b.conv(b.pair("x"), 32, 32, "conv"), 32, "bn1"))
    pooled = b.op("GlobalAveragePool", [normed], "mean")
    b.op("Concat", [b.pair(pooled), pooled], "y", axis=1)
    model = b.model("y")
    put("bn1.zero", zero)(model)
    assert places(found_in(model, tmp_path / "x.onnx"), "qdq-behind-norm") == found


def test_constants_of_a_norm_are_quantized_for_nothing(tmp_path: Path) -> None:
    """ONNX Runtime's defaults do so."""
    model = dense()
    put("bn1.0", np.ones(32, np.int8))(model)
    new = helper.make_node("DequantizeLinear", ["bn1.0", "x.scale", "x.zero"], ["g"], name="gamma")
    insert("bn1", new)(model)
    wire("bn1", 1, "g")(model)
    findings = found_in(model, tmp_path / "x.onnx")
    assert [(f.rule, f.node, f.detail) for f in findings] == [
        ("qdq-unneeded", "gamma", "constant of BatchNormalization")
    ]


def test_q_and_dq_with_equal_constants_of_their_own_are_one_place(tmp_path: Path) -> None:
    """ModelOpt writes two scales and two zero-points."""
    for zero, wanted in ((np.uint8(0), [("uint8", "x.q")]), (np.int8(0), [])):
        model = dense()
        put("x.zero", zero)(model)
        add("twin.scale", np.float32(0.05))(model)
        add("twin.zero", zero)(model)
        wire("x.dq", 1, "twin.scale")(model)
        wire("x.dq", 2, "twin.zero")(model)
        findings = found_in(model, tmp_path / "x.onnx")
        assert [(f.rule, f.node) for f in findings] == wanted


def test_a_pool_between_does_not_hide_a_scale(tmp_path: Path) -> None:
    b = Builder()
    made = b.pair(b.conv(b.pair("x"), 32, 32, "a"), 0.01)
    pooled = b.op("MaxPool", [made], "pool", kernel_shape=[1, 1])
    other = b.pair(b.conv("x.dq", 32, 32, "b"), 0.02)
    b.op("Concat", [pooled, other], "concat", axis=1)
    assert places(found_in(b.model("concat"), tmp_path / "x.onnx"), "concat-unequal") == ["concat"]


def test_a_pair_does_not_hide_a_norm_that_could_have_been_folded(tmp_path: Path) -> None:
    for both in (False, True):
        b = Builder()
        made = b.conv(b.pair("x"), 32, 32, "conv")
        normed = b.norm(b.pair(made), 32, "bn")
        b.op("Concat", [normed, "conv.dq" if both else normed], "y", axis=1)
        findings = found_in(b.model("y"), tmp_path / "x.onnx")
        details = [f.detail for f in findings if f.rule == "norm-unfolded"]
        assert details == ([] if both else ["behind conv, with Q/DQ between"])
