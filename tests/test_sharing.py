"""Calibration and evaluation by two processes must give what one gives, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.distributed import Finished, leave, share


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ended = subprocess.run(
        [*launcher, "--nproc_per_node", "2", "-m", "edgedense", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    return ended


def test_two_processes_quantize_and_validate_as_one_does(
    tiny: Any, made: Any, tmp_path: Path
) -> None:
    torchrun(
        *("quantize", tiny.checkpoint, "-o", tmp_path / "int8", "--calib", tiny.train),
        *("--eval", tiny.test, "--preprocess", tiny.toml),
    )
    for name in ("int8.fp32.onnx", "int8.fp16.onnx", "fp32.onnx", "calibration.json"):
        assert (tmp_path / "int8" / name).read_bytes() == (made.quantized / name).read_bytes(), name
    with (
        np.load(tmp_path / "int8" / "reference.npz") as two,
        np.load(made.quantized / "reference.npz") as one,
    ):
        for name in ("content", "labels", "logits"):
            np.testing.assert_array_equal(two[name], one[name])

    found = []
    for number, call in enumerate((alone, torchrun)):
        ended = call(
            *("validate", made.engine, "--data", tiny.test, "--max-drop", "10", "--json"),
            *("-o", tmp_path / f"v{number}"),
        )
        found.append(json.loads(ended.stdout))
    assert found[0] == found[1]
    with (
        np.load(tmp_path / "v0" / "predictions.npz") as one,
        np.load(tmp_path / "v1" / "predictions.npz") as two,
    ):
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name])


def alone(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgedense", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_a_command_that_shares_nothing_runs_once(tiny: Any, tmp_path: Path) -> None:
    ended = torchrun("prune", tiny.checkpoint, "-o", tmp_path / "p", "--keep-bn", "--align", "2",
                     "--preprocess", tiny.toml, "--json")  # fmt: skip
    assert json.loads(ended.stdout)["artifact"] == str(tmp_path / "p")


@given(st.integers(0, 40), st.integers(1, 7), st.integers(1, 5))
def test_shares_are_whole_batches_and_miss_nothing(count: int, chunk: int, size: int) -> None:
    items = list(range(count))
    batches = [items[start : start + chunk] for start in range(0, count, chunk)]
    dealt = []
    for rank in range(size):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RANK", str(rank))
            patch.setenv("WORLD_SIZE", str(size))
            mine = list(share(items, chunk))
        parts = [mine[start : start + chunk] for start in range(0, len(mine), chunk)]
        assert parts == batches[rank::size]
        dealt += mine
    assert sorted(dealt) == items


def test_other_processes_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Finished):
        leave()
