"""``edgedense layers``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.lint import show_findings
from edgedense.cli.terminal import Terminal, emit, number
from edgedense.environment import require

if TYPE_CHECKING:
    from edgedense.insight import InsightReport
    from edgedense.insight.report import Part

_SHOWN, _SLOWEST, _WIDEST = 3, 5, 60


@click.command(short_help="Tell in which precision an engine's layers run.")
@click.argument("engine", type=params.PATH, metavar="ENGINE|FILE.json")
@click.option(
    "--profile",
    type=params.PATH,
    metavar="FILE.json",
    help="Times of layers: trtexec --exportProfile (default: the artifact's, if it has one).",
)
@click.option(
    "--onnx",
    type=params.PATH,
    metavar="FILE.onnx",
    help="The file it was built from: what was to run in INT8 is read there, not presumed.",
)
@click.option("--all", "show_all", is_flag=True, help="Show every place, not only the first.")
@params.json_option
def layers(
    engine: Path, profile: Path | None, onnx: Path | None, show_all: bool, as_json: bool
) -> int:
    """Tell in which precision the layers of a TensorRT engine run, and what slows them.

    From an engine that build-engine made on its device, or from trtexec --exportLayerInfo of any
    engine (TensorRT 8.2 to 11). Exit 1 where INT8 was asked for and is not there, or cannot be
    seen.

    \b
    Example:  edgedense layers engine --profile profile.json
    """
    from edgedense.insight import look, open_source

    found = look(open_source(engine), profile, None if onnx is None else _int8_nodes(onnx))
    if as_json:
        emit(found.to_dict())
    else:
        _show(found, None if show_all else _SHOWN)
    return found.exit_code


def _int8_nodes(path: Path) -> frozenset[str]:
    """Names of the convolutions and matrix products between Q/DQ in an ONNX file."""
    require("onnx", "reading an ONNX file")
    from edgedense.lint.read import read_file

    file = read_file(path)
    return frozenset(op.name or op.output for op in file.weighted if file.is_int8(op))


def _show(found: InsightReport, most: int | None) -> None:
    from edgedense.findings import printable

    terminal = Terminal()
    where = "".join(f", {word}" for word in (found.target, found.runtime) if word)
    terminal.say(
        f"{found.file}{where}: {len(found.rows)} layers, of {found.weighted} convolutions and "
        f"matrix products {found.int8} in INT8"
    )
    _parts(terminal, "convolutions and matrix products", found.precisions)
    _parts(terminal, "all layers", found.roles)
    _parts(terminal, "blocks", found.blocks)
    slowest = [
        (number(row.time_ms, 3), row.precision, printable(row.kind), printable(row.name)[:_WIDEST])
        for row in found.slowest(_SLOWEST)
    ]
    if slowest:
        terminal.table("slowest", ("ms", "in", "kind", "layer"), slowest)
        terminal.say("times are the profiler's, layer by layer: a whole call takes less")
    terminal.say(f"what was to be INT8, by {found.asked}")
    show_findings(terminal, found.findings, most)


def _parts(terminal: Terminal, title: str, parts: Iterable[Part]) -> None:
    rows = [
        (
            part.name,
            part.layers,
            f"{part.int8} of {part.weighted}" if part.weighted else None,
            number(part.time_ms, 3),
            None if part.share is None else f"{100 * part.share:.1f} %",
        )
        for part in parts
    ]
    if rows:
        terminal.table(title, ("", "layers", "INT8", "ms", "time"), rows)
