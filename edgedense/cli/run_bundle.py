"""``edgedense run-bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.latency_tables import show as show_latency
from edgedense.cli.terminal import Terminal, emit, number
from edgedense.cli.validate import show as show_accuracy

if TYPE_CHECKING:
    from edgedense.bundle import Bundle, PlannedStage, RunBundleReport, Timing

_QUIETER = (
    "UNSTABLE: let nothing else run, fix the clocks (on a Jetson: sudo jetson_clocks), and prove "
    "it again with another -o."
)
_SIGNED = {None: "not signed", False: "signed, not verified (--verify-key)", True: "verified"}


@click.command("run-bundle", short_help="Prove a bundle on this device: build, time, judge.")
@click.argument("bundle", type=params.PATH)
@click.option(
    "-o",
    "--output",
    type=params.PATH,
    metavar="RUN",
    help="Run directory: created, or resumed where it stopped.  [default: BUNDLE's name.run]",
)
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=params.complete_target,
    help="Which of the bundle's devices this is; cpu is a rehearsal.  [default: its only one]",
)
@click.option(
    "--verify-key",
    type=params.PATH,
    metavar="KEY.pub",
    help="Refuse a bundle that was not signed with this key.",
)
@click.option("--iterations", default=700, show_default=True, help="Timed calls, at least.")
@click.option("--max-seconds", default=30.0, show_default=True, help="Stop each timing after this.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Fresh processes an engine is timed in; 1: in this one, faster and less sure.",
)
@params.seed_option
@click.option("--dry-run", is_flag=True, help="Verify the bundle and show the plan; do nothing.")
@params.json_option
def run_bundle(
    bundle: Path,
    output: Path | None,
    target: str | None,
    verify_key: Path | None,
    iterations: int,
    max_seconds: float,
    repeats: int,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Prove a bundle on this device: verify, build, benchmark, validate, judge, report.

    Needs no PyTorch. A bundle that was changed is refused. Call again to resume. Exit 0 when every
    gate is proved to hold, 1 when one fails or the images cannot decide.

    \b
    Examples:  edgedense run-bundle first.edz -o first
               edgedense run-bundle first.edz --target cpu --dry-run
    """
    from edgedense.bundle import open_bundle, plan_bundle
    from edgedense.bundle import run_bundle as prove

    terminal = Terminal()
    run = output or Path(f"{bundle.stem}.run")
    with open_bundle(bundle, verify_key, terminal) as opened:
        timing = _timing(opened, iterations, max_seconds, repeats, seed)
        if dry_run:
            _show_plan(terminal, opened, run, plan_bundle(opened, run, target, timing), as_json)
            return 0
        found = prove(opened, run, target, timing, terminal)
    _write(run)
    if as_json:
        emit(found.to_dict())
    else:
        show(terminal, found)
    return found.exit_code


def show(terminal: Terminal, found: RunBundleReport) -> None:
    """Print latency, accuracy, the verdict, and where the evidence is."""
    timed = found.stages[f"benchmark-{found.target}"]
    show_latency(terminal, timed["engine_name"], timed, _QUIETER)
    show_accuracy(terminal, found.target, found.stages[f"validate-{found.target}"])
    if found.golden_sqnr_db is not None:
        terminal.say(f"golden inputs: {number(found.golden_sqnr_db, 1)} dB from FP32")
    for name, why in found.left_out.items():
        what, _, remedy = why.partition("\n")
        terminal.say(f"{name}: not on this machine, so there is no speed-up. {what}")
        if remedy:
            terminal.say(f"  → {remedy}")
    terminal.say(f"bundle {found.sha256[:16]}: {_SIGNED[found.signed]}")
    terminal.say(f"evidence: {found.run}/report.html")


def _timing(bundle: Bundle, iterations: int, max_seconds: float, repeats: int, seed: int) -> Timing:
    from edgedense.benchmark import BenchmarkOptions
    from edgedense.bundle import Timing

    options = BenchmarkOptions(
        batch=bundle.contents.batch[0],
        iterations=iterations,
        max_seconds=max_seconds,
        min_seconds=min(2.0, max_seconds),
        seed=seed,
    )
    return Timing(options, repeats)


def _show_plan(
    terminal: Terminal, bundle: Bundle, run: Path, planned: list[PlannedStage], as_json: bool
) -> None:
    if as_json:
        told = {"bundle": str(bundle.path), "sha256": bundle.sha256, "signed": bundle.signed}
        emit({"run": str(run), **told, "plan": [vars(line) for line in planned]})
    rows = [(p.stage, p.what, "reuse" if p.reused else "do") for p in planned]
    terminal.table(f"plan for {run}", ("stage", "what", ""), rows)


def _write(run: Path) -> None:
    from edgedense.report import read_run, write_reports

    write_reports(read_run(run), run)
