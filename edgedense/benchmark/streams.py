"""Several calls at once: a thread a stream, each with a runner of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from edgedense.benchmark.measure import LEAST_ITERATIONS, Clock, Nanoseconds, warm_up
from edgedense.benchmark.options import BenchmarkOptions
from edgedense.engines.runner import Images, Runner, is_phased

Call = tuple[int, int]  # began and ended, in ns


@contextmanager
def lanes(open_runner: Callable[[], Runner], count: int) -> Iterator[list[Runner]]:
    """So many runners of one engine that may run at the same time; closed after the block."""
    with ExitStack() as stack:
        first = open_runner()
        stack.callback(first.close)
        runners = [first]
        for _ in range(count - 1):
            runners.append(first.fork() if is_phased(first) else open_runner())
            stack.callback(runners[-1].close)  # forks before the first
        yield runners


def together(
    runners: Sequence[Runner],
    feeds: Sequence[Images],
    options: BenchmarkOptions,
    *,
    clock: Clock = time.perf_counter_ns,
) -> tuple[Nanoseconds, float]:
    """Latencies in ns of calls that all runners make at once, in the order of their ends.

    And the seconds that they took: from when all had warmed up to when the first runner had made
    its calls, so that nobody is timed while another one has stopped.
    """
    share = replace(options, iterations=-(-options.iterations // len(runners)))
    race = _Race(threading.Barrier(len(runners)), clock)
    with ThreadPoolExecutor(len(runners)) as pool:
        try:
            futures = [
                pool.submit(race.run, runner, images, share)
                for runner, images in zip(runners, feeds, strict=True)
            ]
            calls = np.array(sorted(_results(futures), key=lambda call: call[1]), np.int64)
        finally:
            race.end()
    began, ended = calls.T
    counted = ended <= race.first_done
    return (ended - began)[counted], (race.first_done - int(began.min())) / 1e9


@dataclass
class _Race:
    """Threads that start together and stop when the first of them is done."""

    start: threading.Barrier
    clock: Clock
    first_done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, runner: Runner, images: Images, options: BenchmarkOptions) -> list[Call]:
        """The calls of one thread."""
        try:
            call_ns = warm_up(runner, images, options.warmup, options.warmup_seconds)
            self.start.wait()
            calls = self._calls(runner, images, options.span.count(call_ns), options.max_seconds)
        except BaseException:
            self.end()
            raise
        with self.lock:
            self.first_done = self.first_done or self.clock()
        self.over.set()  # not end(): some may still be on their way out of the barrier
        return calls

    def end(self) -> None:
        """Nobody starts another call, or waits for one that will not come."""
        self.over.set()
        self.start.abort()

    def _calls(self, runner: Runner, images: Images, count: int, max_seconds: float) -> list[Call]:
        calls: list[Call] = []
        first = self.clock()
        while len(calls) < count and not self.over.is_set():
            if len(calls) >= LEAST_ITERATIONS and self.clock() - first > max_seconds * 1e9:
                break
            began = self.clock()
            runner(images)
            calls.append((began, self.clock()))
        return calls


def _results(futures: Sequence[Future[list[Call]]]) -> list[Call]:
    """All calls; an error of one thread comes before those of the threads that waited for it."""
    wait(futures)
    errors = [error for future in futures if (error := future.exception()) is not None]
    real = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    for error in real or errors:
        raise error
    return [call for future in futures for call in future.result()]
