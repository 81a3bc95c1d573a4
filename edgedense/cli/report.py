"""``edgedense report``."""

from __future__ import annotations

from pathlib import Path

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit


@click.command()
@click.argument("run", type=params.PATH)
@click.option(
    "-o",
    "--output",
    type=params.PATH,
    metavar="FILE.md",
    help="Markdown file to write (default: RUN/report.md, beside RUN/report.json).",
)
@params.json_option
def report(run: Path, output: Path | None, as_json: bool) -> None:
    """Write a run's summary: report.json and a Markdown page.

    \b
    Example:  edgedense report runs/first
    """
    from edgedense.report import read_run, write_reports

    found = read_run(run)
    paths = write_reports(found, run, output)
    if as_json:
        emit(found)
        return
    terminal = Terminal()
    for path in paths:
        terminal.say(f"written: {path}")
