"""``edgedense validate`` in CI: plans, baselines, summaries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]


@pytest.fixture
def words(tiny: Any, made: Any) -> list[object]:
    return ["validate", made.engine, "--data", tiny.test, "--max-drop", 5]


@pytest.fixture
def written(words: list[object], edgedense: Call, tmp_path: Path) -> Path:
    path = tmp_path / "baselines" / "tiny.json"
    assert edgedense(*words, "--write-baseline", path, "--no-latency").code == 0
    return path


def changed(path: Path, **identity: object) -> Path:
    found = json.loads(path.read_text())
    found["identity"].update(identity)
    path.write_text(json.dumps(found))
    return path


def test_what_the_set_can_show_is_said_before_it_runs(words: list[object], edgedense: Call) -> None:
    ended = edgedense(*words)
    said = ended.err.splitlines()
    planned = next(k for k, line in enumerate(said) if "180 images can exclude drops" in line)
    assert planned < next(k for k, line in enumerate(said) if line.strip() == "validate (180)")
    hopeless = edgedense(*words[:-1], 0.5)
    assert hopeless.code == 1
    assert "cannot pass --max-drop 0.5 even if no answer differs" in hopeless.err


def test_a_baseline_holds_latency_only_where_it_may(
    words: list[object], edgedense: Call, tmp_path: Path, written: Path
) -> None:
    assert json.loads(written.read_text())["timing"] is None
    timed = tmp_path / "timed.json"
    assert edgedense(*words, "--write-baseline", timed).code == 0
    assert json.loads(timed.read_text())["timing"]["p50_ms"] > 0
    ended = edgedense(*words, "--baseline", timed, "--max-slowdown", 1e6)
    assert ended.code == 0, ended.err
    assert "ms then" in ended.err
    without = edgedense(*words, "--baseline", timed, "--no-latency")
    assert "ms then" not in without.err


def test_the_same_engine_and_another_one(
    tiny: Any, made: Any, words: list[object], edgedense: Call, tmp_path: Path, written: Path
) -> None:
    same = edgedense(*words, "--baseline", written)
    assert same.code == 0
    assert "the same engine" in same.err
    # another engine of the same network, target and precision: what a regression check is for
    again = ["quantize", tiny.checkpoint, "-o", tmp_path / "int8", "--calibrator", "max"]
    more = ["--calib", tiny.train, "--preprocess", tiny.toml, "--eval", tiny.test]
    assert edgedense(*again, *more, "--reference", tiny.checkpoint).code == 0
    assert edgedense("build-engine", tmp_path / "int8", "-o", tmp_path / "engine").code == 0
    ended = edgedense(
        "validate", tmp_path / "engine", *words[2:], "--baseline", written, "--no-latency"
    )
    assert ended.code == 0, ended.err
    assert "another engine" in ended.err


def test_another_precision_is_exit_2_unless_forced(
    made: Any, words: list[object], edgedense: Call, tmp_path: Path, written: Path
) -> None:
    engine = tmp_path / "fp32"
    build = ["build-engine", made.quantized, "-o", engine, "--precision", "fp32"]
    assert edgedense(*build).code == 0
    asked = ["validate", engine, *words[2:], "--baseline", written]
    ended = edgedense(*asked)
    assert ended.code == 2
    assert "another precision: int8 then, fp32 now" in ended.error[0]
    assert "--force" in ended.error[1]
    assert edgedense(*asked, "--force").code == 0


@pytest.mark.parametrize("what", ["device", "network", "target"])
def test_baselines_of_elsewhere_are_exit_2_unless_forced(
    words: list[object], edgedense: Call, written: Path, what: str
) -> None:
    changed(written, **{what: "another"})
    ended = edgedense(*words, "--baseline", written)
    assert ended.code == 2
    assert f"another {what}: another then" in ended.error[0]
    assert "images can exclude" not in ended.err  # before anything ran
    assert edgedense(*words, "--baseline", written, "--force").code == 0


def test_the_artifact_says_which_baseline_it_was_held_against(
    tiny: Any, words: list[object], edgedense: Call, tmp_path: Path, written: Path
) -> None:
    from edgedense.artifact import read, sha256_file
    from edgedense.report import Raw, read_run
    from edgedense.report.commands import commands

    run = tmp_path / "run"
    asked = ["--reference", tiny.checkpoint, "--baseline", written, "--max-regression", 0.5]
    assert edgedense(*words, *asked, "--no-latency", "-o", run / "validate-x").code == 0
    manifest = read(run / "validate-x").manifest
    assert manifest.parents["baseline"] == sha256_file(written)
    assert (manifest.options["baseline"], manifest.options["max_regression_pp"]) == (
        *("tiny.json", 0.5),
    )
    again = "\n".join(commands(read_run(run), Raw()))
    for said in (
        "--baseline tiny.json --max-regression 0.5",
        "--no-latency",
        '--reference "$MODEL"',
    ):
        assert said in again


def test_a_regression_is_exit_1(
    tiny: Any, made: Any, words: list[object], edgedense: Call, written: Path
) -> None:
    found = json.loads(written.read_text())
    # the engine is right everywhere, so only the way back can be told from chance
    found["correct"] = np.packbits(np.arange(180) % 3 > 0).tobytes().hex()
    written.write_text(json.dumps(found))
    better = edgedense(*words, "--baseline", written)
    assert better.code == 0
    assert "drop since then -33.33 pp" in better.err
    swapped = ["validate", _worse(made.engine, written.parent / "worse"), *words[2:-1], 100]
    ended = edgedense(*swapped, "--baseline", written, "--no-latency")
    assert ended.code == 1, ended.err
    assert "a regression (tolerance 0 pp)" in ended.err
    assert edgedense(*swapped, "--baseline", written, "--max-regression", 90).code == 0


def _worse(engine: Path, to: Path) -> Path:
    """The engine, but always of one opinion, with hashes that fit."""
    import shutil

    import onnx
    from onnx import numpy_helper

    from edgedense.artifact import sha256_file

    shutil.copytree(engine, to)
    model = onnx.load(to / "model.onnx")
    (output,) = model.graph.output
    bias = numpy_helper.from_array(np.array([1e4, 0, 0], np.float32), "test_bias")
    model.graph.initializer.append(bias)
    node = next(n for n in model.graph.node if output.name in n.output)
    node.output[list(node.output).index(output.name)] = "test_inner"
    model.graph.node.append(
        onnx.helper.make_node("Add", ["test_inner", "test_bias"], [output.name], "test_add")
    )
    onnx.save(model, to / "model.onnx")
    manifest = json.loads((to / "manifest.json").read_text())
    record = {"sha256": sha256_file(to / "model.onnx"), "bytes": (to / "model.onnx").stat().st_size}
    manifest["files"]["model.onnx"] = record
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def test_a_speedup_without_a_network_is_refused_before_the_work(
    words: list[object], edgedense: Call
) -> None:
    ended = edgedense(*words, "--min-speedup", 2)
    assert ended.code == 2
    assert "--reference MODEL" in ended.error[1]
    assert "validate (180)" not in ended.err


@pytest.mark.parametrize(
    "more", [["--max-regression", -1], ["--max-slowdown", -1], ["--max-slowdown", "nan"]]
)
def test_tolerances_out_of_range_are_exit_2(
    words: list[object], edgedense: Call, more: list[object]
) -> None:
    ended = edgedense(*words, *more)
    assert ended.code == 2
    assert more[0] in ended.error[0]


def test_the_summary_is_appended_also_where_nothing_was_judged(
    words: list[object], edgedense: Call, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Of another step\n")
    assert edgedense(*words, "--summary", summary).code == 0
    missing = ["validate", tmp_path / "nowhere", *words[2:]]
    assert edgedense(*missing, "--summary", summary).code == 2
    said = summary.read_text()
    assert said.startswith("# Of another step\n### ✅ edgedense: ")
    assert "was not judged" in said
    assert "an artifact is wanted" in said
