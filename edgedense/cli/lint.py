"""``edgedense lint``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit
from edgedense.environment import require

if TYPE_CHECKING:
    from edgedense.findings import Finding
    from edgedense.lint import LintReport

_SHOWN = 3


@click.command()
@click.argument("file", type=params.PATH)
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=params.complete_target,
    help="Only what its versions of TensorRT do.",
)
@click.option("--all", "show_all", is_flag=True, help="Show every place, not only the first.")
@params.json_option
def lint(file: Path, target: str | None, show_all: bool, as_json: bool) -> int:
    """Tell what TensorRT would not like about an ONNX file.

    Anyone's file: what is refused, misread or slow, where, and what mends it. Exit 1 where there
    are errors.

    \b
    Example:  edgedense lint densenet121.int8.onnx --target jetson-orin-nano
    """
    from edgedense.targets import find_target

    device = find_target(target) if target else None
    require("onnx", "reading an ONNX file")
    from edgedense.lint import lint as run

    found = run(file, device)
    if as_json:
        emit(found.to_dict())
    else:
        _show(found, None if show_all else _SHOWN)
    return found.exit_code


def _show(found: LintReport, most: int | None) -> None:
    # lines and no table: names of nodes are long, and are to be copied whole
    terminal = Terminal()
    terminal.say(
        f"{found.file}: opset {found.opset}, {found.operators} operators, "
        f"{found.int8_operators} of them INT8"
    )
    show_findings(terminal, found.findings, most)


def show_findings(terminal: Terminal, findings: Sequence[Finding], most: int | None) -> None:
    """Print findings kind by kind, of each at most ``most`` places, and how many there are."""
    from edgedense.findings import count, grouped

    for group in grouped(findings):
        first = group.first
        terminal.say(f"{first.severity} {first.rule} ({len(group.findings)}): {first.hazard}")
        for place, detail in group.places(most):
            terminal.say(f"    {place}  {detail}".rstrip())
        terminal.say(f"  → {first.remedy}")
    terminal.say(
        f"{count(findings, 'error')} errors, {count(findings, 'warning')} warnings, "
        f"{count(findings, 'info')} remarks"
    )
