"""``edgedense profile-target``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit, number

if TYPE_CHECKING:
    from edgedense import profiling


@click.command("profile-target")
@click.option(
    "--target",
    required=True,
    metavar="NAME",
    shell_complete=params.complete_target,
    help="The device that this machine is.",
)
@click.option(
    "-o", "--output", type=params.PATH, metavar="TABLE.json", help="File to write; whole or not."
)
@click.option("--quick", is_flag=True, help="A few small shapes: a trial, not a table to rely on.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and for how long.")
@params.json_option
def profile_target(
    target: str, output: Path | None, quick: bool, dry_run: bool, as_json: bool
) -> None:
    """Measure the layers of DenseNets on this device.

    Each shape is a tiny network, built and run as engines are. Predictions of latency (prune
    --latency-ms) take the table in place of the device's data sheet.

    \b
    Example:  edgedense profile-target --target cpu -o cpu.json
    """
    if output is None and not dry_run:
        raise click.UsageError("Give -o TABLE.json, or --dry-run.")
    from edgedense import profiling
    from edgedense.targets import find_target

    planned = profiling.plan(find_target(target), quick=quick)
    terminal = Terminal()
    if output is None or dry_run:
        _tell(planned, terminal, as_json)
        return
    found = profiling.profile_target(planned, output, terminal)
    if as_json:
        emit(found.to_dict())
        return
    load, cores = found.device["load_1min"], found.device["cores"]
    if found.lost or (load or 0) > cores / 2:
        terminal.say(
            f"note: {found.lost} rows were lost in the noise, {number(load, 1)} processes wanted "
            f"{cores} cores: measure again while nothing else runs"
        )
    terminal.say(
        f"{output}: {found.rows} rows in {found.seconds:.0f} s, by {found.runtime}; a call itself "
        f"takes {found.call_us:.0f} us"
    )
    terminal.say(
        f"next: edgedense prune MODEL -o DIR --calib SET --latency-ms MS --target {found.target} "
        f"--latency-table {output}"
    )


def _tell(planned: profiling.Plan, terminal: Terminal, as_json: bool) -> None:
    if as_json:
        emit(planned.to_dict())
        return
    for shape, precision in planned.points:
        terminal.say(f"  {precision} {shape}")
    terminal.say(
        f"{len(planned.points)} shapes in {planned.engines} engines on {planned.target.name}, "
        f"about {_minutes(planned.seconds)}; nothing was measured"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
