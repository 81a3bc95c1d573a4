"""Engines and boards that the tests of benchmark make up."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np

from edgedense.board import Snapshot, Summary
from edgedense.engines.runner import Interface, Phases

INTERFACE = Interface("input", (3, 4, 4), "logits", (10,), (1, 1, 8))


def summary(**changed: Any) -> Summary:
    """A watch over a machine that tells nothing, but for what is ``changed``."""
    names = ("power_rail", "power_mw", "gpu_mhz", "emc_mhz", "cpu_mhz", "gpu_drift", "cpu_drift")
    nothing = Summary(
        before=Snapshot(),
        after=Snapshot(),
        seconds=10.0,
        interval_s=0.5,
        throttled=None,
        throttled_by=(),
        **dict.fromkeys(names),
    )
    return replace(nothing, **changed)


class PhasedRunner:
    """A device that copies in 1 ms, computes 5 ms times the batch, and copies out 2 ms."""

    def __init__(self, parent: PhasedRunner | None = None, compute_ms: tuple[float, ...] = (5.0,)):
        self.name, self.interface = "tensorrt", INTERFACE
        self.cuda_graph = True
        self.parent, self.compute_ms = parent, compute_ms
        self.calls, self.timed_calls, self.closed = 0, 0, False
        self.forks: list[PhasedRunner] = []
        self.threads: set[int] = set()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.threads.add(threading.get_ident())
        self.calls += 1
        time.sleep(0.0005 * len(images))
        return np.zeros((len(images), 10), np.float32)

    def timed(self, images: np.ndarray) -> tuple[np.ndarray, Phases]:
        compute = self.compute_ms[self.timed_calls % len(self.compute_ms)] * len(images)
        self.timed_calls += 1
        return np.zeros((len(images), 10), np.float32), Phases(1.0, compute, 2.0)

    def fork(self) -> PhasedRunner:
        self.forks.append(PhasedRunner(self))
        return self.forks[-1]

    def close(self) -> None:
        assert self.parent is None or not self.parent.closed, "forks are closed first"
        self.closed = True
