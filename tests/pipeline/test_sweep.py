"""Real sweeps of a tiny network in real processes: failures, interrupts, resuming."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgedense import artifact
from edgedense.environment import installed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

# the command line as it is, in a file that the processes of a sweep load too: the stage whose name
# is in the environment rests when half of its artifact is written
SCRIPT = """
import contextlib, functools, os, sys, time
from edgedense import artifact, benchmark

plain = artifact.create

@contextlib.contextmanager
def create(path, *words, **options):
    with plain(path, *words, **options) as draft:
        if path.name == os.environ.get("REST_IN"):
            (draft.path / "half").write_text("written")
            # one write: unbuffered, print() writes word by word, and two processes share the pipe
            os.write(2, b"\\nRESTS %d\\n" % os.getpid())
            time.sleep(60)
        yield draft

artifact.create = create
benchmark.BenchmarkOptions = functools.partial(
    benchmark.BenchmarkOptions, iterations=20, min_seconds=0, warmup_seconds=0
)
if __name__ == "__main__":
    from edgedense.cli import main
    main()
"""
STAGES = (
    *("reference", "prune-0.8", "quantize-1-conv-fast", "quantize-1-block-fast"),
    *("quantize-0.8-conv-fast", "quantize-0.8-block-fast"),
)
POINTS = ("1-int8-conv-fast", "1-int8-block-fast", "0.8-int8-conv-fast", "0.8-int8-block-fast")
ALL = {*STAGES, *(f"{kind}-{p}" for kind in ("engine", "validate") for p in POINTS), "latency"}


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str

    @property
    def found(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


@dataclass(frozen=True)
class Sweeps:
    """Calls ``edgedense sweep`` on the tiny network in a process of its own."""

    tiny: Any
    script: Path

    def start(self, run: Path, *words: object, rest_in: str = "") -> subprocess.Popen[str]:
        given = [self.tiny.checkpoint, "--calib", self.tiny.train, "--eval", self.tiny.test]
        more = ["--preprocess", self.tiny.toml, "--effort", "fast", "-o", run, "--json", *words]
        return subprocess.Popen(
            [sys.executable, str(self.script), "sweep", *map(str, [*given, *more])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"REST_IN": rest_in},
        )

    def call(self, run: Path, *words: object) -> Called:
        process = self.start(run, *words)
        out, err = process.communicate(timeout=120)
        return Called(process.returncode, out, err)

    def hit(self, run: Path, jobs: int, rest_in: str, strike: Callable[[int, int], None]) -> Called:
        """``strike`` the sweep (its process id, and that of the job) inside a stage."""
        said = []
        children = []
        with self.start(run, "--macs", "1,0.8", "--jobs", jobs, rest_in=rest_in) as process:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if found := re.fullmatch(r"RESTS (\d+)\n", line):
                    children = psutil.Process(process.pid).children(recursive=True)
                    strike(process.pid, int(found[1]))
                    break
            out, rest = process.communicate(timeout=60)
        assert children, "".join(said)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, alive
        return Called(process.returncode, out, "".join(said) + rest)


@pytest.fixture(scope="module")
def sweeps(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    script = tmp_path_factory.mktemp("script") / "sweeping.py"
    script.write_text(SCRIPT)
    return Sweeps(tiny, script)


@pytest.fixture(scope="module")
def swept(sweeps: Sweeps, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Called]:
    run = tmp_path_factory.mktemp("swept") / "run"
    words = ("--macs", "1,0.8,0.1", "--jobs", 2, "--target", "rtx-ada", "--target", "rtx-any")
    return run, sweeps.call(run, *words)


def visible(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


def contents(run: Path) -> dict[str, Any]:
    """What stages hold beside times and paths."""
    return {
        name: {file: record.sha256 for file, record in found.manifest.files.items()}
        for name in ALL - {"latency"}
        for found in [artifact.read(run / name)]
    }


def test_points_that_can_be_made_are_and_the_others_say_why(swept: tuple[Path, Called]) -> None:
    run, called = swept
    assert called.code == 1, called.err
    assert "Traceback" not in called.err
    assert {"run", "task", "judged_on", "fp32", "points", "reused", "format"} == set(called.found)
    rows = {row["name"]: row for row in called.found["points"]}
    assert set(rows) == {*POINTS, "0.1-int8-conv-fast", "0.1-int8-block-fast"}
    for name, row in rows.items():
        assert bool(row["failed"]) == name.startswith("0.1")
        if row["failed"]:
            assert "out of reach" in row["failed"]
            assert row["macs"] is row["drop_pp"] is row["latency_ms"] is None
            continue
        assert row["macs"] <= row["share"] * called.found["fp32"]["macs"]
        assert row["drop_ci95"][0] <= row["drop_pp"] <= row["drop_ci95"][1]
        assert row["latency_ms"] > 0
        assert row["predicted_ms"]["rtx-ada"] > 0
        assert row["predicted_ms"]["rtx-any"] is None  # several GPUs: no rates
        engine = artifact.read(run / row["stages"]["engine"])
        quantized = artifact.read(run / row["stages"]["quantize"])
        assert row["engine_bytes"] == engine.file("model.onnx").stat().st_size
        assert row["onnx_bytes"] == quantized.file("int8.fp16.onnx").stat().st_size
        assert engine.manifest.parents["model"] == quantized.sha256
        assert quantized.manifest.options["placement"] == row["placement"]
    assert called.found["judged_on"] == "rtx-ada"
    assert {row["name"] for row in rows.values() if row["best"]} & {*POINTS}
    assert visible(run) == {*ALL, "run.json", "sweep.json", "sweep.md"}
    assert json.loads((run / "sweep.json").read_text()) == called.found
    assert "★" in (run / "sweep.md").read_text()
    kept = json.loads((run / "latency" / "samples.json").read_text())
    assert set(kept["samples_ms"]) == set(POINTS)


def test_a_second_call_does_nothing(swept: tuple[Path, Called], sweeps: Sweeps) -> None:
    run, first = swept

    def times() -> dict[str, int]:
        files = [p for p in run.rglob("*") if p.is_file() and not p.name.startswith("sweep.")]
        return {p.relative_to(run).as_posix(): p.stat().st_mtime_ns for p in files}

    before = times()
    dry = sweeps.call(run, "--macs", "1,0.8", "--dry-run")
    assert set(dry.found["cached"]) == set(POINTS)
    assert all(line["reused"] for line in dry.found["stages"])
    assert dry.found["seconds"] == 0
    again = sweeps.call(run, "--macs", "1,0.8", "--target", "rtx-ada")
    assert again.code == 0, again.err
    assert set(again.found["reused"]) == ALL
    assert times() == before
    key = ("macs", "accuracy", "drop_pp", "latency_ms", "speedup")
    wanted = {row["name"]: [row[k] for k in key] for row in first.found["points"]}
    assert all(wanted[r["name"]] == [r[k] for k in key] for r in again.found["points"])


def test_a_sweep_of_other_points_says_what_its_table_lacks(
    swept: tuple[Path, Called], sweeps: Sweeps, tmp_path: Path
) -> None:
    run = shutil.copytree(swept[0], tmp_path / "run")
    called = sweeps.call(run, "--macs", "1")
    said = next(line for line in called.err.splitlines() if "these points alone" in line)
    named = set(said.replace(",", " ").split())
    assert named & set(POINTS) == {name for name in POINTS if name.startswith("0.8")}
    assert {f"validate-{name}" for name in POINTS} <= visible(run)
    assert "these points alone" not in sweeps.call(run, "--macs", "1").err


def test_whatever_ends_a_sweep_the_next_call_goes_on_and_jobs_change_nothing(
    swept: tuple[Path, Called], sweeps: Sweeps, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # a job killed, as for want of memory
    called = sweeps.hit(run, 1, "reference", lambda _, job: os.kill(job, signal.SIGKILL))
    assert (called.code, called.found["exit_code"]) == (3, 3), called.err
    assert "fewer --jobs" in called.found["remedy"]
    assert visible(run) <= {"run.json", "prune-0.8"}
    # the sweep killed: its processes follow
    called = sweeps.hit(run, 1, "reference", lambda sweep, _: os.kill(sweep, signal.SIGKILL))
    assert called.code == -signal.SIGKILL
    assert [name for name in visible(run) if name.startswith(".reference.partial")]
    # Ctrl-C
    called = sweeps.hit(run, 2, STAGES[-1], lambda sweep, _: os.kill(sweep, signal.SIGINT))
    assert (called.code, called.found["error"]) == (130, "interrupted"), called.err
    assert "Traceback" not in called.err
    assert not [name for name in visible(run) if name.startswith(".")]
    assert {"reference", "prune-0.8"} <= visible(run)
    assert STAGES[-1] not in visible(run)
    kept = visible(run) & ALL
    ended = sweeps.call(run, "--macs", "1,0.8", "--jobs", 1)
    assert ended.code == 0, ended.err
    assert set(ended.found["reused"]) >= kept - {"latency"}
    assert visible(run) == {*ALL, "run.json", "sweep.json", "sweep.md"}
    assert contents(run) == contents(swept[0])


@pytest.mark.skipif(not installed("ray"), reason="Ray is not installed")
def test_ray_gives_the_same(swept: tuple[Path, Called], sweeps: Sweeps, tmp_path: Path) -> None:
    words = ("--macs", "1,0.8,0.1", "--jobs", 2, "--engine", "ray")
    called = sweeps.call(tmp_path / "run", *words)
    assert called.code == 1, called.err
    assert contents(tmp_path / "run") == contents(swept[0])


@pytest.mark.skipif(not installed("ray"), reason="Ray is not installed")
def test_an_interrupt_ends_ray_too(sweeps: Sweeps, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = sweeps.start(run, "--macs", "1", "--engine", "ray", "--jobs", 2)
    while not (run / "reference").exists():
        assert process.poll() is None
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["error"]) == (130, "interrupted"), err
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not [name for name in visible(run) if name.startswith(".")]
