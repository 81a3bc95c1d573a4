"""What benchmarks that compare tools share: processes, folders that go on, and tables."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click


def alone(work: Callable[..., Any], *given: Any) -> Any:
    """The result of ``work`` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *given).result()


def check_same(file: Path, asked: Sequence[str]) -> None:
    """Rows of different images must not meet in one table."""
    if file.exists() and json.loads(file.read_text()) != list(asked):
        raise click.UsageError(f"{file.parent} is of another run: name another folder for --work")
    file.write_text(json.dumps(list(asked)))


def slug(name: str) -> str:
    """A file name for a row."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(lines: Sequence[Sequence[str]], markdown: bool) -> str:
    """Rows of cells, the first with the columns' names; in Markdown, or for a terminal."""
    rows = [list(line) for line in lines]
    if markdown:
        rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
