"""Time calls of engines; nothing here judges.

A call is timed from images in host memory to logits in host memory, so on a GPU the copies in and
out are part of it. Where an engine can tell its phases apart, other calls are timed for them by the
device's clock: the events that it takes would be part of the whole call's time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedense.engines.runner import Floats, Images, Interface, PhasedRunner, Runner
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

Nanoseconds = NDArray[np.int64]
Milliseconds = NDArray[np.float64]

LEAST_ITERATIONS = 11  # as many as a median needs
LEAST_PHASES, MOST_PHASES = 64, 1000
CHUNKS = 40
BLOCK_NS = 50_000_000
MOST_CALLS_A_BLOCK = 10
LEAST_ROUNDS = 20  # with fewer, the bootstrap interval of their ratio is too narrow

Clock = Callable[[], int]


@dataclass(frozen=True)
class Span:
    """How long to measure: ``iterations`` and ``min_seconds`` at least, ``max_seconds`` at most.

    ``max_seconds`` wins, but never below LEAST_ITERATIONS.
    """

    iterations: int
    min_seconds: float
    max_seconds: float

    def longer(self, times: float) -> Span:
        """The same number of calls, in so many times as many seconds."""
        return Span(self.iterations, self.min_seconds * times, self.max_seconds * times)

    def count(self, call_ns: float) -> int:
        """Number of calls, where one is expected to take ``call_ns``."""
        wanted = max(self.iterations, math.ceil(self.min_seconds * 1e9 / call_ns))
        allowed = int(self.max_seconds * 1e9 / call_ns)
        return max(LEAST_ITERATIONS, min(wanted, allowed))


@dataclass(frozen=True, eq=False)
class PhaseSamples:
    """What the phases of so many calls took on the device's clock, each (calls,) in ms."""

    copy_in_ms: Milliseconds
    compute_ms: Milliseconds
    copy_out_ms: Milliseconds

    def items(self) -> tuple[tuple[str, Milliseconds], ...]:
        """The phases in their order, by name."""
        return (
            ("copy_in", self.copy_in_ms),
            ("compute", self.compute_ms),
            ("copy_out", self.copy_out_ms),
        )


def joined(parts: Sequence[PhaseSamples]) -> PhaseSamples:
    """The phases of several repeats, one after another."""
    return PhaseSamples(
        np.concatenate([part.copy_in_ms for part in parts]),
        np.concatenate([part.compute_ms for part in parts]),
        np.concatenate([part.copy_out_ms for part in parts]),
    )


def input_images(interface: Interface, batch: int, seed: int, golden: Floats | None) -> Images:
    """Images (batch, channels, height, width) to time with, in the type that the engine takes.

    ``golden`` images, repeated as often as needed, or else seeded standard-normal noise: the time
    of a convolution does not depend on its values, but denormals and zeros would.
    Errors: InputError where the engine does not take this batch.
    """
    if interface.batch is not None and not interface.batch[0] <= batch <= interface.batch[2]:
        least, _, most = interface.batch
        raise InputError(
            f"batch {batch} is outside the engine's range {least} … {most}",
            "Choose a batch inside, or build the engine with another --batch MIN:OPT:MAX.",
        )
    if golden is not None:
        return interface.fed(golden[np.arange(batch) % len(golden)])
    noise = np.random.default_rng(seed).standard_normal((batch, *interface.input_shape))
    return interface.fed(noise.astype(np.float32))


def warm_up(
    runner: Runner, images: Images, calls: int, seconds: float, clock: Clock = time.perf_counter_ns
) -> float:
    """Call at least ``calls`` times and for ``seconds``; the later half's median in ns."""
    samples: list[int] = []
    began = clock()
    while len(samples) < max(calls, 1) or clock() - began < seconds * 1e9:
        samples.append(_timed(runner, images, clock))
    return max(1.0, float(np.median(samples[len(samples) // 2 :])))


def measure(
    runner: Runner,
    images: Images,
    count: int,
    max_seconds: float,
    *,
    clock: Clock = time.perf_counter_ns,
    name: str | None = None,
    progress: Progress = SILENT,
) -> Nanoseconds:
    """Samples in ns of up to ``count`` calls, in order; fewer where ``max_seconds`` run out.

    Progress is told between chunks of calls, never inside one.
    """
    chunks = min(CHUNKS, count)
    sizes = [count * (i + 1) // chunks - count * i // chunks for i in range(chunks)]
    samples: list[int] = []
    began = clock()
    for size in progress.track(sizes, f"benchmark {name or runner.name}", chunks):
        late = clock() - began > max_seconds * 1e9
        if late and len(samples) >= LEAST_ITERATIONS:
            break
        samples.extend(_timed(runner, images, clock) for _ in range(size))
    return np.array(samples, dtype=np.int64)


def measure_phases(
    runner: PhasedRunner,
    images: Images,
    count: int,
    max_seconds: float,
    *,
    clock: Clock = time.perf_counter_ns,
) -> PhaseSamples:
    """Phases of up to ``count`` calls; fewer where ``max_seconds`` run out."""
    rows: list[tuple[float, float, float]] = []
    began = clock()
    while len(rows) < count:
        if len(rows) >= LEAST_ITERATIONS and clock() - began > max_seconds * 1e9:
            break
        _, phases = runner.timed(images)
        rows.append((phases.copy_in_ms, phases.compute_ms, phases.copy_out_ms))
    return PhaseSamples(*np.array(rows, np.float64).T)


def take_turns(
    runners: Sequence[Runner],
    images: Sequence[Images],
    span: Span,
    call_ns: Sequence[float],
    label: str,
    *,
    clock: Clock = time.perf_counter_ns,
    progress: Progress = SILENT,
) -> list[Nanoseconds]:
    """Samples (rounds, calls) of each runner: one block of calls each, A B C, C B A, A B C, …

    ``images`` are what each of them is called with.
    So slow drift of clocks and load meets all alike. The first call of every block is not kept:
    it pays for caches that the others filled and for threads that had gone to sleep. Spinning
    thread pools of one runtime disturb the others: runners must not spin while idle.
    """
    block = max(1, min(MOST_CALLS_A_BLOCK, int(BLOCK_NS * len(runners) / 2 / sum(call_ns))))
    overhead = (block + 1) / block
    rounds = max(LEAST_ROUNDS, math.ceil(span.count(sum(call_ns) * overhead) / block))
    samples: list[list[list[int]]] = [[] for _ in runners]
    began = clock()
    for turn in progress.track(range(rounds), label, rounds):
        if turn >= LEAST_ROUNDS and clock() - began > span.max_seconds * 1e9:
            break
        order = range(len(runners))
        for which in order if turn % 2 == 0 else reversed(order):
            samples[which].append(_block(runners[which], images[which], block, clock))
    return [np.array(rows, dtype=np.int64) for rows in samples]


def _block(runner: Runner, images: Images, calls: int, clock: Clock) -> list[int]:
    runner(images)
    return [_timed(runner, images, clock) for _ in range(calls)]


def _timed(runner: Runner, images: Images, clock: Clock) -> int:
    began = clock()
    runner(images)
    return clock() - began
