"""What scripts rely on: JSON keys, streams and exit codes of every command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedense.cli.main import SECTIONS, cli
from edgedense.environment import has_gpu, installed

KEYS = {
    "inspect": "family scheme block_config growth_rate params macs num_classes input_shape",
    "import": "scheme family task activation num_classes params macs input_size preprocess notes "
    "seconds artifact",
    "prune": "macs_before macs_after params_before params_after seconds artifact",
    "quantize": "onnx placement calibrator images sqnr_db seconds artifact",
    "build-engine": "engine backend target precision engine_bytes weights_bytes activation_bytes "
    "seconds artifact",
    "benchmark": "batch iterations p50_ms p90_ms p99_ms throughput_ips cov stable device",
    "validate": "samples reference engine drop_pp drop_ci95 agreement logit_sqnr_db verdict "
    "reasons",
    "sweep": "run points cached stages seconds",
    "profile-target": "target table rows lost call_us seconds runtime device",
}
QUICK = ("--iterations", 20, "--max-seconds", 0.1, "--allow-unstable")


def words_for(command: str, tiny: Any, made: Any, out: Path) -> list[object]:
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml]
    return {
        "inspect": [tiny.checkpoint],
        "import": [tiny.checkpoint, "-o", out, "--preprocess", tiny.toml],
        "prune": [tiny.checkpoint, "-o", out, "--macs", 0.8, *calib],
        "quantize": [tiny.checkpoint, "-o", out, *calib],
        "build-engine": [made.quantized, "-o", out],
        "benchmark": [made.engine, *QUICK],
        "validate": [made.engine, "--data", tiny.test, "--max-drop", 5],
        # the object of a whole sweep: tests/pipeline/test_sweep.py
        "sweep": [tiny.checkpoint, "-o", out, "--eval", tiny.test, *calib, "--dry-run"],
        "profile-target": ["--target", "cpu", "--quick", "-o", out],
    }[command]


@pytest.mark.parametrize("command", KEYS)
def test_json_is_one_object_with_the_agreed_keys(
    command: str, tiny: Any, made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    ended = edgedense(command, *words_for(command, tiny, made, tmp_path / "out"), "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)  # one object and nothing beside it
    assert set(KEYS[command].split()) <= set(found)
    if command in ("import", "prune", "quantize", "build-engine"):
        assert found["artifact"] == str(tmp_path / "out")
        report = json.loads((tmp_path / "out" / "manifest.json").read_text())["report"]
        assert report == found  # what was printed is what was kept


@pytest.mark.parametrize("command", KEYS)
def test_without_json_stdout_is_empty(
    command: str, tiny: Any, made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    ended = edgedense(command, *words_for(command, tiny, made, tmp_path / "out"))
    assert (ended.code, ended.out) == (0, "")
    assert len(ended.err.splitlines()) >= 3
    assert "\x1b" not in ended.err


def test_values_of_json(tiny: Any, made: Any, edgedense: Callable[..., Any]) -> None:
    found = json.loads(edgedense("inspect", tiny.checkpoint, "--json").out)
    assert found["family"].startswith("DenseNet")
    assert (found["block_config"], found["growth_rate"]) == ([2, 2], 8)
    assert (found["num_classes"], found["input_shape"][0]) == (3, 3)
    judged = json.loads(edgedense("validate", made.engine, "--data", tiny.test, "--json").out)
    assert judged["samples"] == 180
    assert judged["reference"]["top1"] == judged["engine"]["top1"] == 100
    assert judged["agreement"] == 100
    timed = json.loads(edgedense("benchmark", made.engine, *QUICK, "--json").out)
    known = [timed[key] for key in ("p50_ms", "p90_ms", "p99_ms") if timed[key] is not None]
    assert known
    assert known == sorted(known)  # a busy machine gives too few calls for the later ones


def test_json_of_the_commands_about_the_machine(edgedense: Callable[..., Any]) -> None:
    targets = json.loads(edgedense("targets", "--json").out)["targets"]
    assert {"cpu", "rtx-ada", "jetson-orin-nano"} <= {target["name"] for target in targets}
    assert json.loads(edgedense("doctor", "--json").out)["packages"]["numpy"] == np.__version__


def test_latency_gate_adds_its_keys(
    tiny: Any, made: Any, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense import benchmark

    quick = benchmark.BenchmarkOptions(iterations=20, min_seconds=0, warmup_seconds=0)
    plain = benchmark.compare
    monkeypatch.setattr(benchmark, "compare", lambda a, b, _, progress: plain(a, b, quick))
    gates = ["--max-drop", 5, "--min-speedup"]
    words = ["validate", made.engine, "--data", tiny.test, "--reference", tiny.checkpoint, *gates]
    slow, fast = edgedense(*words, 0.001, "--json"), edgedense(*words, 1e6, "--json")
    assert (slow.code, fast.code) == (0, 1)
    assert {"speedup", "speedup_ci95"} <= set(json.loads(slow.out))
    assert json.loads(fast.out)["verdict"] == "fail"


def test_exit_1_where_the_engine_is_not_the_reference(
    tiny: Any, made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    import torch

    state = torch.load(tiny.checkpoint, weights_only=True)
    state["classifier.weight"] = state["classifier.weight"].roll(1, dims=0)
    state["classifier.bias"] = state["classifier.bias"].roll(1, dims=0)
    torch.save(state, tmp_path / "other.pth")
    # the engine is right and the reference wrong: no drop at all, but the two disagree
    other = ["--reference", tmp_path / "other.pth"]
    ended = edgedense("validate", made.engine, "--data", tiny.test, *other, "--json")
    found = json.loads(ended.out)
    assert ended.code == 0
    assert found["agreement"] == 0
    assert found["drop_pp"] == -100
    # the other way round the gate fails
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml, "--reference", tiny.checkpoint]
    wrong = ["quantize", tmp_path / "other.pth", "-o", tmp_path / "int8", "--eval", tiny.test]
    assert edgedense(*wrong, *calib).code == 0
    assert edgedense("build-engine", tmp_path / "int8", "-o", tmp_path / "engine").code == 0
    ended = edgedense("validate", tmp_path / "engine", "--data", tiny.test, "-o", tmp_path / "v")
    assert ended.code == 1
    assert "verdict: FAIL" in ended.err
    assert "100.00 pp" in ended.err
    assert (tmp_path / "v" / "manifest.json").exists()  # a failed gate is a result


@pytest.mark.skipif(installed("tensorrt"), reason="this machine could build it")
def test_exit_3_names_the_command_for_the_device(
    made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = [made.quantized, "-o", tmp_path / "engine", "--target", "jetson-orin-nano"]
    ended = edgedense("build-engine", *words)
    assert ended.code == 3
    assert "edgedense build-engine int8 -o engine --target jetson-orin-nano" in ended.error[1]
    assert len(ended.error) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_exit_3_where_an_engine_has_no_gpu_to_run_on(
    tiny: Any, made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    engine = tmp_path / "ada"
    built = edgedense("build-engine", made.quantized, "-o", engine, "--target", "rtx-ada", "--json")
    assert (built.code, json.loads(built.out)["backend"]) == (0, "tensorrt-rtx")
    for words in (["benchmark", engine], ["validate", engine, "--data", tiny.test]):
        ended = edgedense(*words, "--json")
        assert ended.code == 3
        assert json.loads(ended.out)["exit_code"] == 3
        assert len(ended.err.splitlines()) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "nowhere.pth"],
        ["deploy", "nowhere.pth"],
        ["quantize", "a.pth", "--colour", "red"],
        ["prune", "a.pth", "-o", "b", "--macs", "much"],
        ["prune", "a.pth", "-o", "b", "--latency-ms", "2"],
        ["prune", "a.pth", "-o", "b", "--latency-ms", "2", "--target", "cpu", "--macs", "0.5"],
        ["prune", "a.pth", "-o", "b", "--target", "cpu", "--latency-table", "t.json"],
        ["profile-target", "--target", "toaster", "-o", "t.json"],
        ["validate", "nowhere", "--data", "nowhere"],
        ["build-engine", "nowhere", "-o", "out", "--batch", "8:1"],
        ["build-engine", "nowhere", "-o", "out", "--target", "toaster"],
        ["report", "nowhere"],
        ["cook"],
        ["--colour"],
    ],
    ids=" ".join,
)
def test_bad_usage_is_exit_2_in_two_lines(
    words: list[str], edgedense: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = edgedense(*words)
    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  → ")
    told = edgedense(*words, "--json")
    assert json.loads(told.out) == {
        "error": lines[0].removeprefix("error: "),
        "remedy": lines[1].removeprefix("  → "),
        "exit_code": 2,
    }
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", cli.commands)
def test_help_shows_examples_that_parse(
    command: str, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = edgedense(command, "--help")
    assert ended.code == 0
    assert "--json" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    shown = re.search(r"Examples?:  (edgedense .*(?:\n {8,}\S.*)*)", ended.out)
    assert shown, ended.out
    examples = [words.split() for words in re.split(r"\bedgedense ", shown[1]) if words]
    assert examples[0][0] == command
    for name, *words in examples:
        assert cli.commands[name].make_context(name, words).params


def test_no_words_show_the_help(edgedense: Callable[..., Any]) -> None:
    ended = edgedense()
    assert ended.code == 0
    assert ended.out == edgedense("--help").out


def test_a_bug_is_exit_70_with_its_traceback(
    edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense import doctor

    def broken() -> None:
        raise ZeroDivisionError("by surprise")

    monkeypatch.setattr(doctor, "examine", broken)
    ended = edgedense("doctor", "--json")
    assert (ended.code, json.loads(ended.out)["exit_code"]) == (70, 70)
    assert "ZeroDivisionError: by surprise" in ended.err


def test_tables_hold_together_at_80_columns(
    tiny: Any, made: Any, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["targets"], ["doctor"], ["benchmark", made.engine, *QUICK]):
        ended = edgedense(*words)
        assert ended.code == 0
        table = [line for line in ended.err.splitlines() if "  " in line.strip()]
        assert table
        assert max(map(len, table)) <= 80


def test_names_to_copy_are_never_folded(
    edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.targets import TARGETS

    monkeypatch.setenv("COLUMNS", "80")
    lines = edgedense("targets").err.splitlines()
    first_words = {line.split()[0] for line in lines if line[:1].strip()}
    assert {target.name for target in TARGETS} <= first_words


def test_every_command_has_a_whole_sentence_in_the_list(
    edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = edgedense("--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 48
    listed = lines[lines.index(f"{next(iter(SECTIONS))}:") :]
    headings = [line for line in listed if not line.startswith(" ")]
    assert headings == [f"{name}:" for name in SECTIONS]
    told = [line for line in listed if line.startswith(" ")]
    assert [line.split()[0] for line in told] == list(cli.commands)
    assert not [line for line in told if not line.endswith(".") or line.endswith("...")]


def test_the_order_of_work_names_every_step(edgedense: Callable[..., Any]) -> None:
    told = edgedense().out.partition("Options:")[0]
    steps = "train inspect prune finetune quantize lint build-engine layers benchmark validate "
    steps += "report deploy pack run-bundle export-triton sweep demo"
    places = [told.index(f" {step}") for step in steps.split()]
    assert places == sorted(places)


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_a_plan_tells_what_this_machine_cannot_do(
    tiny: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["--calib", tiny.train, "--eval", tiny.test, "--preprocess", tiny.toml, "--dry-run"]
    both = ["--target", "cpu", "--target", "t4", "-o", tmp_path / "run"]
    ended = edgedense("deploy", tiny.checkpoint, *words, *both, "--json")
    plan = {line["stage"]: line["here"] for line in json.loads(ended.out)["plan"]}
    assert {stage for stage, here in plan.items() if not here} == {
        *("engine-t4", "benchmark-t4", "validate-t4")
    }
    rows = edgedense("deploy", tiny.checkpoint, *words, *both).err.splitlines()
    last = {row.split()[0]: row.split()[-1] for row in rows if "-" in row}
    assert (last["engine-cpu"], last["engine-t4"]) == ("do", "elsewhere")


def test_whoever_stops_reading_gets_no_traceback() -> None:
    script = [sys.executable, "-c", "from edgedense.cli import main; main()", "targets", "--json"]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert err == b""


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("plain", [True, False])
def test_no_colour_is_obeyed_on_a_terminal(plain: bool) -> None:
    import pty

    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if plain else {})
    outer, inner = pty.openpty()
    script = [sys.executable, "-c", "from edgedense.cli import main; main()", "targets"]
    subprocess.run(script, stderr=inner, env=environment, check=True)
    os.close(inner)
    seen = b""
    try:
        while chunk := os.read(outer, 65536):
            seen += chunk
    except OSError:
        pass  # the other side is closed: that is the end
    os.close(outer)
    assert b"jetson-orin-nano" in seen
    assert re.search(rb"\x1b\[[0-9;]*[34][0-9]", seen) is None  # no colours at all
    assert (b"\x1b[" in seen) == (not plain)
