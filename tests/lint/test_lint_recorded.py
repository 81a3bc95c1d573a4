"""What other tools write for DenseNet-121: recorded skeletons, and what is true of them.

tests/recorded/lint/README.md says how they were made.
"""

from __future__ import annotations

import json
import lzma
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lint_models import parsed
from onnx import numpy_helper

from edgedense.environment import installed
from edgedense.lint import LintReport, lint
from edgedense.targets import find_target

FOLDER = Path(__file__).parents[1] / "recorded" / "lint"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
CONCATS, NORMS, CONVOLUTIONS = 58, 62, 120  # of DenseNet-121 with norm0 and all norm2 folded


def recorded(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return facts


@cache
def packed(name: str) -> bytes:
    return lzma.decompress((FOLDER / f"{name}.onnx.xz").read_bytes())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LintReport]:
    folder = tmp_path_factory.mktemp("recorded")
    for name in NAMES:
        (folder / f"{name}.onnx").write_bytes(packed(name))
    return {name: lint(folder / f"{name}.onnx") for name in NAMES}


def counted(found: LintReport) -> dict[str, int]:
    groups = found.groups()
    return {f"{g.first.rule} {g.first.severity}": len(g.findings) for g in groups}


def test_the_recorded_tools_are_all_here() -> None:
    tools = Counter(recorded(name)["tool"].split()[0].rstrip(",") for name in NAMES)
    assert tools == {"ModelOpt": 3, "ONNX": 4, "NNCF": 1}


@pytest.mark.parametrize("name", NAMES)
def test_findings_are_those_that_were_recorded(name: str, reports: dict[str, LintReport]) -> None:
    wanted, found = recorded(name), reports[name]
    assert (found.opset, found.operators) == (wanted["opset"], wanted["operators"])
    assert found.int8_operators == wanted["int8_operators"]
    assert [
        {
            "rule": group.first.rule,
            "severity": group.first.severity,
            "count": len(group.findings),
            "places": [[f.place, f.detail] for f in group.findings[: len(kind["places"])]],
        }
        for group, kind in zip(found.groups(), wanted["findings"], strict=True)
    ] == wanted["findings"]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_is_what_tensorrt_refuses_or_misreads(
    name: str, reports: dict[str, LintReport]
) -> None:
    wanted = recorded(name)
    wrong = not wanted["tensorrt_rtx_accepts"] or wanted["tensorrt_rtx_reads_uint8_as_int8"] > 0
    assert bool(reports[name].count("error")) is wrong


def test_modelopt_gives_a_block_one_scale_and_leaves_the_classifier(
    reports: dict[str, LintReport],
) -> None:
    for name in ("modelopt-entropy-defaults", "modelopt-max-defaults"):
        model = onnx.ModelProto.FromString(packed(name))
        assert [len(scales) for scales in scales_behind_concats(model).values()] == [1] * 4
        assert counted(reports[name]) == {
            "qdq-double warning": 1,  # before and behind the max pool
            "half-quantized warning": 1,  # the classifier's input
            "scale-fp16 info": 1,
            "stem-int8 info": 1,
        }
    assert counted(reports["modelopt-entropy"]) == {"stem-int8 info": 1}


def scales_behind_concats(model: onnx.ModelProto) -> dict[str, frozenset[float]]:
    """By block: scales of the QuantizeLinear that read a Concat."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    concats = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    found: dict[str, set[float]] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in concats:
            scale = float(numpy_helper.to_array(values[node.input[1]]))
            found.setdefault(node.input[0].split(".")[0], set()).add(scale)
    return {block: frozenset(scales) for block, scales in found.items()}


def test_defaults_of_onnx_runtime_break_four_rules(reports: dict[str, LintReport]) -> None:
    found = counted(reports["onnx-runtime-defaults"])
    model = onnx.ModelProto.FromString(packed("onnx-runtime-defaults"))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert found["int32-bias error"] == CONVOLUTIONS + NORMS + 1
    assert found["zero-point-nonzero error"] == kinds["QuantizeLinear"]  # every activation
    assert found["concat-unequal warning"] == CONCATS
    assert found["weight-per-tensor info"] == CONVOLUTIONS + 1
    assert found["qdq-unneeded warning"] == NORMS + 1  # their scales, and the logits
    assert kinds["Relu"] == 0  # so a Q behind BatchNormalization is its ReLU
    assert not any("norm" in rule for rule in found)


def test_made_symmetric_they_pass_the_parser_and_are_slow(reports: dict[str, LintReport]) -> None:
    found = counted(reports["onnx-runtime-defaults-made-symmetric"])
    assert not any(rule.endswith("error") for rule in found)
    assert found["qdq-before-relu warning"] == NORMS
    assert found["concat-unequal warning"] == CONCATS
    # convolutions in front of a ReLU (the stem, and the first of each layer), logits, BN scales
    assert found["qdq-unneeded warning"] == 1 + 58 + 1 + NORMS


def test_safe_settings_of_onnx_runtime(reports: dict[str, LintReport]) -> None:
    assert counted(reports["onnx-runtime-percentile"]) == {"stem-int8 info": 1}
    assert counted(reports["onnx-runtime-percentile-outputs-too"]) == {
        "concat-partial warning": CONCATS,  # a block's first value comes from a pool
        "qdq-unneeded warning": 1 + 58 + 1,
        "stem-int8 info": 1,
    }


def test_nncf_is_uint8_behind_each_relu(reports: dict[str, LintReport]) -> None:
    found = reports["nncf"]
    model = onnx.ModelProto.FromString(packed("nncf"))
    kinds = Counter(node.op_type for node in model.graph.node)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    unsigned = [
        node
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and values[node.input[2]].dtype == np.uint8
    ]
    assert kinds["Relu"] + 1 == len(unsigned)  # and the mean of the last one
    assert counted(found) == {
        "uint8 error": len(unsigned),
        "concat-unequal warning": CONCATS,
        "stem-int8 info": 1,
    }
    assert recorded("nncf")["tensorrt_rtx_reads_uint8_as_int8"] == 2 * len(unsigned)


def test_no_peer_leaves_a_convolution_of_densenet121_in_float() -> None:
    for name in NAMES:
        facts = recorded(name)
        assert (facts["int8_convolutions"], facts["convolutions"]) == (CONVOLUTIONS, CONVOLUTIONS)
        left = ["logits"] if facts["tool"].startswith("ModelOpt") else []
        assert facts["in_float"] == left


def test_a_jetson_is_told_of_fp16_scales(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(packed("modelopt-max-defaults"))
    found = lint(path, find_target("jetson-agx-xavier"))
    assert {f.rule for f in found.findings if f.severity == "error"} == {"scale-fp16"}


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_tensorrts_parser_says_of_a_skeleton_what_it_said_of_the_file(name: str) -> None:
    model = onnx.ModelProto.FromString(packed(name))
    assert parsed(model) is recorded(name)["tensorrt_rtx_accepts"]
