"""Whole files: our own, ONNX Runtime's, and what the command says of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lint_models import block, dense, put
from nets import specs, tiny, tiramisus, trained

from edgedense.densenet.family import Spec
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.graph.export import Float, export_onnx
from edgedense.graph.lower import lower
from edgedense.lint import Finding, lint
from edgedense.quantize.place import place_conv
from edgedense.targets import find_target

SIZE = (16, 16)
IMAGENET = tiny((2, 2), 8, stem="imagenet", stem_width=16)
KINDS: dict[str, Spec] = {
    "bc": tiny((2, 2), 8, stem_width=16),
    "plain": tiny((1, 2, 1), 3, bottleneck=False, pool="max", in_channels=1),
    "deep-blur": replace(IMAGENET, stem="deep-blur", stem_hidden=(8, 8)),
    "same": replace(IMAGENET, padding="same"),
    "no-relu": replace(tiny((2, 2), 8), transition_relu=False),
    "tiramisu": FCDenseNetSpec.build([1, 2], 2, 8, num_classes=3, stem_width=16),
}


def exported(spec: Spec, rest: Float, path: Path, *, int8: bool = True) -> Path:
    graph = lower(trained(spec), SIZE)
    scales: dict[str, float] = defaultdict(lambda: 3 / 128)
    export_onnx(place_conv(graph, scales) if int8 else graph, path, rest, {})
    return path


def beside_channels(findings: tuple[Finding, ...]) -> list[Finding]:
    return [f for f in findings if f.severity != "info" and f.rule != "channels"]


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_our_files_keep_every_rule(kind: str, rest: Float, tmp_path: Path) -> None:
    for int8 in (True, False):
        path = exported(KINDS[kind], rest, tmp_path / "x.onnx", int8=int8)
        found = lint(path)
        assert beside_channels(found.findings) == []
        assert bool(found.int8_operators) is int8
        assert lint(path, find_target("rtx-ampere")).count("error") == 0


@settings(deadline=None, max_examples=10)
@given(spec=specs() | tiramisus(), rest=st.sampled_from(("fp32", "fp16")))
def test_no_network_of_the_family_gives_a_false_alarm(
    spec: Spec, rest: Float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = exported(spec, rest, tmp_path_factory.getbasetemp() / "lint.onnx")
    assert beside_channels(lint(path).findings) == []


@pytest.fixture(scope="module")
def by_onnx_runtime(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    quantization = pytest.importorskip("onnxruntime.quantization")
    folder = tmp_path_factory.mktemp("ort")
    source = exported(KINDS["bc"], "fp32", folder / "fp32.onnx", int8=False)
    images = np.random.default_rng(0).normal(size=(2, 1, 3, *SIZE)).astype(np.float32)

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image}

    def quantize(**options: Any) -> Path:
        quantization.quantize_static(source, folder / "int8.onnx", Images(), **options)
        return folder / "int8.onnx"

    return quantize


def kinds_of(path: Path, severity: str) -> set[str]:
    return {finding.rule for finding in lint(path).findings if finding.severity == severity}


def test_defaults_of_onnx_runtime(by_onnx_runtime: Callable[..., Path]) -> None:
    from onnxruntime.quantization import QuantType

    found = lint(by_onnx_runtime())
    assert {"int32-bias", "zero-point-nonzero"} <= kinds_of(Path(found.file), "error")
    biases = [f for f in found.findings if f.rule == "int32-bias"]
    with_bias = ("Conv", "Gemm", "BatchNormalization")
    layers = [node for node in onnx.load(found.file).graph.node if node.op_type in with_bias]
    assert sorted(f.detail for f in biases) == sorted(f"of {node.name}" for node in layers)
    assert "concat-unequal" in kinds_of(Path(found.file), "warning")
    older = by_onnx_runtime(activation_type=QuantType.QUInt8)
    assert {"int32-bias", "zero-point-nonzero", "uint8"} <= kinds_of(older, "error")


def test_settings_of_onnx_runtime_for_tensorrt(by_onnx_runtime: Callable[..., Path]) -> None:
    from onnxruntime.quantization import QuantType

    path = by_onnx_runtime(
        activation_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    )
    assert kinds_of(path, "error") == set()
    assert {"qdq-unneeded", "concat-unequal"} <= kinds_of(path, "warning")  # pairs behind Conv


def test_integer_operators_of_onnx_runtime(by_onnx_runtime: Callable[..., Path]) -> None:
    from onnxruntime.quantization import QuantFormat

    assert "integer-operator" in kinds_of(
        by_onnx_runtime(quant_format=QuantFormat.QOperator), "error"
    )


def test_the_file_of_the_cpu_engine_is_named_once(made: Any) -> None:
    path = made.quantized / "int8.cpu.onnx"
    assert [found.rule for found in lint(path).findings] == ["cpu-file"]
    assert lint(path, find_target("cpu")).exit_code == 0
    assert "cpu-file" not in kinds_of(made.quantized / "int8.fp16.onnx", "error")


def broken() -> onnx.ModelProto:
    model = dense()
    for name in ("x", "relu1", "relu2"):
        put(f"{name}.zero", np.int8(3))(model)
    put("first.wz", np.full(32, 3, np.int8))(model)
    return model


def test_json_lists_every_finding(edgedense: Callable[..., Any], tmp_path: Path) -> None:
    onnx.save(broken(), tmp_path / "x.onnx")
    ended = edgedense("lint", tmp_path / "x.onnx", "--json")
    assert ended.code == 1
    told = json.loads(ended.out)
    assert (told["errors"], told["warnings"], told["infos"]) == (4, 0, 0)
    assert [f["node"] for f in told["findings"]] == ["x.q", "first.w", "relu1.q", "relu2.q"]
    assert told["findings"][0] == {
        **told["findings"][0],
        "rule": "zero-point-nonzero",
        "severity": "error",
        "tensor": "x",
        "op": "QuantizeLinear",
        "detail": "zero-point 3",
    }
    assert (told["opset"], told["target"], told["int8_operators"]) == (17, None, 3)


def test_lines_group_and_all_lists_all(edgedense: Callable[..., Any], tmp_path: Path) -> None:
    onnx.save(broken(), tmp_path / "x.onnx")
    short, long = (edgedense("lint", tmp_path / "x.onnx", *more) for more in ((), ("--all",)))
    assert (short.code, short.out) == (1, "")
    assert "error zero-point-nonzero (4): Every TensorRT refuses" in short.err
    assert "and 1 more" in short.err and "relu2.q" not in short.err
    assert "more" not in long.err and "relu2.q" in long.err
    assert "4 errors, 0 warnings, 0 remarks" in short.err


def test_exit_codes(edgedense: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    onnx.save(block(outer=0.06), path)
    ended = edgedense("lint", path)
    assert ended.code == 0  # a warning is no error
    assert "warning concat-unequal" in ended.err
    for words in ([path, "--target", "jetson-orin"], [tmp_path / "none.onnx"], [__file__]):
        ended = edgedense("lint", *words)
        assert ended.code == 2
        assert len(ended.error) == 2, ended.err


def test_target_is_told(edgedense: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    onnx.save(dense(np.float16), path)
    codes = {}
    for target in ("jetson-agx-xavier", "rtx-ada"):
        ended = edgedense("lint", path, "--target", target, "--json")
        assert json.loads(ended.out)["target"] == target
        codes[target] = ended.code
    assert codes == {"jetson-agx-xavier": 1, "rtx-ada": 0}


def test_a_missing_library_is_named(
    edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgedense.environment.installed", lambda name: name != "onnx")
    ended = edgedense("lint", tmp_path / "x.onnx")
    assert ended.code == 3
    assert "edgedense[compress]" in ended.error[1]


def test_names_cannot_drive_the_terminal(edgedense: Callable[..., Any], tmp_path: Path) -> None:
    model = broken()
    model.graph.node[0].name = "\x1b[2J\n" + "n" * 1000
    onnx.save(model, tmp_path / "x.onnx")
    ended = edgedense("lint", tmp_path / "x.onnx", "--all")
    assert "\x1b" not in ended.err and "    ?[2J?nnn" in ended.err
    assert max(map(len, ended.err.splitlines())) < 400
