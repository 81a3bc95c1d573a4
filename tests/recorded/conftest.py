from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded_api import CUDA_PYTHON, Api, Script

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.engines.runner import Interface


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Api]:
    """Install the fake of a version as tensorrt (or tensorrt_rtx), and a CUDA binding."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(
        version: str,
        script: Script | None = None,
        binding: str = "cuda-python",
        cuda_version: str = CUDA_PYTHON[-1],
    ) -> Api:
        fake = Api(version, script, cuda_version)
        modules = dict.fromkeys(("cuda.bindings", "cuda.bindings.driver", "pycuda"))
        modules[fake.trt.__name__] = fake.trt
        if binding == "pycuda":
            modules |= {"pycuda": types.ModuleType("pycuda"), "pycuda.driver": fake.pycuda}
        elif binding == "cuda-python":
            modules |= {
                "cuda.bindings": types.ModuleType("cuda.bindings"),
                "cuda.bindings.driver": fake.cuda_python,
            }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
            if module is not None:
                module.__spec__ = types.SimpleNamespace(name=name)
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


def answers(images: np.ndarray) -> np.ndarray:
    """What the fake engine computes."""
    return images.reshape(len(images), -1).mean(1)[:, None] * np.arange(1, 11, dtype=np.float32)


def _quantized(path: Path, dtype: str) -> None:
    with artifact.create(path, "quantize", parents={}, options={}) as draft:
        for name in ("fp32", "fp16", "int8.fp32", "int8.fp16"):
            (draft.path / f"{name}.onnx").write_bytes(name.encode())
        golden = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)
        np.savez(draft.path / "golden.npz", images=golden, logits=answers(golden))
        (draft.path / "calibration.json").write_text('{"content": []}')
        draft.interface = Interface("images", (3, 4, 4), "logits", (10,), dtype=dtype).to_dict()
        draft.model = {"num_classes": 10}
