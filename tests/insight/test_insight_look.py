"""What is said of recorded engines, of an artifact, and by the command ``layers``."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense import artifact
from edgedense.errors import InputError
from edgedense.findings import Finding
from edgedense.insight import InsightReport, look, open_source

RECORDED = Path(__file__).parent.parent / "recorded" / "inspector"
QAT, MYELIN, V11 = "trex_resnet18_qat.json", "v10_myelin.json", "v11_densenet.json"
PROFILE = RECORDED / "trex_resnet18_qat.profile.json"


def seen(name: str, **more: Any) -> InsightReport:
    return look(open_source(RECORDED / name), **more)


def rules(report: InsightReport) -> set[tuple[str, str]]:
    return {(found.rule, found.severity) for found in report.findings}


def places(report: InsightReport, rule: str) -> list[str]:
    return [found.place for found in report.findings if found.rule == rule]


def found(report: InsightReport, rule: str) -> Finding:
    return next(one for one in report.findings if one.rule == rule)


def engine(path: Path, layers: Any, precision: str = "int8", **payload: Any) -> Path:
    with artifact.create(path, "build-engine", parents={}, options={"rest": None}) as draft:
        (draft.path / "inspector.json").write_text(json.dumps(layers))
        for name, value in payload.items():
            (draft.path / f"{name}.json").write_text(json.dumps(value))
        draft.report = {"precision": precision, "target": "jetson-orin-nano"}
    return path


def raw(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


def test_a_quantized_resnet_runs_in_int8_and_what_it_pays_for_it_is_found() -> None:
    report = seen(QAT, profile=PROFILE)
    assert (report.int8, report.weighted, report.exit_code) == (4, 4, 0)
    assert places(report, "qdq-unfused") == [
        "QuantizeLinear_15",
        "QuantizeLinear_250",
        "QuantizeLinear_2",  # of the image, which is only a remark
    ]
    image = [one for one in report.findings if one.place == "QuantizeLinear_2"]
    assert [one.severity for one in image] == ["info"]
    # 0.036864 of 0.513024 ms: notable, hence a warning
    assert found(report, "reformat").severity == "warning"
    assert "0.037 ms (7.2 %)" in found(report, "reformat").detail
    assert not places(report, "channels")  # neither the image's 3 nor the 1000 classes


def test_times_add_up_by_role_block_and_precision() -> None:
    report = seen(QAT, profile=PROFILE)
    assert report.total_ms == pytest.approx(0.513024)
    for parts in (report.roles, report.blocks):
        assert sum(part.time_ms or 0 for part in parts) == pytest.approx(report.total_ms)
        assert sum(part.share or 0 for part in parts) == pytest.approx(1)
    assert [part.name for part in report.blocks] == ["layer1", "rest"]
    assert report.blocks[0].time_ms == pytest.approx(0.032768 + 0.036864)
    assert report.slowest(1)[0].name == "conv1.weight + QuantizeLinear_7 + Conv_9"


def test_without_a_profile_no_times_are_made_up() -> None:
    report = seen(QAT)
    assert report.total_ms is None
    assert report.slowest(5) == ()
    assert all(part.time_ms is None and part.share is None for part in report.roles)


def test_engines_in_floating_point_are_not_scolded_for_it() -> None:
    for name in ("trex_resnet18_fp16.json", "trex_resnet18_fp32.json"):
        report = seen(name)
        assert report.int8 == 0
        assert rules(report) == {("reformat", "info")}
        assert report.exit_code == 0
    assert {part.name for part in seen("trex_resnet18_fp16.json").precisions} == {"FP16"}
    assert {part.name for part in seen("trex_resnet18_fp32.json").precisions} == {"FP32"}


def test_a_matrix_product_that_lost_its_quantization_is_named() -> None:
    report = seen(MYELIN)
    assert places(report, "fell-back") == ["/fc2/Gemm_myl0_4"]
    assert "FP32" in found(report, "fell-back").detail
    assert ("channels", "info") in rules(report)  # 16 is not 32


def test_names_only_is_an_error_and_not_a_verdict_on_int8() -> None:
    report = seen("v10_names_only.json")
    assert rules(report) == {("names-only", "error")}
    assert report.exit_code == 1


def test_the_onnx_file_says_what_was_asked() -> None:
    asked = frozenset({"denseblock1.denselayer1.conv1", "denseblock1.denselayer1.conv2"})
    report = seen(V11, nodes=asked)
    assert places(report, "fell-back") == ["denseblock1.denselayer1.conv2"]
    assert "presumed" not in found(report, "fell-back").detail
    assert [row.asked_int8 for row in report.rows] == [False, False, True, True]
    assert places(seen(V11, nodes=asked - {"denseblock1.denselayer1.conv2"}), "fell-back") == []


def test_an_artifact_says_what_it_was_built_for(tmp_path: Path) -> None:
    layers = raw(V11)
    report = look(open_source(engine(tmp_path / "int8", layers)))
    assert places(report, "fell-back") == ["conv0", "denseblock1.denselayer1.conv2"]
    assert "presumed" in found(report, "fell-back").detail
    assert report.target == "jetson-orin-nano"
    half = look(open_source(engine(tmp_path / "fp16", layers, "fp16")))
    assert places(half, "fell-back") == []
    assert ("float32", "warning") in rules(half)
    assert places(look(open_source(engine(tmp_path / "fp32", layers, "fp32"))), "float32") == []


def test_an_engine_for_int8_without_any_int8_is_an_error(tmp_path: Path) -> None:
    layers = raw("trex_resnet18_fp16.json")
    report = look(open_source(engine(tmp_path / "int8", layers)))
    assert ("no-int8", "error") in rules(report)
    assert report.exit_code == 1
    assert look(open_source(engine(tmp_path / "fp16", layers, "fp16"))).exit_code == 0


def test_the_profile_of_an_artifact_is_used(tmp_path: Path) -> None:
    times = json.loads(PROFILE.read_text())
    made = engine(tmp_path / "e", raw(QAT), profile=times)
    assert look(open_source(made)).total_ms == pytest.approx(0.513024)


def test_a_profile_of_another_engine_is_noticed() -> None:
    report = seen(MYELIN, profile=PROFILE)
    assert ("profile-unmatched", "warning") in rules(report)
    assert "100.0 % of the time" in found(report, "profile-unmatched").detail


@pytest.mark.parametrize(("channels", "severity"), [(96, None), (48, "info"), (40, "warning")])
def test_channels_are_judged_by_32_and_16(channels: int, severity: str | None) -> None:
    layers = copy.deepcopy(raw(V11))
    layers["Layers"][2]["Outputs"][0]["Dimensions"][1] = channels
    layers["Layers"][3]["Inputs"][0]["Dimensions"][1] = channels
    source = open_source(RECORDED / V11)
    changed = type(source)(source.name, json.dumps(layers).encode())
    hits = [
        one.severity
        for one in look(changed).findings
        if one.rule == "channels" and one.place.endswith("conv1")
    ]
    assert hits == ([severity] if severity else [])


def test_hidden_types_are_said_to_be_read_elsewhere() -> None:
    layers = raw(QAT)
    for layer in layers["Layers"]:
        for end in (*layer["Inputs"], *layer["Outputs"]):
            end["Format/Datatype"] = "N/A due to dynamic shapes"
    source = open_source(RECORDED / QAT)
    report = look(type(source)(source.name, json.dumps(layers).encode()))
    assert ("types-hidden", "info") in rules(report)
    assert (report.int8, report.exit_code) == (4, 0)
    for layer in layers["Layers"]:
        layer.pop("Weights", None)
        layer.pop("TacticName", None)
    report = look(type(source)(source.name, json.dumps(layers).encode()))
    assert ("types-hidden", "error") in rules(report)
    assert report.exit_code == 1


def test_an_engine_that_nobody_looked_into_says_where_to_look(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "e", "build-engine", parents={}, options={}) as draft:
        draft.report = {"target": "cpu"}
    with pytest.raises(InputError, match=r"inspector\.json"):
        open_source(tmp_path / "e")
    with artifact.create(tmp_path / "q", "quantize", parents={}, options={}):
        pass
    with pytest.raises(InputError, match="quantize artifact"):
        open_source(tmp_path / "q")
    plan = tmp_path / "model.engine"
    plan.write_bytes(b"ftrt")
    with pytest.raises(InputError, match="only opened where it runs"):
        open_source(plan)


def test_a_changed_inspector_file_is_refused(tmp_path: Path) -> None:
    made = engine(tmp_path / "e", raw(QAT))
    (made / "inspector.json").write_text("{}")
    with pytest.raises(InputError, match="differ"):
        open_source(made)


def test_the_command_prints_one_object(edgedense: Callable[..., Any]) -> None:
    ended = edgedense("layers", RECORDED / QAT, "--profile", PROFILE, "--json")
    told = json.loads(ended.out)
    assert ended.code == 0
    assert (told["int8"], told["weighted"], told["layers"]) == (4, 4, 11)
    assert told["findings"][0]["rule"] == "qdq-unfused"
    assert told["errors"] == 0


def test_the_command_tells_in_words_and_exits_1_on_errors(edgedense: Callable[..., Any]) -> None:
    ended = edgedense("layers", RECORDED / "v10_names_only.json")
    assert ended.code == 1
    assert ended.out == ""
    assert "names-only" in ended.err
    assert "profilingVerbosity=detailed" in ended.err


def test_names_of_layers_cannot_steer_the_terminal(
    tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    layers = raw(V11)
    layers["Layers"][1]["Name"] = "\x1b[2Jdenseblock1.x.qdq"
    file, times = tmp_path / "layers.json", tmp_path / "times.json"
    file.write_text(json.dumps(layers))
    times.write_text(json.dumps([{"name": layers["Layers"][1]["Name"], "averageMs": 1}]))
    ended = edgedense("layers", file, "--profile", times)
    assert ended.code == 0
    assert "\x1b" not in ended.err


def test_a_damaged_profile_names_what_writes_profiles(
    tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    times = tmp_path / "times.json"
    times.write_text("junk")
    ended = edgedense("layers", RECORDED / V11, "--profile", times)
    assert ended.code == 2
    assert "times.json is no JSON" in ended.err
    assert "--exportProfile" in ended.err
    assert "--exportLayerInfo" not in ended.err


def test_the_onnx_option_reads_what_was_asked(made: Any, edgedense: Callable[..., Any]) -> None:
    file = made.quantized / "int8.fp16.onnx"
    ended = edgedense("layers", RECORDED / V11, "--onnx", file, "--json")
    told = json.loads(ended.out)
    assert told["asked"] == "the ONNX file: 11 nodes in INT8"
    asked = {row["name"] for row in told["rows"] if row["asked_int8"]}
    assert asked == {"conv0", "denseblock1.denselayer1.conv1", "denseblock1.denselayer1.conv2"}
