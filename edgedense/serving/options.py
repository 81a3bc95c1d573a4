"""What a Triton model is asked for, and what came of it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from edgedense.errors import InputError

# a directory, a part of the server's URLs and a label of its metrics; Triton itself refuses what
# is empty, has a slash or leads out of the repository
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_INT32 = (1 << 31) - 1
_UINT64 = (1 << 64) - 1


@dataclass(frozen=True)
class TritonOptions:
    """How a server shall run an engine.

    ``max_batch`` is the largest batch that the server forms (None: the engine's largest).
    ``instances`` is how many run at the same time, on each GPU, each with its own memory for
    activations. ``max_queue_delay_us`` is how long a request may wait for others to fill a batch,
    in microseconds; None sends on what is there. ``labels`` are the names of the classes.
    """

    name: str
    max_batch: int | None = None
    instances: int = 1
    max_queue_delay_us: int | None = None
    labels: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InputError for what Triton would refuse of any model."""
        if not _NAME.fullmatch(self.name) or ".." in self.name:
            raise InputError(
                f"{self.name!r} cannot name a model on a server",
                "Give --name NAME: letters, digits, _, - and single dots, at most 128 characters.",
            )
        for option, value, most in (
            ("--max-batch", self.max_batch, _INT32),
            ("--instances", self.instances, _INT32),
        ):
            if value is not None and not 1 <= value <= most:
                raise InputError(f"{option} {value} is not in 1..{most}", "Try 1.")
        if self.max_queue_delay_us is not None and not 0 <= self.max_queue_delay_us <= _UINT64:
            raise InputError(
                f"--max-queue-delay-us {self.max_queue_delay_us} is not in 0..{_UINT64}",
                "Try 1000: a millisecond.",
            )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"labels": list(self.labels)}


@dataclass(frozen=True)
class TritonReport:
    """One model of a repository: ``config`` is the text of its config.pbtxt.

    ``artifact`` is its directory, None after a dry run.
    """

    name: str
    repository: str
    artifact: str | None
    backend: str
    file: str
    engine_sha256: str
    engine_bytes: int
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    warmup_batch_sizes: tuple[int, ...]
    instances: int
    labels: int
    runtime_version: str
    warnings: tuple[str, ...]
    config: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        raw = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in raw.items()}
