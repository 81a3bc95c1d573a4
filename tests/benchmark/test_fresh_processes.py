"""Repeats in fresh processes: whose turn it is, how errors come back, and that nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedense.benchmark import BenchmarkOptions, compare_fresh, engine_subject, other_subject
from edgedense.benchmark.channel import Order
from edgedense.benchmark.fresh import measure_fresh, turns
from edgedense.benchmark.subject import Subject
from edgedense.errors import EdgedenseError, InputError, MachineError

QUICK = BenchmarkOptions(
    batch=2, iterations=30, min_seconds=0, max_seconds=2, warmup=2, warmup_seconds=0
)


def test_turns() -> None:
    assert turns(2, 4) == [0, 1, 1, 0, 0, 1, 1, 0]
    assert turns(1, 3) == [0, 0, 0]


def test_an_order_survives_the_way() -> None:
    for engine in (None, Path("e")):
        order = Order(Subject(Path("net.pth"), "näme", engine), QUICK, Path("/some/where"))
        assert Order.from_line(order.to_line()) == order


def test_two_engines_take_turns_in_processes_of_their_own(
    tiny: Any, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # paths hold where the user is, and a module of the user's is not imported instead of ours
    monkeypatch.chdir(made.engine.parent)
    (made.engine.parent / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    engine = engine_subject(Path(made.engine.name))
    other = other_subject(tiny.checkpoint, Path(made.engine.name))
    found = compare_fresh(engine, other, QUICK, 2)
    (made.engine.parent / "numpy.py").unlink()
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["engine_name"] == f"{made.engine.name} (cpu int8)"
    assert told["against"]["engine_name"] == "net.pth (PyTorch fp32)"
    assert told["state"]["runtime"] == "onnxruntime"
    assert told["state"]["batch"] == 2
    assert (told["state"]["fresh_processes"], told["state"]["repeats"]) == (True, 2)
    assert found.engine.repeats == (30, 30)
    logs = [
        np.log(np.sort(b)[14] / np.sort(a)[14])
        for a, b in zip(found.engine.repeats_ms, found.against.repeats_ms, strict=True)
    ]
    assert found.speedup.value == pytest.approx(np.exp(np.mean(logs)))
    assert left(tmp_path) == []


def test_an_error_of_the_child_is_ours(made: Any, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"this is no network")
    other = other_subject(tmp_path / "net.pth", made.engine)
    with pytest.raises(InputError) as caught:
        measure_fresh([other], QUICK, 2)
    assert "net.pth" in caught.value.what
    assert caught.value.remedy
    large = BenchmarkOptions(batch=5000)
    with pytest.raises(InputError, match="batch 5000 is outside the engine's range"):
        measure_fresh([engine_subject(made.engine)], large, 1)


def test_one_repeat_has_no_interval(made: Any) -> None:
    engine = engine_subject(made.engine)
    with pytest.raises(InputError, match="1 repeat has no spread"):
        compare_fresh(engine, engine, QUICK, 1)


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ("kill -9 $$", MachineError, r"measured net was killed \(SIGKILL\)"),
        ("echo Traceback >&2; echo 'E: boom' >&2; exit 1", EdgedenseError, "failed: E: boom"),
        ("exit 0", EdgedenseError, "failed: exit code 0"),
        (
            """echo '{"event": "error", "what": "w", "remedy": "r", "exit_code": 3}'""",
            MachineError,
            "w\nr",
        ),
    ],
)
def test_a_child_that_dies(
    script: str,
    kind: type[EdgedenseError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(kind, match=said) as caught:
        measure_fresh([Subject(tmp_path, "net")], QUICK, 1)
    assert type(caught.value) is kind


def test_what_libraries_print_is_no_event(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python itself prints the modules that it imports, to standard error, and -i would read stdin
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    ((run,),) = measure_fresh([engine_subject(made.engine)], QUICK, 1)
    assert len(run.samples_ns) == 30


def left(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != ".ses"]  # onnxruntime's own


def children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(child) for child in listed.split()]


def running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition: Any, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_is_left_behind(how: signal.Signals, made: Any, tmp_path: Path) -> None:
    words = ["--repeats", "3", "--min-seconds", "60", "--max-seconds", "60"]
    outputs = ["-o", str(tmp_path / "out"), "--export", str(tmp_path / "samples.csv")]
    command = [sys.executable, "-m", "edgedense", "benchmark", str(made.engine), *words, *outputs]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as parent:
        try:
            assert until(lambda: children(parent.pid))
            (child,) = children(parent.pid)
            parent.send_signal(how)
            _, told = parent.communicate(timeout=60)
        finally:
            parent.kill()
    assert until(lambda: not running(child))
    assert left(tmp_path) == []
    if how != signal.SIGKILL:
        assert parent.returncode == 130
        assert told.splitlines()[-2] == "error: interrupted"
