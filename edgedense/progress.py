"""How long work tells that it is going on, without knowing about terminals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Receives the loops that may take more than two seconds, and lines of news."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` unchanged, showing ``label`` and how far of ``total`` it is."""
        ...

    def say(self, line: str) -> None:
        """Show one line of news."""
        ...


class Silent:
    """Shows nothing: the default of every library call."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` unchanged."""
        yield from items

    def say(self, line: str) -> None:
        """Drop the line."""


SILENT = Silent()
