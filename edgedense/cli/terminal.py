"""What the user sees: progress and tables on stderr, one JSON object on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from edgedense.distributed import world

T = TypeVar("T")
_GAP = 2  # between the columns of a table
_COMMAND = re.compile(r"(.*:(?= ))? *((?:\S*/)?edgedense [a-z].*)")
_NAME = re.compile(r"\d-[a-z]")  # of a point: 0.7-int8-block
_AMOUNT = re.compile(r"[-+\d][-\d.,/:+]* ?[^\s\d]*")  # 2.34 MB, 56.00 %
# what stands beside label and bar: counts of five digits, elapsed time, ETA
_BESIDE_BAR, _BESIDE_LABEL = 36, 28
_LEAST_BAR, _LARGEST_BAR = 6, 24
_FIRST_SECONDS, _LONGEST_SECONDS = 10.0, 300.0


class Terminal:
    """Progress bars with ETA where a person watches stderr, now and then a plain line elsewhere."""

    def __init__(self) -> None:
        self.console = Console(
            stderr=True,
            highlight=False,
            soft_wrap=True,
            quiet=not world().first,  # of several processes one speaks
            color_system=None if os.environ.get("NO_COLOR") else "auto",  # bold is a code too
        )
        self._shown: Progress | None = None

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` under a progress bar; in a pipe or a log, between occasional lines."""
        if not _watched():
            yield from self._told(items, label, total)
            return
        with self._bars(label) as bars:
            room = max(8, self.console.width - _BESIDE_LABEL)
            shown = label if len(label) <= room else f"{label[: room - 1]}…"
            task = bars.add_task(shown, total=total)
            for item in items:
                yield item
                bars.advance(task)
            bars.remove_task(task)

    @contextlib.contextmanager
    def _bars(self, label: str) -> Iterator[Progress]:
        """The one display of this terminal: a loop inside a loop adds its line to it."""
        if self._shown is not None:
            yield self._shown
            return
        room = min(_LARGEST_BAR, self.console.width - _BESIDE_BAR - len(label))
        columns: list[ProgressColumn] = [TextColumn("  {task.description}", markup=False)]
        if room >= _LEAST_BAR:
            columns += [BarColumn(room), MofNCompleteColumn(), TimeElapsedColumn()]
        else:
            columns += [MofNCompleteColumn()]
        columns += [TextColumn("eta"), TimeRemainingColumn()]
        with Progress(*columns, console=self.console, transient=True) as bars:
            self._shown = bars
            try:
                yield bars
            finally:
                self._shown = None

    def _told(self, items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
        """Lines for a log: at once, then after 10 s, 20 s, 40 s, … until every five minutes."""
        if total != 0:
            self.say(f"  {label}" + (f" ({total})" if total else ""))
        began = time.monotonic()
        pause, due = _FIRST_SECONDS, began + _FIRST_SECONDS
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now >= due and done != total:
                self.say(f"  {label}: {_how_far(done, total, now - began)}")
                pause = min(2 * pause, _LONGEST_SECONDS)
                due = now + pause

    def say(self, line: str, *, whole: bool = False) -> None:
        """Print one line of news; a terminal folds it between words, but for a command in it.

        With ``whole`` nothing is folded: it is the content of a file.
        """
        if not whole and (self.console.is_terminal or os.environ.get("COLUMNS")):
            line = "\n".join(_folded(part, self.console.width) for part in line.split("\n"))
        self.console.print(line, markup=False)

    def table(self, title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; numbers are right-aligned, sentences fold, names and numbers never do.

        Where the terminal is too narrow for that, a row is a paragraph with a line for each cell.
        """
        body = [[_cell(value) for value in row] for row in rows]
        if title:
            self.console.print(Text(_folded(title, self.console.width), style="bold"))
        folds = [_folds([row[place] for row in body]) for place in range(len(head))]
        if _least_width(head, body, folds) <= self.console.width:
            self.console.print(_grid(head, body, folds))
            return
        for line in _paragraphs(head, body):
            self.console.print(_folded(line, self.console.width), markup=False)


def _watched() -> bool:
    """Whether a person looks at stderr: a log of CI keeps every state of a progress bar."""
    return (
        sys.stderr.isatty()
        and not os.environ.get("CI")
        and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    )


def _how_far(done: int, total: int | None, seconds: float) -> str:
    if not total:
        return f"{done}, {_clock(seconds)}"
    left = seconds * max(0, total - done) / done
    return f"{done} of {total}, {_clock(seconds)}, eta {_clock(left)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _folded(line: str, width: int) -> str:
    """A line folded between words; what is to be copied, a command or a path, stays whole."""
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    found = _COMMAND.fullmatch(line)
    words, command = found.groups() if found else (line, None)
    if words is None:
        return line
    lines = textwrap.wrap(
        words,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join([*lines, *([indent + command] if command else [])])


def _folds(cells: Sequence[str]) -> bool:
    """Whether a column holds sentences, and neither names, to be copied whole, nor amounts."""
    return any(" " in cell and not _AMOUNT.fullmatch(cell) for cell in cells)


def _least_width(head: Sequence[str], body: Sequence[Sequence[str]], folds: Sequence[bool]) -> int:
    """Columns of a terminal that a table takes with no word and no number cut."""
    least = 0
    for place, fold in enumerate(folds):
        cells = [head[place], *(row[place] for row in body)]
        pieces = [piece for cell in cells for piece in (cell.split() if fold else cell.split("\n"))]
        least += max(map(cell_len, pieces), default=0)
    return least + _GAP * (len(folds) - 1)


def _grid(head: Sequence[str], body: Sequence[Sequence[str]], folds: Sequence[bool]) -> Table:
    table = Table(show_header=any(head), box=None, pad_edge=False)
    for place, name in enumerate(head):
        cells = [row[place] for row in body]
        numeric = bool(cells) and all(map(_numeric, cells))
        justify: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=not folds[place])
    for row in body:
        table.add_row(*map(Text, row))  # brackets in a cell are no markup: edgedense[cpu]
    return table


def _paragraphs(head: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines: what names the row, then each cell that is not empty under its heading."""
    named = [all(row[place] for row in body) for place in range(len(head))]
    first = named.index(True) + 1 if True in named else 1
    while first < len(head) - 1 and not head[first]:
        first += 1
    titles = [" ".join(title.split()) for title in head]
    for row in body:
        cells = [
            f"{title}: {cell}" if title else cell for title, cell in zip(titles, row, strict=True)
        ]
        name = " ".join(cell for cell, value in zip(cells[:first], row, strict=False) if value)
        rest = [cell for cell, value in zip(cells[first:], row[first:], strict=True) if value]
        if len(head) - first == 1:
            yield "  ".join([name, *rest])
            continue
        indent = " " * (len(name) - len(name.lstrip()) + 2)
        yield name
        yield from (indent + cell for cell in rest)


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
    return cell[:1] in "-+" or (cell[:1].isdigit() and not _NAME.search(cell))
