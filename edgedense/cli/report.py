"""``edgedense report``."""

from __future__ import annotations

from pathlib import Path

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit
from edgedense.errors import InputError

_PAGES = (".html", ".htm")


def _print_schema(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        from edgedense.report import schema

        click.echo(schema(), nl=False)
        context.exit()


@click.command()
@click.argument("run", type=params.PATH)
@click.option(
    "-o",
    "--output",
    type=params.PATH,
    metavar="FILE.html",
    help="Page to write (default: RUN/report.html); report.json and report.md stay in RUN.",
)
@click.option(
    "--model-card", is_flag=True, help="Write a Hugging Face model card too: RUN/README.md."
)
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of report.json, and do nothing else.",
)
@params.json_option
def report(run: Path, output: Path | None, model_card: bool, as_json: bool) -> None:
    """Write a run's evidence: a page, report.md and report.json.

    The page is one HTML file that opens without a network: the verdict first, then what it rests
    on, how the network was made, and the commands that make it again.

    \b
    Example:  edgedense report runs/first
    """
    from edgedense.report import read_run, write_card, write_reports

    if output is not None and output.suffix.lower() not in _PAGES:
        raise InputError(
            f"{output}: the page is HTML", "Give -o FILE.html; report.md is written into RUN."
        )
    found = read_run(run)
    paths = [*write_reports(found, run, output)]
    if model_card:
        paths.append(write_card(found, run))
    if as_json:
        emit(found)
        return
    terminal = Terminal()
    for path in paths:
        terminal.say(f"written: {path}")
