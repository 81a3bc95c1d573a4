from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import images, logits, relative_error, tiny, trained

from edgedense import artifact
from edgedense.artifact import calibration_content
from edgedense.densenet.spec import DenseNetSpec
from edgedense.engines import opening
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.opening import open_engine
from edgedense.engines.pytorch import TorchRunner
from edgedense.engines.runner import Interface
from edgedense.errors import InputError, MachineError
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower

SPEC: DenseNetSpec = tiny()
INTERFACE = Interface("images", (3, 8, 8), "logits", (3,))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "fp32.onnx"
    export_onnx(lower(trained(SPEC), (8, 8)), path, "fp32", {})
    return path


def engine(
    path: Path,
    payload: bytes,
    *,
    name: str = "model.onnx",
    backend: str = "onnxruntime",
    calibration: str | None = None,
) -> artifact.Artifact:
    with artifact.create(path, "build-engine", parents={}, options={}) as draft:
        (draft.path / name).write_bytes(payload)
        if calibration is not None:
            (draft.path / "calibration.json").write_text(calibration)
        draft.interface = INTERFACE.to_dict()
        draft.report = {"backend": backend, "target": "jetson-orin-nano"}
    return artifact.read(path)


@pytest.mark.parametrize("exact", [True, False])
def test_onnx_runner(onnx_file: Path, exact: bool) -> None:
    runner = OnnxRunner(onnx_file, INTERFACE, threads=1, exact=exact)
    for count in (1, 5):
        x = images(SPEC, count=count)
        assert relative_error(logits(trained(SPEC), x), runner(x)) < 1e-4
    assert (runner.name, runner.interface) == ("onnxruntime", INTERFACE)
    runner.close()
    runner.close()


@pytest.mark.parametrize("damage", ["half", "empty", "text", "absent"])
def test_a_file_that_onnx_runtime_cannot_load(damage: str, onnx_file: Path) -> None:
    data = onnx_file.read_bytes()
    broken = {"half": data[: len(data) // 2], "empty": b"", "text": b"not ONNX\n" * 9}
    onnx_file.unlink()
    if damage in broken:
        onnx_file.write_bytes(broken[damage])
    with pytest.raises(InputError, match="ONNX Runtime cannot load it") as caught:
        OnnxRunner(onnx_file, INTERFACE)
    assert str(onnx_file) in caught.value.what
    assert "\n" not in caught.value.what


def test_torch_runner_runs_in_eval_mode() -> None:
    network, x = trained(tiny(dropout=0.5)), images(SPEC)
    wanted = logits(network, x)
    runner = TorchRunner(network.train(), INTERFACE)
    np.testing.assert_array_equal(runner(x), wanted)
    assert runner(x).dtype == np.float32
    assert (runner.name, runner.interface) == ("pytorch-fp32", INTERFACE)
    runner.close()
    runner.close()


def test_a_cpu_engine_opens_and_runs(onnx_file: Path, tmp_path: Path) -> None:
    runner = open_engine(engine(tmp_path / "e", onnx_file.read_bytes()))
    x = images(SPEC)
    assert relative_error(logits(trained(SPEC), x), runner(x)) < 1e-4
    assert runner.interface == INTERFACE
    runner.close()


class Untouchable:
    """A runtime that may not be reached."""

    def __init__(self, *_: object, **__: object) -> None:
        raise AssertionError("a runtime was given bytes that nobody verified")


@pytest.mark.parametrize(
    ("backend", "name", "runtime"),
    [
        ("onnxruntime", "model.onnx", "edgedense.engines.onnxruntime.OnnxRunner"),
        ("tensorrt", "model.engine", "edgedense.engines.tensorrt.TensorRTRunner"),
        ("tensorrt-rtx", "model.engine", "edgedense.engines.tensorrt.TensorRTRunner"),
    ],
)
@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_changed_byte_never_reaches_a_runtime(
    backend: str,
    name: str,
    runtime: str,
    place: int,
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, Untouchable)
    monkeypatch.setattr(opening, "has_gpu", lambda: True)
    found = engine(tmp_path / "e", onnx_file.read_bytes(), name=name, backend=backend)
    with pytest.raises(AssertionError, match="nobody verified"):
        open_engine(found)  # untouched, it would be opened
    data = bytearray((found.path / name).read_bytes())
    data[place] ^= 1
    (found.path / name).write_bytes(data)
    with pytest.raises(InputError, match=r"contents differ from the manifest"):
        open_engine(artifact.read(found.path))


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_gpu_engine_without_a_gpu_says_where_to_go(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "has_gpu", lambda: False)
    with pytest.raises(MachineError, match="engine for jetson-orin-nano") as caught:
        open_engine(engine(tmp_path / "e", b"plan", name="model.engine", backend=backend))
    assert "Copy the directory to the machine that has it" in caught.value.remedy


def test_other_artifacts_are_no_engines(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "q", "quantize", parents={}, options={}):
        pass
    with pytest.raises(InputError, match="is a quantize artifact, not an engine") as caught:
        open_engine(artifact.read(tmp_path / "q"))
    assert "edgedense build-engine" in caught.value.remedy


def test_calibration_content(tmp_path: Path) -> None:
    known = engine(tmp_path / "a", b"x", calibration='{"content": ["p", "q"], "amax": {}}')
    assert calibration_content(known) == ("p", "q")
    assert calibration_content(engine(tmp_path / "b", b"x")) == ()
    (known.path / "calibration.json").write_text('{"content": []}')
    with pytest.raises(InputError, match="contents differ"):
        calibration_content(known)


@pytest.mark.parametrize(
    "text", ["", "junk", "[]", "3", "{}", '{"content": "ab"}', '{"content": [1]}', "[" * 90000]
)
def test_a_damaged_calibration_record_is_bad_input(text: str, tmp_path: Path) -> None:
    damaged = engine(tmp_path / "e", b"x", calibration=text)
    with pytest.raises(InputError, match=r"calibration\.json is damaged"):
        calibration_content(damaged)


@pytest.mark.parametrize(
    ("key", "value"),
    [("activation", {}), ("input_name", 3), ("layout", None), ("input_shape", [3, 8]),
     ("input_shape", "abc"), ("input_shape", [3, 0, 8]), ("output_shape", []),
     ("output_shape", [3.0]), ("batch", [1, 8]), ("batch", [8, 4, 1]), ("batch", "1:2:4"),
     ("dtype", "int8")],
)  # fmt: skip
def test_a_damaged_interface_is_bad_input(key: str, value: object, tmp_path: Path) -> None:
    """A manifest that came with a bundle may say anything."""
    with artifact.create(tmp_path / "e", "build-engine", parents={}, options={}) as draft:
        (draft.path / "model.onnx").write_bytes(b"")
        draft.interface = {**INTERFACE.to_dict(), key: value}
        draft.report = {"backend": "onnxruntime", "target": "cpu"}
    with pytest.raises(InputError, match="interface is damaged"):
        open_engine(artifact.read(tmp_path / "e"))
