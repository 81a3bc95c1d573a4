from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from nets import tiny, trained
from onnx import numpy_helper

from edgedense.build import cpu
from edgedense.build.cpu import build_cpu
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower

INTERFACE = Interface("images", (3, 8, 8), "logits", (3,))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "fp32.onnx"
    export_onnx(lower(trained(tiny()), (8, 8)), path, "fp32", {})
    return path


def test_the_engine_is_the_onnx_file(source: Path, tmp_path: Path) -> None:
    built = build_cpu(source, tmp_path / "model.onnx", "fp32", INTERFACE)
    assert built.file == tmp_path / "model.onnx"
    assert built.file.read_bytes() == source.read_bytes()
    assert built.runtime_version == onnxruntime.__version__
    arrays = [numpy_helper.to_array(i) for i in onnx.load(source).graph.initializer]
    assert built.weights_bytes == sum(array.nbytes for array in arrays)
    assert built.warnings == ()


def test_fp16_on_a_cpu_comes_with_a_warning(source: Path, tmp_path: Path) -> None:
    (warning,) = build_cpu(source, tmp_path / "model.onnx", "fp16", INTERFACE).warnings
    assert "slow" in warning


def test_without_onnx_the_weights_are_not_known(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "installed", lambda module: module != "onnx")
    built = build_cpu(source, tmp_path / "model.onnx", "int8", INTERFACE)
    assert built.weights_bytes is None


def test_a_broken_onnx_is_bad_input(source: Path, tmp_path: Path) -> None:
    source.write_bytes(source.read_bytes()[:200])
    with pytest.raises(InputError, match="ONNX Runtime cannot load it"):
        build_cpu(source, tmp_path / "model.onnx", "int8", INTERFACE)
