from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_api import Api, Script

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.engines.runner import Interface


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    """Install the fake of a version as tensorrt (or tensorrt_rtx) and pycuda."""

    def install(version: str, script: Script | None = None) -> Api:
        fake = Api(version, script)
        for name, module in (
            (fake.trt.__name__, fake.trt),
            ("pycuda", types.ModuleType("pycuda")),
            ("pycuda.driver", fake.cuda),
        ):
            monkeypatch.setitem(sys.modules, name, module)
        for name in (fake.trt.__name__, "pycuda"):
            sys.modules[name].__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
        return fake

    return install


@pytest.fixture
def source(source_of: Callable[[str], Artifact]) -> Artifact:
    """A quantize artifact whose ONNX files are only names."""
    return source_of("float32")


@pytest.fixture
def source_of(tmp_path: Path) -> Callable[[str], Artifact]:
    """Such an artifact, made for a type of the ends."""

    def make(dtype: str) -> Artifact:
        _quantized(tmp_path / "quantized", dtype)
        return artifact.read(tmp_path / "quantized")

    return make


def _quantized(path: Path, dtype: str) -> None:
    with artifact.create(path, "quantize", parents={}, options={}) as draft:
        for name in ("fp32", "fp16", "int8.fp32", "int8.fp16"):
            (draft.path / f"{name}.onnx").write_bytes(name.encode())
        (draft.path / "golden.npz").write_bytes(b"golden")
        (draft.path / "calibration.json").write_text('{"content": []}')
        draft.interface = Interface("images", (3, 4, 4), "logits", (10,), dtype=dtype).to_dict()
        draft.model = {"num_classes": 10}
