"""Watch a native build that runs for minutes: show how far it is, and let Ctrl-C stop it.

TensorRT swallows an exception that a Python callback raises, KeyboardInterrupt included. So the
build runs in a thread of its own (it releases the interpreter) and this one waits, free to be
interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from edgedense.engines.tensorrt_api import Dialect
from edgedense.progress import Progress

T = TypeVar("T")
TICKS = 100


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """What a native library prints on standard output goes to standard error.

    Standard output is for the one JSON object; TensorRT's compiler prints remarks there, past
    Python and past its own logger.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def watch(
    trt: Any,
    dialect: Dialect,
    config: Any,
    work: Callable[[], T],
    progress: Progress,
    label: str,
) -> T:
    """Run ``work``, a build with ``config``; return what it returns and raise what it raises.

    An interrupt is passed on once the builder has stopped: at its next step where it knows
    progress monitors (TensorRT 10 on), at its end on 8.6, where a second interrupt leaves at once.
    """
    ticks: SimpleQueue[int | None] = SimpleQueue()
    stop = threading.Event()
    outcome: Future[T] = Future()
    if dialect.progress_monitor:
        config.progress_monitor = _monitor(trt, ticks, stop)
    else:
        progress.say(f"{label}: this TensorRT does not tell how far it is; it can take minutes")
    thread = threading.Thread(target=_fulfil, args=(work, outcome, ticks), daemon=True)
    thread.start()
    try:
        for _ in progress.track(iter(ticks.get, None), label, TICKS):
            pass
    finally:
        stop.set()
        thread.join()
    return outcome.result()


def _fulfil(work: Callable[[], T], outcome: Future[T], ticks: SimpleQueue[int | None]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001  it is raised again in the waiting thread
        outcome.set_exception(error)
    finally:
        ticks.put(None)


def _monitor(trt: Any, ticks: SimpleQueue[int | None], stop: threading.Event) -> Any:
    """A progress monitor that puts one tick for each hundredth of the whole build."""
    position = Position()
    told = 0

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            position.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            nonlocal told
            position.complete(phase_name, step)
            while told < int(position.share() * TICKS):
                ticks.put(told)
                told += 1
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            position.finish(phase_name)

    return Monitor()


class Position:
    """How far nested phases have come, as a share of the whole in 0..1."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int, int]] = {}

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """``phase`` begins, as part of the running step of ``parent``."""
        self._phases[phase] = (parent, max(steps, 1), 0)

    def complete(self, phase: str, step: int) -> None:
        """Step number ``step`` (from 0) of ``phase`` is done."""
        if phase in self._phases:
            parent, steps, _ = self._phases[phase]
            self._phases[phase] = (parent, steps, min(step + 1, steps))

    def finish(self, phase: str) -> None:
        """``phase`` is over."""
        self._phases.pop(phase, None)

    def share(self) -> float:
        """Share of all work that is done."""
        return min(1.0, sum(self._step(name) * row[2] for name, row in self._phases.items()))

    def _step(self, phase: str | None) -> float:
        """What one step of ``phase`` is of the whole."""
        if phase is None or phase not in self._phases:
            return 1.0
        parent, steps, _ = self._phases[phase]
        return self._step(parent) / steps
