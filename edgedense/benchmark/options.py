"""What a benchmark is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from edgedense.benchmark.measure import Span
from edgedense.errors import InputError


@dataclass(frozen=True)
class BenchmarkOptions:
    """How long to measure, and with how many images a call.

    At least ``iterations`` calls (700 give p99 an interval) and ``min_seconds``, at most
    ``max_seconds``; before it ``warmup`` calls and ``warmup_seconds`` at least, not kept.
    """

    batch: int = 1
    iterations: int = 700
    min_seconds: float = 2.0
    max_seconds: float = 30.0
    warmup: int = 10
    warmup_seconds: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.iterations < 1 or self.warmup < 0:
            raise InputError(
                f"batch {self.batch}, iterations {self.iterations}, warm-up {self.warmup}: "
                "too small",
                "Give a batch and iterations of 1 or more.",
            )
        if not 0 <= self.min_seconds <= self.max_seconds < float("inf"):
            raise InputError(
                f"{self.min_seconds:g} to {self.max_seconds:g} seconds is no span of time",
                "Give 0 <= minimum <= maximum.",
            )
        if not 0 <= self.warmup_seconds < float("inf"):
            raise InputError(
                f"a warm-up of {self.warmup_seconds:g} seconds", "Give 0 seconds or more."
            )

    @property
    def span(self) -> Span:
        """The times alone."""
        return Span(self.iterations, self.min_seconds, self.max_seconds)
