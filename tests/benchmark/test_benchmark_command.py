"""``edgedense benchmark`` as scripts and people see it."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedense import artifact
from edgedense.benchmark import BenchmarkReport

QUICK = ("--iterations", 20, "--min-seconds", 0, "--max-seconds", 2, "--warm-up", 0)
Call = Callable[..., Any]


@pytest.fixture
def unstable(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say that all measurements from now on are or are not stable."""

    def say(value: bool) -> None:
        found = ("it shakes",) if value else ()
        for place in ("report", "sweep"):
            module = importlib.import_module(f"edgedense.benchmark.{place}")
            monkeypatch.setattr(module, "unstable_reasons", lambda *_, **__: found)

    return say


def test_unstable_is_exit_1_unless_allowed(
    made: Any, edgedense: Call, unstable: Callable[[bool], None]
) -> None:
    for sweep in ((), ("--batches", "1,2")):
        words = ["benchmark", made.engine, *QUICK, *sweep]
        unstable(True)
        ended = edgedense(*words, "--json")
        assert ended.code == 1
        found = json.loads(ended.out)
        assert found["stable"] is False
        assert any("it shakes" in reason for reason in found["reasons"])
        ended = edgedense(*words)
        assert ended.code == 1
        assert "UNSTABLE" in ended.err
        assert "it shakes" in ended.err
        assert edgedense(*words, "--allow-unstable").code == 0
        unstable(False)
        ended = edgedense(*words)
        assert (ended.code, "UNSTABLE" in ended.err) == (0, False)


def test_a_result_that_shakes_is_kept_all_the_same(
    made: Any, edgedense: Call, unstable: Callable[[bool], None], tmp_path: Path
) -> None:
    unstable(True)
    kept = ["-o", tmp_path / "out", "--export", tmp_path / "s.csv"]
    assert edgedense("benchmark", made.engine, *QUICK, *kept).code == 1
    report = artifact.read(tmp_path / "out").manifest.report
    assert report["reasons"] == ["it shakes"]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == report["iterations"] + 1


def test_an_interrupt_says_what_is_kept(
    made: Any, edgedense: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedense.benchmark.benchmark", stopped)
    words = ["benchmark", made.engine, *QUICK]
    ended = edgedense(*words)
    assert (ended.code, ended.error[0]) == (130, "error: interrupted")
    assert ended.error[1] == "  → Nothing is kept: the same command again starts anew."
    for output in (("-o", tmp_path / "out"), (f"--output={tmp_path / 'out'}",)):
        assert "the same command again does the rest" in edgedense(*words, *output).error[1]
    assert list(tmp_path.iterdir()) == []


def test_two_engines_by_name_in_fresh_processes(
    tiny: Any, made: Any, edgedense: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    other = Path(shutil.copytree(made.engine, tmp_path / "before"))
    words = ["benchmark", made.engine, "--against", other, "--repeats", 2, *QUICK]
    ended = edgedense(*words, "--allow-unstable", "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert f"{made.engine.name} (cpu int8)" in ended.err
    assert "before (cpu int8)" in ended.err
    assert "2 fresh processes each, taking turns" in ended.err
    assert "p90: not enough samples (40; 64 are needed)." in ended.err
    assert max(map(len, ended.err.splitlines())) <= 80
    kept = json.loads(artifact.read(tmp_path / "out").file("samples.json").read_text())
    assert len(kept["samples_repeats"]) == len(kept["against_repeats"]) == 2
    assert sum(kept["against_repeats"]) == len(kept["against_ms"])


def test_two_engines_in_this_process(made: Any, edgedense: Call) -> None:
    words = ["--against", made.engine, "--same-process", "--allow-unstable", "--json", *QUICK]
    ended = edgedense("benchmark", made.engine, *words)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["against"]["engine_name"] == found["engine_name"]
    assert found["fresh_processes"] is False
    assert found["state"]["interleaved"] is True
    assert found["phases"] is None


def test_the_error_of_a_child_is_told_in_two_lines(
    made: Any, edgedense: Call, tmp_path: Path
) -> None:
    (tmp_path / "net.pth").write_bytes(b"no network")
    words = ["--against", tmp_path / "net.pth", "-o", tmp_path / "out", *QUICK]
    ended = edgedense("benchmark", made.engine, *words)
    assert ended.code == 2
    assert len(ended.error) == 2
    assert "net.pth" in ended.error[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth"]


def test_engines_of_other_images_are_refused_before_the_work(
    made: Any, edgedense: Call, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(made.engine, tmp_path / "other"))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["interface"]["input_shape"] = [3, 9, 9]
    (other / "manifest.json").write_text(json.dumps(manifest))
    ended = edgedense("benchmark", made.engine, "--against", other, *QUICK)
    assert ended.code == 2
    assert "takes images of (3, 8, 8), but other (cpu int8) of (3, 9, 9)" in ended.err


def test_a_table_of_batches_and_streams(
    made: Any,
    edgedense: Call,
    unstable: Callable[[bool], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    unstable(False)
    words = ["benchmark", made.engine, *QUICK, "--batches", "1,2", "--streams", "1,2"]
    ended = edgedense(*words, "--max-latency-ms", 1e9, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert max(map(len, ended.err.splitlines())) <= 80
    kept = json.loads(artifact.read(tmp_path / "out").file("samples.json").read_text())
    assert [(c["batch"], c["streams"]) for c in kept["cells"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    ended = edgedense(*words, "--max-latency-ms", 1e-9, "--json")
    found = json.loads(ended.out)
    assert (ended.code, found["within_limit"]) == (1, False)
    assert len(found["cells"]) == 4
    assert all(cell["throughput_ips"] > 0 for cell in found["cells"])
    only_batches = edgedense("benchmark", made.engine, *QUICK, "--batches", "2", "--json")
    assert [cell["streams"] for cell in json.loads(only_batches.out)["cells"]] == [1]


def test_a_dry_run_measures_nothing(
    made: Any, tiny: Any, edgedense: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("edgedense.benchmark.subject.open_engine", never)
    dry = ["benchmark", made.engine, "--dry-run", "-o", tmp_path / "out", "--json"]
    alone = json.loads(edgedense(*dry).out)
    assert (alone["fresh_processes"], len(alone["measurements"])) == (False, 1)
    assert alone["seconds_at_least"] >= 10.5
    both = json.loads(edgedense(*dry, "--against", tiny.checkpoint).out)
    assert both["fresh_processes"]
    assert both["interleaved"]
    names = both["measurements"]
    assert len(names) == 12
    assert names[:4] == [names[0], names[1], names[1], names[0]]
    assert both["seconds_at_most"] >= 12 * 30.5
    cells = json.loads(edgedense(*dry, "--batches", "1,2", "--streams", "1,2,4").out)
    assert len(cells["measurements"]) == 6
    assert list(tmp_path.iterdir()) == []
    text = edgedense(*dry[:-1], "--against", tiny.checkpoint).err
    assert "A B B A A B B A A B B A" in text
    assert "B: net.pth (PyTorch fp32)" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--repeats", 2, "--same-process"], "--same-process wants none"),
        (["--batches", "1,2", "--repeats", 2], "--repeats with --batches"),
        (["--max-latency-ms", 5], "chooses from a table"),
        (["--batches", "0,1"], "0 is not in the range"),
        (["--streams", "two"], "two"),
        (["--batches", "1,64"], "batch 64 is outside the engine's range"),
        (["--batches", "1", "--max-latency-ms", "nan"], "not positive"),
        (["--export", "samples.txt"], "samples.txt: samples are written as"),
        (["--warm-up", -1], "warm-up of -1 seconds"),
        (["--against", "nowhere"], "nowhere: no such file or artifact"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[object], said: str, made: Any, edgedense: Call, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ended = edgedense("benchmark", made.engine, *QUICK, *words)
    assert ended.code == 2, ended.err
    assert said in ended.err
    assert len(ended.error) == 2
    assert list(tmp_path.iterdir()) == []


def test_phases_are_rows_of_the_table(
    edgedense: Call, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.benchmark.measure import PhaseSamples

    zero = np.zeros(700)
    phases = PhaseSamples(zero + 0.25, zero + 1.5, zero + 0.125)
    state = {"runtime": "tensorrt", "version": "10.3", "warm_up_seconds": 0.5, "threads": 4}
    state |= {"copies": "in and out included", "cuda_graph": True, "spin_wait": "auto"}
    report = BenchmarkReport("e", 1, np.full(700, 2_000_000), state=state, phases=phases)
    monkeypatch.setattr("edgedense.benchmark.benchmark", lambda *_, **__: report)
    monkeypatch.setenv("COLUMNS", "80")
    ended = edgedense("benchmark", made.engine)
    assert ended.code == 0, ended.err
    rows = {line.split("  ")[1].strip(): line for line in ended.err.splitlines() if "  " in line}
    assert "0.250" in rows["copy in"]
    assert "1.500" in rows["compute"]
    assert "CUDA graph on, spin wait auto" in ended.err.replace("\n ", "")
    assert "GPU Compute Time" in ended.err
    assert max(map(len, ended.err.splitlines())) <= 80
