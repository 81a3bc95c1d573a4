"""Findings about a file: what is wrong, how bad, where, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """A rule that is broken in one place: node ``node`` (an ``op``), about ``tensor``."""

    rule: str
    severity: Severity
    hazard: str
    node: str
    tensor: str
    op: str
    detail: str
    remedy: str

    @property
    def place(self) -> str:
        """The node's name, or the tensor's where no node is meant."""
        return self.node or self.tensor


@dataclass(frozen=True)
class Group:
    """Findings of one rule and severity."""

    findings: tuple[Finding, ...]

    @property
    def first(self) -> Finding:
        """The first of them."""
        return self.findings[0]

    def places(self, most: int | None = None) -> tuple[tuple[str, str], ...]:
        """The first ``most`` places with their details, or all; then how many more there are."""
        shown = [
            (printable(found.place), printable(found.detail)) for found in self.findings[:most]
        ]
        more = len(self.findings) - len(shown)
        return (*shown, *([("…", f"and {more} more")] if more else []))


def count(findings: Iterable[Finding], severity: Severity) -> int:
    """Number of findings of one severity."""
    return sum(found.severity == severity for found in findings)


def grouped(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """Findings of one kind together, in the order of their first."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for found in findings:
        kinds.setdefault((found.severity, found.rule), []).append(found)
    return tuple(Group(tuple(members)) for members in kinds.values())


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then infos; the order within each stays."""
    return tuple(sorted(findings, key=lambda found: SEVERITIES.index(found.severity)))


def printable(name: str) -> str:
    """A name out of a file for one line of a terminal: no control codes, not endless."""
    shown = name[:200] + ("…" if len(name) > 200 else "")
    return "".join(letter if letter.isprintable() else "?" for letter in shown)
