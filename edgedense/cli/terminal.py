"""What the user sees: progress and tables on stderr, one JSON object on stdout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from edgedense.distributed import world

T = TypeVar("T")
_ENDLESS = 10_000  # columns


class Terminal:
    """Progress bars with ETA where stderr is a terminal, plain lines where it is a pipe."""

    def __init__(self) -> None:
        self.console = Console(
            stderr=True,
            highlight=False,
            soft_wrap=True,
            quiet=not world().first,  # of several processes one speaks
            color_system=None if os.environ.get("NO_COLOR") else "auto",  # bold is a code too
        )

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` under a progress bar."""
        if not self.console.is_terminal:
            self.say(f"  {label}" + (f" ({total})" if total else ""))
            yield from items
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            yield from bar.track(items, total=total, description=label)

    def say(self, line: str) -> None:
        """Print one line of news."""
        self.console.print(line, markup=False)

    def table(
        self,
        title: str,
        head: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        whole: bool = False,
    ) -> None:
        """Print a table; numbers are right-aligned.

        A narrow terminal cuts cells; with ``whole`` the table is wider than the terminal instead.
        """
        body = [[_cell(value) for value in row] for row in rows]
        table = Table(
            show_header=any(head),
            title=title or None,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
        )
        for number, name in enumerate(head):
            numeric = bool(body) and all(_numeric(row[number]) for row in body)
            table.add_column(
                name,
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=not any(" " in row[number] for row in body),  # names, to be copied whole
            )
        for row in body:
            table.add_row(*map(Text, row))  # brackets in a cell are no markup: edgedense[cpu]
        self.console.print(_Whole(table) if whole else table)


@dataclass(frozen=True)
class _Whole:
    """A table wider than the terminal rather than with cells that lack their last digits."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = Measurement.get(console, options.update(width=_ENDLESS), self.table).minimum
        least += len(self.table.columns)  # of whose padding some is left out there
        yield from console.render(self.table, options.update(width=max(least, options.max_width)))


def emit(value: dict[str, Any]) -> None:
    """Print the one JSON object of ``--json``."""
    if world().first:
        click.echo(json.dumps(value, indent=1, allow_nan=False))


def percent(value: float | None) -> str:
    """``94.56 %``, or a dash."""
    return "-" if value is None else f"{value:.2f} %"


def size(count: int | None) -> str:
    """Bytes in a readable unit."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def number(value: float | None, digits: int = 2) -> str:
    """A number with ``digits`` decimals, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def count(value: float) -> str:
    """A large count in thousands, millions or billions."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f}"


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def _numeric(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-+"
