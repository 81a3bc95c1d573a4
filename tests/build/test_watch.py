from __future__ import annotations

import os
import signal
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pytest

from edgedense.build.watch import TICKS, Position, stdout_kept_clean, watch
from edgedense.engines.tensorrt_api import dialect_for
from edgedense.progress import SILENT

T = TypeVar("T")


class Counting:
    """A progress that counts the ticks and keeps the news."""

    def __init__(self) -> None:
        self.ticks = 0
        self.news: list[str] = []

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        for item in items:
            self.ticks += 1
            yield item

    def say(self, line: str) -> None:
        self.news.append(line)


class Monitor:
    """Stands for IProgressMonitor."""


OLD, NEW = dialect_for("8.6.1"), dialect_for("10.3.0")
TRT = types.SimpleNamespace(IProgressMonitor=Monitor)


class Config:
    progress_monitor: Any = None


class OldConfig:
    """8.6 has no progress monitor."""


def stepping(config: Any, steps: int, each: Callable[[], None] = lambda: None) -> Callable[[], str]:
    def work() -> str:
        monitor = config.progress_monitor
        monitor.phase_start("all", None, steps)
        for step in range(steps):
            each()
            if not monitor.step_complete("all", step):
                return "cancelled"
        monitor.phase_finish("all")
        return "plan"

    return work


@pytest.mark.parametrize("steps", [1, 7, 100, 1000])
def test_a_whole_build_is_a_hundred_ticks(steps: int) -> None:
    config, progress = Config(), Counting()
    assert watch(TRT, NEW, config, stepping(config, steps), progress, "build") == "plan"
    assert progress.ticks == TICKS


def test_the_builds_own_error_comes_out() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watch(TRT, NEW, Config(), fail, SILENT, "build")


def test_a_version_without_monitor_says_so() -> None:
    progress = Counting()
    assert watch(TRT, OLD, OldConfig(), lambda: 3, progress, "build") == 3
    assert "does not tell how far" in progress.news[0]


def test_an_interrupt_stops_the_builder_at_its_next_step() -> None:
    config = Config()
    results: list[str] = []
    steps = stepping(config, 10_000, lambda: time.sleep(0.005))
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        watch(TRT, NEW, config, lambda: results.append(steps()), SILENT, "build")
    assert results == ["cancelled"]


def test_nested_phases_add_up() -> None:
    position = Position()
    position.start("build", None, 4)
    position.complete("build", 0)
    assert position.share() == 0.25
    position.start("optimise", "build", 2)
    position.complete("optimise", 0)
    assert position.share() == 0.25 + 0.25 / 2
    position.finish("optimise")
    position.complete("build", 1)
    assert position.share() == 0.5


def test_steps_of_phases_that_never_began_are_ignored() -> None:
    position = Position()
    position.complete("ghost", 3)
    position.finish("ghost")
    position.start("empty", None, 0)
    position.complete("empty", 0)
    assert position.share() == 1.0


def test_native_output_does_not_reach_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_kept_clean():
        os.write(1, b"a compiler's remark\n")
    os.write(1, b"{}\n")
    out, err = capfd.readouterr()
    assert (out, err) == ("{}\n", "a compiler's remark\n")
