from __future__ import annotations

from pathlib import Path

import pytest

from edgedense import artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt_api import Journal, dialect_for, explain
from edgedense.errors import InputError, MachineError
from edgedense.targets import find_target


@pytest.fixture
def source(tmp_path: Path) -> artifact.Artifact:
    with artifact.create(tmp_path / "q", "quantize", parents={}, options={}) as draft:
        (draft.path / "fp16.onnx").write_bytes(b"onnx")
        (draft.path / "int8.fp16.onnx").write_bytes(b"onnx")
        draft.interface = Interface("images", (3, 4, 4), "logits", (10,)).to_dict()
    return artifact.read(tmp_path / "q")


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-tx2"])
def test_int8_without_int8_hardware_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InputError, match=r"no INT8 kernels.*\n.*--precision fp16"):
        BuildOptions(name).check()
    assert BuildOptions(name, "fp16").check().name == name


@pytest.mark.parametrize("batch", [(0, 1, 2), (2, 1, 8), (1, 9, 8), (1, 2), (-1, 1, 1)])
def test_batch_must_ascend(batch: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="MIN:OPT:MAX"):
        BuildOptions("cpu", batch=batch).check()


@pytest.mark.parametrize(
    "options",
    [BuildOptions("cpu", "int4"), BuildOptions("cpu", rest="bf16"),
     BuildOptions("cpu", optimization_level=9), BuildOptions("t4", workspace_mib=0),
     BuildOptions("t4", timing_cache=Path())],
)  # fmt: skip
def test_other_options_that_cannot_be(options: BuildOptions) -> None:
    with pytest.raises(InputError):
        options.check()


@pytest.mark.parametrize(
    ("options", "reason"),
    [(BuildOptions("t4", sms=(75,)), r"built on that very GPU.*\n.*rtx-any"),
     (BuildOptions("cpu", sms=(86,)), "built on that very GPU"),
     (BuildOptions("rtx-any", sms=(86, 87)), r"86,87 cannot.*\n.*75, 80, 86, 89, 120, 121"),
     (BuildOptions("rtx-any", sms=(86, 86)), "each once")],
)  # fmt: skip
def test_gpus_that_cannot_be_chosen(options: BuildOptions, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        options.check()


def test_chosen_gpus_take_the_targets_place() -> None:
    assert BuildOptions("rtx-any", sms=(89, 75)).check().sms == (89, 75)
    assert BuildOptions("rtx-ada").check().sms == (89,)


@pytest.mark.parametrize(
    ("target", "precision", "rest", "name"),
    [("cpu", "int8", None, "int8.cpu.onnx"), ("cpu", "int8", "fp32", "int8.fp32.onnx"),
     ("rtx-ada", "int8", None, "int8.fp16.onnx"),
     ("t4", "int8", "fp32", "int8.fp32.onnx"), ("t4", "fp16", None, "fp16.onnx"),
     ("cpu", "fp32", "fp16", "fp32.onnx")],
)  # fmt: skip
def test_which_onnx_is_built(target: str, precision: str, rest: str | None, name: str) -> None:
    options = BuildOptions(target, precision, rest=rest)
    assert options.onnx_name(find_target(target)) == name


@pytest.mark.parametrize(
    ("target", "expected"),
    [("jetson-orin-nano", "edgedense build-engine q -o e --target jetson-orin-nano"),
     ("jetson-agx-xavier", "trtexec --onnx=q/int8.fp32.onnx"),
     ("t4", "edgedense build-engine q -o e --target t4 --precision int8 --batch 1:1:8")],
)  # fmt: skip
def test_without_tensorrt_the_two_ways_out_are_named(
    target: str,
    expected: str,
    source: artifact.Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgedense.build.stage.installed", lambda module: False)
    with pytest.raises(MachineError) as caught:
        build_engine(source, tmp_path / "e", BuildOptions(target))
    assert caught.value.exit_code == 3
    assert expected in caught.value.remedy
    assert "--target cpu" in caught.value.remedy
    assert "--target rtx-ampere" in caught.value.remedy
    assert str(caught.value).count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["q"]


def test_a_payload_that_is_not_there_is_named(source: artifact.Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no fp32\.onnx, only fp16\.onnx, int8\.fp16\.onnx"):
        build_engine(source, tmp_path / "e", BuildOptions("rtx-ada", "fp32"))


def test_an_engine_is_built_from_a_quantize_artifact_only(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "p", "prune", parents={}, options={}):
        pass
    with pytest.raises(InputError, match=r"is a prune artifact.*\n.*edgedense quantize"):
        build_engine(artifact.read(tmp_path / "p"), tmp_path / "e", BuildOptions("cpu"))


def test_an_existing_destination_is_refused_before_the_work(
    source: artifact.Artifact, tmp_path: Path
) -> None:
    (tmp_path / "e").mkdir()
    with pytest.raises(InputError, match="exists already"):
        build_engine(source, tmp_path / "e", BuildOptions("jetson-orin-nano"))


@pytest.mark.parametrize(
    ("version", "typings"),
    [("8.6.1", {"weak": "EXPLICIT_BATCH"}), ("8.6.2", {"weak": "EXPLICIT_BATCH"}),
     ("10.0.1", {"strong": "STRONGLY_TYPED", "weak": None}),
     ("10.16.2.10", {"strong": "STRONGLY_TYPED", "weak": None}),
     ("11.0.0.114", {"strong": None}), ("12.0.0rc1", {"strong": None})],
)  # fmt: skip
def test_dialects(version: str, typings: dict[str, str | None]) -> None:
    assert list(dialect_for(version).typings.items()) == list(typings.items())


@pytest.mark.parametrize(
    ("version", "rtx", "memory_size"),
    [("8.6.1", False, "device_memory_size"), ("10.0.1", False, "device_memory_size"),
     ("10.1.0", False, "device_memory_size_v2"), ("11.4.1", False, "device_memory_size_v2"),
     ("1.1.1.26", True, "device_memory_size_v2")],
)  # fmt: skip
def test_memory_property(version: str, rtx: bool, memory_size: str) -> None:
    assert dialect_for(version, rtx=rtx).memory_size == memory_size


@pytest.mark.parametrize(
    ("version", "own_graphs"), [("1.1.1.26", False), ("1.2.0.44", True), ("1.7.1.116", True)]
)
def test_dialects_of_rtx(version: str, own_graphs: bool) -> None:
    dialect = dialect_for(version, rtx=True)
    assert (dialect.ahead_of_time, dialect.own_graphs) == (True, own_graphs)
    assert dict(dialect.typings) == {"strong": None}


@pytest.mark.parametrize("version", ["1.0.0.21", "2.0.0"])
def test_versions_of_rtx_that_we_do_not_speak(version: str) -> None:
    with pytest.raises(MachineError, match=f"RTX {version}"):
        dialect_for(version, rtx=True)


@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "9.3.0"])
def test_versions_that_we_do_not_speak(version: str) -> None:
    with pytest.raises(MachineError, match=version):
        dialect_for(version)


@pytest.mark.parametrize(
    ("line", "error", "remedy"),
    [("CUDA initialization failure with error: 35", MachineError, "driver"),
     ("Cuda Runtime (In x (cudaError 35: CUDA driver version", MachineError, "driver"),
     ("Could not find any implementation for node stem/Conv.", InputError, "--skip-stem"),
     ("... FP32 GEMM is not supported. In compileGraph", InputError, "--precision fp16"),
     ("Version tag does not match. Note: Current Version: 213", MachineError, "again"),
     ("Target GPU SM 87 is not supported by this TensorRT release", MachineError, "JetPack"),
     ("KTM assertion failure", MachineError, "--optimization-level 3")],
)  # fmt: skip
def test_known_messages_are_translated(line: str, error: type[Exception], remedy: str) -> None:
    told = explain(["something else", line], "no engine")
    assert isinstance(told, error)
    assert remedy in told.remedy
    assert line[:40] in told.what


def test_an_unknown_message_is_quoted_and_silence_admitted() -> None:
    assert "weird thing" in explain(["weird\nthing"], "no engine").what
    assert "\n" not in explain(["weird\nthing"], "no engine").what
    assert "no reason" in explain([], "no engine").what


def test_a_summary_that_the_version_does_not_give_is_none() -> None:
    from edgedense.build.tensorrt import told_bytes

    journal = Journal(
        news=["Total Activation Memory: 10 bytes", "Total Activation Memory: 20 bytes"]
    )
    assert told_bytes(journal, "Total Activation Memory") == 20
    assert told_bytes(journal, "Total Weights Memory") is None
    assert told_bytes(Journal(news=["Total Weights Memory: many"]), "Total Weights Memory") is None
