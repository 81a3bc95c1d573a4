"""The machine's state while something is measured, without disturbing it.

Files are read on a thread, twice a second. Where files do not tell of the power, one child process
(nvidia-smi or tegrastats) is started before the measurement and ended after it: a new process a
sample would cost the processor more than many an inference.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from edgedense.board import smi, tegrastats
from edgedense.board.model import jetson_sm
from edgedense.board.sample import Sample
from edgedense.board.snapshot import Sensors, Snapshot
from edgedense.board.summary import Summary, summarize
from edgedense.errors import InputError

SHORTEST_S = 0.25


class Watch:
    """Samples the machine from entering to leaving; :meth:`summary` tells what it saw.

    ``interval_s`` is the time between samples, at least 0.25 s: INA3221 monitors need some of it
    to average. Not to be entered twice. Errors: InputError for a shorter interval.
    """

    def __init__(self, interval_s: float = 0.5, root: Path = Path("/")) -> None:
        if not SHORTEST_S <= interval_s < float("inf"):
            raise InputError(
                f"watching the board every {interval_s:g} s would disturb what it does",
                f"Give {SHORTEST_S:g} s or more.",
            )
        self._interval_s = interval_s
        self._root = root
        self._samples: list[Sample] = []
        self._left = threading.Event()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Watch:
        self._sensors = Sensors(self._root)
        self._before = self._sensors.snapshot()
        self._after: Snapshot | None = None
        with contextlib.ExitStack() as stack:  # an interrupt in here ends what is open, too
            stack.callback(self._left.set)
            self._stream(stack)
            thread = threading.Thread(target=self._look, name="board", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._left.set)
            self._open = stack.pop_all()
        self._began = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._seconds = time.monotonic() - self._began
        self._open.close()
        self._after = self._sensors.snapshot() if error is None else self._before

    def summary(self) -> Summary:
        """What was seen; while the watch is still on: so far."""
        ended = self._after is not None
        return summarize(
            self._before,
            self._after or self._sensors.snapshot(),
            list(self._samples),
            seconds=self._seconds if ended else time.monotonic() - self._began,
            interval_s=self._interval_s,
        )

    def _look(self) -> None:
        while not self._left.wait(self._interval_s):
            self._samples.append(self._sensors.sample())

    def _stream(self, stack: contextlib.ExitStack) -> None:
        """Start the one child that is needed, if any."""
        if self._sensors.smi:
            words = [*self._sensors.smi, f"--loop-ms={round(self._interval_s * 1000)}"]
            stack.enter_context(contextlib.closing(Stream(words, smi.parse_row, self._samples)))
        elif _needs_tegrastats(self._sensors):
            words = tegrastats.command(self._interval_s)
            closing = contextlib.closing(Stream(words, tegrastats.parse_line, self._samples))
            stack.enter_context(closing)


class Stream:
    """A child process that prints a line a sample; samples are appended as lines come."""

    def __init__(
        self,
        words: Sequence[str],
        parse: Callable[[str], Sample | None],
        samples: list[Sample],
    ) -> None:
        self._parse = parse
        self._samples = samples
        self._child = _started(words)
        self._thread = threading.Thread(target=self._read, name="board stream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the child."""
        if self._child is None:
            return
        _kill(self._child)
        self._child.wait()
        self._thread.join()
        if self._child.stdout:
            self._child.stdout.close()

    def _read(self) -> None:
        lines = self._child.stdout if self._child else None
        for line in lines or ():
            sample = self._parse(line)
            if sample is not None:
                self._samples.append(sample)


def _started(words: Sequence[str]) -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
    except OSError:
        return None


def _kill(child: subprocess.Popen[str]) -> None:
    """With what it has started, which would keep the pipe open."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()


def _needs_tegrastats(sensors: Sensors) -> bool:
    """A Jetson whose power monitors are out of reach, as in a container without /sys."""
    if sensors.rails or jetson_sm(sensors.root) is None:
        return False
    return shutil.which("tegrastats") is not None
