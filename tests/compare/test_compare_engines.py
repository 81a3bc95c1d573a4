"""Two real engines on this machine, from the command line: a rehearsal of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense import artifact
from edgedense.build import BuildOptions, build_engine


@pytest.fixture(scope="module")
def fp32(made: Any) -> Path:
    path: Path = made.engine.parent / "engine-fp32-compared"
    build_engine(artifact.read(made.quantized), path, BuildOptions("cpu", precision="fp32"))
    return path


def test_int8_against_fp32_on_the_processor(
    made: Any, fp32: Path, tiny: Any, tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    ended = edgedense(
        *("compare", fp32, made.engine, "--data", tiny.test, "--max-drop", "5"),
        *("--repeats", "2", "--max-seconds", "0.05", "-o", tmp_path / "answer", "--json"),
    )
    told = json.loads(ended.out)
    assert told["labels"] == ["INT8", "FP32"]
    assert told["rehearsal"]
    assert told["samples"] == 180
    # with two repeats of a moment anything may come out, but it has to be consistent
    assert ended.code == (0 if told["ship"] else 1)
    for side in ("candidate", "incumbent"):
        assert told[side]["verdict"] == "pass"
        assert told["latency"][side]["p50_ms"] > 0
    # the FP32 engine is the reference itself: the drops are the same numbers
    assert told["incumbent"]["drop_pp"] == 0.0
    assert told["between"]["drop_pp"] == pytest.approx(told["candidate"]["drop_pp"])
    assert told["speedup_ci95"][0] <= told["speedup"] <= told["speedup_ci95"][1]
    kept = artifact.read(tmp_path / "answer").manifest
    assert kept.report == told
    assert {"first", "second", "data"} <= set(kept.parents)


def test_an_engine_is_not_compared_with_itself(
    made: Any, tiny: Any, edgedense: Callable[..., Any]
) -> None:
    ended = edgedense("compare", made.engine, made.engine, "--data", tiny.test)
    assert ended.code == 2
    assert "same engine" in ended.err
