"""Every command on terminals, in pipes and in logs: nothing is cut, and no code where none belongs.

What is checked is what arrives: the bytes that a real (pseudo-)terminal gets.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgedense import benchmark
from edgedense.cli.main import cli
from edgedense.cli.terminal import Terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")

RECORDED = Path(__file__).parent.parent / "recorded" / "inspector"
QUICK = ("--iterations", 20, "--min-seconds", 0, "--max-seconds", 0.1, "--warm-up", 0)
# its tables are those of deploy, and it trains for minutes
NOT_HERE = {"demo"}
# these work for a second each, so that not every setting is tried
SLOW = {"train", "prune", "finetune", "quantize", "run-bundle", "deploy"}
FEW = ("pipe", "terminal of 80", "terminal of 40")
CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]+m")
OF_A_BAR = re.compile(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]|\r(?!\n)|━")
HASH = re.compile(r"\b[0-9a-f]{16}…")


@dataclass(frozen=True)
class Setting:
    """Where a command writes to."""

    columns: int
    terminal: bool
    environment: dict[str, str] = field(default_factory=dict)
    coloured: bool = False
    watched: bool = False
    folded: bool = True  # else sentences are a line each, and tables as wide as in "pipe"


SETTINGS = {
    "pipe": Setting(80, False, {"COLUMNS": "80"}),
    "terminal of 80": Setting(80, True, coloured=True, watched=True),
    "terminal of 40": Setting(40, True, coloured=True, watched=True),
    "NO_COLOR": Setting(80, True, {"NO_COLOR": "1"}, watched=True),
    "dumb": Setting(80, True, {"TERM": "dumb"}),
    "CI with a terminal": Setting(80, True, {"CI": "1"}, coloured=True),
    "CI": Setting(80, False, {"CI": "1"}, folded=False),
}


@contextlib.contextmanager
def received(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Stderr is a place of that kind in this block; what it got is there afterwards."""
    for name in ("COLUMNS", "LINES", "CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in setting.environment.items():
        monkeypatch.setenv(name, value)
    outer, inner = _terminal(setting.columns) if setting.terminal else os.pipe()
    got: list[bytes] = []
    reader = threading.Thread(target=_read, args=(outer, got))
    reader.start()
    kept = os.dup(2)
    os.dup2(inner, 2)
    try:
        with os.fdopen(inner, "w") as stream, monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            yield got
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        reader.join()
        os.close(outer)


def _terminal(columns: int) -> tuple[int, int]:
    import fcntl
    import pty
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    return outer, inner


def _read(source: int, got: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # a terminal whose other side was closed
        while chunk := os.read(source, 65536):
            got.append(chunk)


@pytest.fixture(scope="module")
def shelf(tiny: Any, made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results for the commands that read some, each made by its command."""
    from edgedense.cli.main import cli

    shelf = tmp_path_factory.mktemp("shelf")
    known = ["--calib", tiny.train, "--eval", tiny.test, "--preprocess", tiny.toml]
    quick = functools.partial(
        benchmark.BenchmarkOptions, iterations=20, min_seconds=0, warmup_seconds=0
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(benchmark, "BenchmarkOptions", quick)
        for words in (
            ["deploy", tiny.checkpoint, *known, "--macs", 0.8, "--max-drop", 5, "-o", shelf / "a"],
            ["sweep", tiny.checkpoint, *known, *POINTS, "--jobs", 1, "-o", shelf / "s"],
            ["pack", shelf / "a", "-o", shelf / "a.edz"],
        ):
            assert cli.main([str(word) for word in words], standalone_mode=False) in (0, None)
    shutil.copytree(shelf / "a", shelf / "b")
    return shelf


POINTS = ("--macs", 1, "--placement", "conv", "--target", "rtx-ada", "--target", "jetson-orin-nano")


def calls(tiny: Any, made: Any, shelf: Path, out: Path) -> dict[str, list[list[object]]]:
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml]
    known, fresh = [*calib, "--eval", tiny.test], ["-o", out]
    judged, profile = shelf / "a" / "validate-cpu", RECORDED / "trex_resnet18_qat.profile.json"
    data, quick = ["--data", tiny.train, "--preprocess", tiny.toml, "--epochs", 1], [*QUICK]
    small = ["--blocks", "1", "--growth", 4, "--no-augment"]
    deploy = ["deploy", tiny.checkpoint, *known, "--macs", 0.8, "--max-drop", 5]
    sweep = ["sweep", tiny.checkpoint, *known, *POINTS, "-o", shelf / "s"]
    int8_cpu = made.quantized / "int8.cpu.onnx"
    return {
        "train": [["train", *data, *small, *fresh], ["train", *data, *small, "--dry-run", *fresh]],
        "inspect": [["inspect", tiny.checkpoint]],
        "import": [["import", tiny.checkpoint, "--preprocess", tiny.toml, *fresh]],
        "prune": [["prune", tiny.checkpoint, "--macs", 0.8, *calib, *fresh]],
        "finetune": [["finetune", tiny.checkpoint, *data, "--eval", tiny.test, *fresh]],
        "quantize": [
            ["quantize", tiny.checkpoint, *known, "--sensitivity", "--max-drop", 5, *fresh]
        ],
        "lint": [["lint", made.quantized / "int8.fp16.onnx", "--all"], ["lint", int8_cpu]],
        "build-engine": [["build-engine", made.quantized, *fresh]],
        "layers": [["layers", RECORDED / "trex_resnet18_qat.json", "--profile", profile]],
        "benchmark": [
            ["benchmark", made.engine, *quick, "--allow-unstable"],
            ["benchmark", made.engine, *quick, "--against", made.engine, "--same-process"],
            ["benchmark", made.engine, *quick, "--batches", "1,2", "--streams", "1,2"],
            ["benchmark", made.engine, "--against", made.engine, "--dry-run"],
        ],
        "validate": [["validate", made.engine, "--data", tiny.test, "--max-drop", 5]],
        "compare": [["compare", judged, judged], ["compare", shelf / "a", shelf / "b"]],
        "report": [["report", shelf / "a"]],
        "pack": [["pack", shelf / "a", "-o", out.with_suffix(".edz")]],
        "run-bundle": [
            ["run-bundle", shelf / "a.edz", "--max-seconds", 0.1, "--repeats", 1, *fresh],
            ["run-bundle", shelf / "a.edz", "--dry-run", *fresh],
        ],
        "new-key": [["new-key", out.with_suffix(".key")]],
        "export-triton": [["export-triton", made.engine, "--name", "net", *fresh]],
        "deploy": [[*deploy, "-o", shelf / "a"], [*deploy, "--dry-run", *fresh]],
        "sweep": [sweep, [*sweep, "--macs", "1,0.5", "--dry-run"]],
        "models": [["models"]],
        "targets": [["targets"]],
        "profile-target": [["profile-target", "--target", "cpu", "--quick", "--dry-run"]],
        "doctor": [["doctor"]],
    }


def test_every_command_is_looked_at(tiny: Any, made: Any, tmp_path: Path) -> None:
    assert set(calls(tiny, made, tmp_path, tmp_path)) == set(cli.commands) - NOT_HERE


def cases() -> Iterator[tuple[str, str]]:
    for command in cli.commands:
        yield from ((command, name) for name in (FEW if command in SLOW else SETTINGS))


@pytest.mark.parametrize(("command", "name"), [case for case in cases() if case[0] not in NOT_HERE])
def test_what_arrives(
    command: str,
    name: str,
    tiny: Any,
    made: Any,
    shelf: Path,
    edgedense: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting = SETTINGS[name]
    quick = functools.partial(
        benchmark.BenchmarkOptions, iterations=20, min_seconds=0, warmup_seconds=0
    )
    monkeypatch.setattr(benchmark, "BenchmarkOptions", quick)
    monkeypatch.chdir(tmp_path)
    for words in calls(tiny, made, shelf, Path("out"))[command]:
        shutil.rmtree("out", ignore_errors=True)
        with received(setting, monkeypatch) as got:
            ended = edgedense(*words)
        said = b"".join(got).decode()
        assert ended.code in (0, 1), said
        assert ended.out == ""
        check(said, setting)


def check(said: str, setting: Setting) -> None:
    """What holds for everything that is said in a setting."""
    assert said.strip()
    assert bool(COLOUR.search(said)) <= setting.coloured, said
    if not setting.watched:
        assert not OF_A_BAR.search(said.replace("\r\n", "\n")), said
    plain = [line.rstrip() for line in re.split(r"[\r\n]+", CODE.sub("", said))]
    for line in plain:
        if setting.folded:
            assert len(line) <= setting.columns or is_to_be_copied(line, setting.columns), line
        assert not re.search(r"[0-9.]…", HASH.sub("", line)), line  # a number that was cut


def is_to_be_copied(line: str, columns: int) -> bool:
    """Whether a line may be longer than a terminal: a command, or one word that is too long."""
    command = re.match(r" *(\S*/)?edgedense [a-z-]+ ", line) or line.startswith("next: ")
    longest = max(map(len, line.split()))
    return bool(command) or longest + len(line) - len(line.lstrip()) + 8 > columns


@pytest.mark.parametrize("name", SETTINGS)
def test_progress_of_loops_in_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = SETTINGS[name]
    with received(setting, monkeypatch) as got:
        terminal = Terminal()
        for number in terminal.track(range(2), "networks that are looked at in turns", 2):
            for _ in terminal.track(range(3), "images", 3):
                pass
            terminal.say(f"news {number}: " + "word " * 20)
    said = b"".join(got).decode()
    check(said, setting)
    assert ("━" in said or "eta" in said) == setting.watched
    assert said.count("news") == 2
    if setting.watched and not setting.environment:
        shown = CODE.sub("", said)
        assert "1/2" in shown
        assert "0/3" in shown


def test_a_log_tells_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 100_000, 2))  # two seconds an image
    monkeypatch.setattr("edgedense.cli.terminal.time.monotonic", lambda: float(next(clock)))
    monkeypatch.delenv("COLUMNS", raising=False)
    assert list(Terminal().track(range(2000), "images", 2000)) == list(range(2000))
    lines = capfd.readouterr().err.splitlines()
    assert lines[:4] == [
        "  images (2000)",
        "  images: 5 of 2000, 0:00:10, eta 1:06:30",
        "  images: 15 of 2000, 0:00:30, eta 1:06:10",
        "  images: 35 of 2000, 0:01:10, eta 1:05:30",
    ]
    assert len(lines) == 18  # of 4000 seconds: every five minutes in the end


def test_a_log_of_a_loop_without_an_end(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 100_000, 11))
    monkeypatch.setattr("edgedense.cli.terminal.time.monotonic", lambda: float(next(clock)))
    list(Terminal().track(iter("ab"), "steps"))
    list(Terminal().track([], "stages", 0))
    assert capfd.readouterr().err.splitlines() == ["  steps", "  steps: 1, 0:00:11"]
