"""Real signals to a real process, in the middle of every stage; calling again does the rest."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense import benchmark

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

STAGES = ("reference", "prune", "quantize", "engine-cpu", "benchmark-cpu", "validate-cpu")
# the command line as it is, but for a rest inside the stage that is to be interrupted: half of its
# artifact is written then
PAUSED = """
import contextlib, functools, os, sys, time
from edgedense import artifact, benchmark
from edgedense.cli import main

plain, place = artifact.create, sys.argv.pop(1)

@contextlib.contextmanager
def create(path, *words, **options):
    with plain(path, *words, **options) as draft:
        if path.name == place:
            (draft.path / "half").write_text("written")
            os.write(2, b"\\nPAUSED\\n")  # one write, not word by word
            time.sleep(60)
        yield draft

artifact.create = create
benchmark.BenchmarkOptions = functools.partial(
    benchmark.BenchmarkOptions, iterations=20, min_seconds=0, warmup_seconds=0
)
main()
"""


@pytest.fixture(autouse=True)
def quick_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(
        benchmark.BenchmarkOptions, iterations=20, min_seconds=0, warmup_seconds=0
    )
    monkeypatch.setattr(benchmark, "BenchmarkOptions", quick)


def words(tiny: Any, run: Path) -> list[str]:
    given = ["deploy", tiny.checkpoint, "--calib", tiny.train, "--eval", tiny.test]
    more = ["--preprocess", tiny.toml, "--macs", 0.8, "--max-drop", 5, "-o", run, "--json"]
    return [str(word) for word in [*given, *more]]


def interrupt(stage: str, number: signal.Signals, given: list[str]) -> tuple[int, str, str]:
    script = [sys.executable, "-c", PAUSED, stage, *given]
    process = subprocess.Popen(
        script,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line == "PAUSED\n":
            process.send_signal(number)
            break
    out, rest = process.communicate(timeout=60)
    return process.returncode, out, "".join(said) + rest


def finished(run: Path) -> set[str]:
    return {path.parent.name for path in run.glob("[!.]*/manifest.json")}


def visible(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


def test_an_interrupt_in_each_stage_loses_that_stage_alone(
    tiny: Any, tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    for done, stage in enumerate(STAGES):
        number = signal.SIGTERM if stage == "quantize" else signal.SIGINT
        code, out, err = interrupt(stage, number, words(tiny, run))
        assert code == 130, err
        assert json.loads(out)["error"] == "interrupted"
        assert "Traceback" not in err
        assert err.splitlines()[-2] == "error: interrupted"
        for earlier in STAGES[: max(0, done - 1)]:  # the stage just before was made in this call
            assert f"{earlier}: unchanged, reused" in err
        # a stage is there whole or not at all, and nothing hidden stays behind
        assert finished(run) == set(STAGES[:done])
        assert visible(run) == {*STAGES[:done], "run.json"}
    ended = edgedense(*words(tiny, run))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["reused"] == list(STAGES[:-1])
    assert visible(run) == {*STAGES, "run.json", "report.json", "report.md", "report.html"}


def test_a_killed_run_is_resumed_and_swept(
    tiny: Any, tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    code, _, _ = interrupt("quantize", signal.SIGKILL, words(tiny, run))
    assert code == -signal.SIGKILL
    assert finished(run) == {"reference", "prune"}
    assert [p for p in run.iterdir() if p.name.startswith(".quantize.partial-")]
    ended = edgedense(*words(tiny, run))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["reused"] == ["reference", "prune"]
    assert not [name for name in visible(run) if name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_stage_command_leaves_nothing(
    number: signal.Signals, made: Any, tmp_path: Path
) -> None:
    given = ["build-engine", str(made.quantized), "-o", str(tmp_path / "out")]
    code, out, err = interrupt("out", number, given)
    assert (code, out) == (130, "")
    assert err.splitlines()[-2:] == [
        "error: interrupted",
        "  → What was finished stays, nothing half-written does: the same command again does the "
        "rest.",
    ]
    assert list(tmp_path.iterdir()) == []
