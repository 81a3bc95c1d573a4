"""Stages made by several processes; the one that asks for them alone keeps the ledger.

A job runs with a fixed number of threads, however many jobs there are: results do not depend on it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Literal, TypeAlias, get_args

from edgedense import artifact
from edgedense.environment import cores, require
from edgedense.errors import DiskError, EdgedenseError, InputError, MachineError
from edgedense.findings import printable
from edgedense.pipeline.points import Point, Sources, SweepOptions, point_steps, read_inputs

Engine = Literal["processes", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Parallel:
    """How to share jobs out: ``jobs`` at once (None: what the cores hold), ``threads`` in each.

    ``ray`` runs them on the cluster that RAY_ADDRESS names, as many as it has room for, or else on
    one of its own on this machine.
    """

    jobs: int | None = None
    threads: int = 1
    engine: Engine = "processes"

    def __post_init__(self) -> None:
        for name, number in (("jobs", self.jobs), ("threads", self.threads)):
            if number is not None and number < 1:
                raise InputError(f"--{name} {number} is less than 1", "Give 1 or more.")
        if self.engine not in ENGINES:
            raise InputError(f"--engine {self.engine}: unknown", f"Use {' or '.join(ENGINES)}.")

    @property
    def count(self) -> int:
        """Jobs at once."""
        return self.jobs or max(1, cores() // self.threads)

    def check(self) -> None:
        """Raise MachineError where the engine is not installed."""
        if self.engine == "ray":
            require("ray", "--engine ray")


@dataclass(frozen=True)
class Job:
    """One stage for another process: ``key`` is the hash of what decides its result."""

    sources: Sources
    options: SweepOptions
    point: Point
    stage: str
    key: str
    run: Path


@dataclass(frozen=True)
class Failure:
    """Why a stage could not be made; ``fatal`` where no other could be made either."""

    what: str
    remedy: str
    fatal: bool = False

    @property
    def error(self) -> EdgedenseError:
        """The same as an error."""
        return DiskError(self.what, self.remedy)


# a process that makes several stages reads the inputs once
_read_once = lru_cache(maxsize=1)(read_inputs)
Submit: TypeAlias = Callable[[Job], "Future[Failure | None]"]


def make_stage(job: Job) -> Failure | None:
    """Make a stage in this process, from what lies in the run directory; None where all is well."""
    try:
        steps = point_steps(_read_once(job.sources), job.options, job.point)
        step = next(step for step in steps if step.name == job.stage)
        if artifact.sha256_json(step.key) != job.key:
            raise InputError(
                f"{job.stage}: the inputs changed while the sweep was running, or this machine has "
                "other versions",
                "Start the sweep again; on several machines, install the same versions.",
            )
        done = {name: artifact.read(job.run / name) for name in step.after}
        step.make(done, job.run / job.stage)
    except EdgedenseError as error:
        return Failure(error.what, error.remedy, isinstance(error, DiskError))
    except SystemExit as end:
        # the pool would hand this process its next job
        os._exit(end.code if isinstance(end.code, int) else 1)
    return None


@contextlib.contextmanager
def started(parallel: Parallel) -> Iterator[Submit]:
    """What takes jobs; when the block ends, so have all of its processes, whatever the reason."""
    with _threads(parallel.threads):
        engine = _ray if parallel.engine == "ray" else _processes
        with engine(parallel) as submit:
            yield submit


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes started in this block have so many threads: libraries read it when loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


@contextlib.contextmanager
def _processes(parallel: Parallel) -> Iterator[Submit]:
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # threads of PyTorch do not survive a fork
    pool = ProcessPoolExecutor(parallel.count, mp_context=context, initializer=_begin)

    def submit(job: Job) -> Future[Failure | None]:
        with _uninterrupted():
            return pool.submit(make_stage, job)

    try:
        yield submit
    except BaseException as error:
        _end(set(multiprocessing.active_children()) - others)
        if isinstance(error, BrokenProcessPool):
            raise MachineError(
                "a process of the sweep was killed, perhaps for want of memory",
                "Call again to go on where it stopped, with fewer --jobs.",
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started in this block do not feel Ctrl-C, which their parent passes on."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(children: set[BaseProcess]) -> None:
    try:
        for child in children:
            child.terminate()
        for child in children:
            child.join(PATIENCE_SECONDS)
    finally:
        for child in children:
            child.kill()


def _begin() -> None:
    """In a process of the pool: end when asked to, without a half-written stage, or orphaned."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow, daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(1)


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _ray(parallel: Parallel) -> Iterator[Submit]:
    import ray
    from ray.exceptions import RayError, RayTaskError

    own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": parallel.count * parallel.threads}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(include_dashboard=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _ray_failed(error) from error
    signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
    task = ray.remote(num_cpus=parallel.threads, max_retries=0)(make_stage)

    def submit(job: Job) -> Future[Failure | None]:
        future: Future[Failure | None] = task.remote(job).future()
        return future

    try:
        yield submit
    except RayTaskError:
        raise  # a bug of ours, wherever it ran
    except RayError as error:
        raise _ray_failed(error) from error
    finally:
        ray.shutdown()


def _ray_failed(error: Exception) -> MachineError:
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return MachineError(
        f"Ray: {printable(said)}",
        "Look after its cluster (ray status) and call again to go on where it stopped, or leave "
        "--engine ray away.",
    )
