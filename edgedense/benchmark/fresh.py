"""Repeats in fresh processes, in turns: A B, B A, A B, …

Where a process's memory came to lie, what its libraries chose when they started and what the system
had in its caches are fixed for the life of a process, and move its times by some percent. Repeats
inside one process share that luck, so their spread says nothing about it; those of fresh processes
do not. Engines of one process also share thread pools, a CUDA context and clocks that the other has
warmed up. Sources: Kalibera and Jones, Rigorous Benchmarking in Reasonable Time (2013); Georges,
Buytaert and Eeckhout, Statistically Rigorous Java Performance Evaluation (2007).
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import edgedense
from edgedense.benchmark.channel import ERROR, GO, MEASURED, READY, RESULT, TICK, Order
from edgedense.benchmark.measure import CHUNKS
from edgedense.benchmark.options import BenchmarkOptions
from edgedense.benchmark.run import Run
from edgedense.benchmark.subject import Subject
from edgedense.board import Watch
from edgedense.errors import EdgedenseError, InputError, MachineError
from edgedense.progress import SILENT, Progress

_KINDS = {kind.exit_code: kind for kind in (InputError, MachineError, EdgedenseError)}
WORKER = "edgedense.benchmark.worker"


def measure_fresh(
    subjects: Sequence[Subject],
    options: BenchmarkOptions,
    repeats: int,
    *,
    progress: Progress = SILENT,
) -> list[list[Run]]:
    """So many runs of each subject, each in its own process, which ends before the next begins.

    Errors: those of the child, as if it had been this process; MachineError where a child was
    killed. Whatever ends this function ends the child too.
    """
    order = turns(len(subjects), repeats)
    found: list[list[Run]] = [[] for _ in subjects]
    label = f"benchmark in {len(order)} fresh processes"
    with contextlib.closing(_steps(subjects, options, order, found)) as steps:
        for _ in progress.track(steps, label, len(order) * CHUNKS):
            pass
    return found


def turns(count: int, repeats: int) -> list[int]:
    """Whose turn it is: 0 1 1 0 0 1 … for two, so that slow drift meets both alike."""
    there = list(range(count))
    return [which for r in range(repeats) for which in (there if r % 2 == 0 else there[::-1])]


def _steps(
    subjects: Sequence[Subject],
    options: BenchmarkOptions,
    order: Sequence[int],
    found: list[list[Run]],
) -> Generator[None, None, None]:
    for which in order:
        with _child(Order(subjects[which], options, Path.cwd())) as child:
            for _ in range(CHUNKS):  # one that had few calls to make tells fewer
                child.listen()
                yield
            found[which].append(child.result())


class _Child:
    """A process that measures; ``listen`` takes it one tick further."""

    def __init__(self, name: str, process: subprocess.Popen[str], stderr: IO[str]) -> None:
        self._name = name
        self._process = process
        self._stderr = stderr
        self._watch = Watch()
        self._watching = contextlib.ExitStack()
        self._raw: dict[str, Any] | None = None

    def listen(self) -> bool:
        """Until the next tick, or its end: then False. Errors: its own."""
        for line in self._process.stdout or ():
            told = json.loads(line)
            if told["event"] == TICK:
                return True
            self._heard(told)
        return False

    def result(self) -> Run:
        """What it measured, once it has ended. Errors: its own; MachineError if it was killed."""
        while self.listen():
            pass
        code = self._process.wait()
        if self._raw is None or code:
            raise self._death(code)
        return Run.from_dict(self._raw, self._watch.summary())

    def end(self) -> None:
        """Whatever it does, it does so no longer."""
        self._process.kill()
        self._process.wait()
        self._watching.close()
        with contextlib.suppress(BrokenPipeError):  # an order that nobody has read
            if self._process.stdin:
                self._process.stdin.close()

    def _heard(self, told: dict[str, Any]) -> None:
        if told["event"] == READY:
            self._watching.enter_context(self._watch)
            _send(self._process, GO)
        elif told["event"] == MEASURED:
            self._watching.close()
        elif told["event"] == RESULT:
            self._raw = told["run"]
        elif told["event"] == ERROR:
            raise _KINDS[told["exit_code"]](told["what"], told["remedy"])

    def _death(self, code: int) -> EdgedenseError:
        if code < 0:
            return MachineError(
                f"the process that measured {self._name} was killed ({signal.Signals(-code).name})",
                "Mostly for want of memory: close other programs, or add swap; dmesg tells.",
            )
        self._stderr.seek(0)
        said = self._stderr.read().strip()
        last = said.splitlines()[-1] if said else f"exit code {code}"
        error = EdgedenseError(f"the process that measured {self._name} failed: {last}")
        error.__cause__ = RuntimeError(said)
        return error


@contextlib.contextmanager
def _child(order: Order) -> Iterator[_Child]:
    """A child at work; it has ended when the block does, however that comes about."""
    package = Path(edgedense.__file__).parent
    with (
        # unnamed, so that nothing is left of it
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", WORKER],
            # -m puts the working directory first: a torch.py of the user's must not be imported
            cwd=package.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        child = _Child(order.subject.name, process, stderr)
        try:
            _send(process, order.to_line())
            yield child
        finally:
            child.end()


def _send(process: subprocess.Popen[str], line: str) -> None:
    """Its standard input stays open, as a sign that somebody listens."""
    with contextlib.suppress(BrokenPipeError):  # it has died already: the result tells how
        if process.stdin:
            process.stdin.write(line)
            process.stdin.flush()
