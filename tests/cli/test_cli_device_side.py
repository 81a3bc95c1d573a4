"""A device has no torch: what runs there must not need it, nor what else is for workstations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense.environment import installed

ABSENT = ("torch", "torch_pruning", "onnx", "safetensors", "sklearn")
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from edgedense.cli import main
main()
"""


def on_device(*words: object) -> tuple[int, dict[str, Any], str]:
    script = [sys.executable, "-c", BLOCKED, *map(str, words), "--json"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_build_benchmark_and_validate_run_without_torch(
    tiny: Any, made: Any, tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    code, built, err = on_device("build-engine", made.quantized, "-o", engine, "--target", "cpu")
    assert (code, built.get("backend")) == (0, "onnxruntime"), err
    quick = ["--iterations", 20, "--max-seconds", 0.1, "--repeats", 2, "--allow-unstable"]
    words = [*quick, "-o", tmp_path / "latency"]
    code, timed, err = on_device("benchmark", engine, "--against", made.engine, *words)
    assert code == 0, err
    assert timed["speedup"] > 0
    code, judged, err = on_device("validate", engine, "--data", tiny.test, "--max-drop", 5)
    assert (code, judged.get("verdict")) == (0, "pass"), err
    assert judged["reference"]["top1"] == 100  # by the logits that travelled along


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_a_gpu_engine_is_built_without_torch(made: Any, tmp_path: Path) -> None:
    words = ["build-engine", made.quantized, "-o", tmp_path / "ada", "--target", "rtx-ada"]
    code, built, err = on_device(*words)
    assert (code, built.get("backend")) == (0, "tensorrt-rtx"), err


@pytest.mark.parametrize(
    ("command", "extra"),
    [("inspect", "compress"), ("prune", "compress"), ("quantize", "compress"), ("demo", "demo")],
)
def test_what_needs_more_names_the_extra_to_install(
    command: str, extra: str, tiny: Any, tmp_path: Path
) -> None:
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml]
    words = {
        "inspect": [tiny.checkpoint],
        "prune": [tiny.checkpoint, "-o", tmp_path / "out", *calib],
        "quantize": [tiny.checkpoint, "-o", tmp_path / "out", *calib],
        "demo": ["-o", tmp_path / "out"],
    }[command]
    code, told, err = on_device(command, *words)
    assert (code, told["exit_code"]) == (3, 3)
    assert f"pip install 'edgedense[{extra}]'" in told["remedy"]
    assert len(err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("quantize", "onnx"),
        ("quantize", "onnxruntime"),
        ("prune", "torch_pruning"),
        ("prune", "safetensors"),
        ("deploy", "onnx"),
        ("deploy", "onnxruntime"),
        ("build-engine", "onnxruntime"),
    ],
)
def test_one_missing_library_is_named_before_the_work(
    command: str,
    module: str,
    tiny: Any,
    made: Any,
    tmp_path: Path,
    edgedense: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgedense.environment.installed", lambda name: name != module)
    output = ["-o", tmp_path / "out", "--json"]
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml, *output]
    words = {
        "prune": [tiny.checkpoint, *calib],
        "quantize": [tiny.checkpoint, *calib],
        "deploy": [tiny.checkpoint, "--eval", tiny.test, "--macs", 0.8, *calib],
        "build-engine": [made.quantized, *output],
    }[command]
    ended = edgedense(command, *words)
    assert ended.code == 3, ended.err
    assert f"needs {module}," in json.loads(ended.out)["error"]
    assert list(tmp_path.iterdir()) == []
