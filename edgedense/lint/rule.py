"""What a rule is: a name, what happens where it is broken, what mends it, and how to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgedense.findings import Severity
from edgedense.lint.device import Device
from edgedense.lint.file import File, Op


@dataclass(frozen=True)
class Hit:
    """A place that breaks a rule; ``severity`` overrides the rule's."""

    op: Op | None
    tensor: str
    detail: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Rule:
    """``everywhere`` rules hold without TensorRT too (target ``cpu``)."""

    name: str
    severity: Severity
    hazard: str
    remedy: str
    find: Callable[[File, Device], Iterable[Hit]]
    everywhere: bool = False
