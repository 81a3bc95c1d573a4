"""``edgedense benchmark``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.latency_tables import show, show_cells
from edgedense.cli.terminal import Terminal, emit
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.benchmark import (
        BenchmarkOptions,
        BenchmarkReport,
        ComparisonReport,
        Plan,
        Subject,
        SweepReport,
    )

    Report = BenchmarkReport | ComparisonReport | SweepReport

__all__ = ["benchmark", "show"]

_REPEATS = 6  # A B B A, three times: each engine goes first as often as the other
_COUNTS = params.Several(click.IntRange(min=1))


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, beside the times."""

    batch: int
    repeats: int | None
    same_process: bool
    batches: tuple[int, ...] | None
    streams: tuple[int, ...] | None
    max_latency_ms: float | None
    allow_unstable: bool
    export: Path | None

    @property
    def sweeps(self) -> bool:
        """Whether it is a table of batches and streams."""
        return bool(self.batches or self.streams)

    @property
    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Batches and streams of the table."""
        return self.batches or (self.batch,), self.streams or (1,)

    def check(self, against: Path | None) -> None:
        """Errors: InputError where one option makes another senseless."""
        for given, name in ((against, "--against"), (self.repeats, "--repeats")):
            if self.sweeps and given is not None:
                raise InputError(
                    f"{name} with --batches or --streams: a table is of one engine",
                    f"Leave {name} away.",
                )
        if self.same_process and self.repeats is not None:
            raise InputError(
                "--repeats are fresh processes, and --same-process wants none",
                "Leave one of them away.",
            )
        if self.max_latency_ms is not None and not self.sweeps:
            raise InputError(
                "--max-latency-ms chooses from a table of batches and streams",
                "Give --batches 1,2,4,8, or --streams 1,2,4, or both.",
            )


@click.command()
@params.engine_argument
@click.option(
    "--against",
    type=params.PATH,
    metavar="ENGINE|MODEL",
    help="Another engine, or a network in FP32 PyTorch: both take turns, in fresh processes.",
)
@click.option("--batch", default=1, show_default=True, help="Images a call.")
@click.option(
    "--iterations",
    default=1000,
    show_default=True,
    help="Timed calls, at least. A p90 needs 64, a p99 662: below, it is null in the JSON.",
)
@click.option("--min-seconds", default=10.0, show_default=True, help="Time at least.")
@click.option(
    "--max-seconds", default=30.0, show_default=True, help="Stop after this time; it wins."
)
@click.option("--warm-up", default=0.5, show_default=True, help="Seconds not kept, before each.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    help="Fresh processes an engine.  [default: 6 with --against, else none: this process]",
)
@click.option("--same-process", is_flag=True, help="--against in this process: faster, less sure.")
@click.option("--batches", type=_COUNTS, help="Batch sizes to try, such as 1,2,4,8.")
@click.option("--streams", type=_COUNTS, help="Calls at the same time to try, such as 1,2,4.")
@click.option("--max-latency-ms", type=float, metavar="MS", help="Of a call, for that table.")
@click.option("--allow-unstable", is_flag=True, help="Exit 0 although the times are UNSTABLE.")
@click.option(
    "--export", type=params.PATH, metavar="FILE", help="Raw samples: .csv, .json or .npz."
)
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and how long.")
@params.output_option(required=False)
@params.seed_option
@params.json_option
def benchmark(
    engine: Path,
    against: Path | None,
    iterations: int,
    min_seconds: float,
    max_seconds: float,
    warm_up: float,
    dry_run: bool,
    output: Path | None,
    seed: int,
    as_json: bool,
    **asked: Any,
) -> int:
    """Measure the latency of an engine, copies included.

    Exit 1 where the times are UNSTABLE (drift, slow calls, throttling, changing clocks, heat), or
    no cell of a table keeps --max-latency-ms. Raw samples are kept with -o or --export.

    \b
    Example:  edgedense benchmark engine --against net.pth
    """
    from edgedense import artifact
    from edgedense import benchmark as stage

    wanted = _Asked(**asked)
    wanted.check(against)
    options = stage.BenchmarkOptions(
        batch=wanted.batch,
        iterations=iterations,
        max_seconds=max_seconds,
        min_seconds=min(min_seconds, max_seconds),
        warmup_seconds=warm_up,
        seed=seed,
    )
    if output is not None:
        artifact.check_absent(output)
    if wanted.export is not None:
        stage.check_export(wanted.export)
    subjects = [stage.engine_subject(engine)]
    if against is not None:
        subjects.append(stage.other_subject(against, engine))
    terminal = Terminal()
    if dry_run:
        return _planned(_plan(subjects, options, wanted), terminal, as_json)
    parents = {name: s.sha256 for name, s in zip(("engine", "against"), subjects, strict=False)}
    found = _measure(subjects, options, wanted, terminal)
    if output is not None:
        stage.write_report(output, found, parents=parents, options=vars(options), seed=seed)
    if wanted.export is not None:
        stage.export_samples(wanted.export, found)
        terminal.say(f"samples: {wanted.export}")
    told = found.to_dict()
    if as_json:
        emit(told)
    elif "cells" in told:
        show_cells(terminal, told)
    else:
        show(terminal, subjects[0].name, told)
    return 0 if _passed(told, found.stable or wanted.allow_unstable) else 1


def _plan(subjects: list[Subject], options: BenchmarkOptions, asked: _Asked) -> Plan:
    from edgedense import benchmark as stage

    names = [subject.name for subject in subjects]
    if asked.sweeps:
        return stage.sweep_plan(names[0], *asked.grid, options)
    repeats = _repeats(subjects, asked)
    return stage.plan(names, options, repeats, fresh_processes=repeats > 0)


def _planned(found: Plan, terminal: Terminal, as_json: bool) -> int:
    if as_json:
        emit(found.to_dict())
    else:
        for line in found.lines():
            terminal.say(line)
    return 0


def _measure(
    subjects: list[Subject], options: BenchmarkOptions, asked: _Asked, terminal: Terminal
) -> Report:
    from edgedense import benchmark as stage

    engine, *others = subjects
    if asked.sweeps:
        limit = asked.max_latency_ms
        return stage.sweep(
            engine.open,
            engine.name,
            *asked.grid,
            options,
            max_latency_ms=limit,
            progress=terminal,
        )
    repeats = _repeats(subjects, asked)
    if repeats and others:
        return stage.compare_fresh(engine, others[0], options, repeats, progress=terminal)
    if repeats:
        return stage.benchmark_fresh(engine, options, repeats, progress=terminal)
    with engine.opened() as runner:
        if not others:
            return stage.benchmark(runner, options, name=engine.name, progress=terminal)
        names = [subject.name for subject in subjects]
        with others[0].opened() as other:
            return stage.compare_all([runner], other, options, names=names, progress=terminal)[0]


def _repeats(subjects: list[Subject], asked: _Asked) -> int:
    """Fresh processes an engine; 0 is this process."""
    if asked.repeats is not None:
        return asked.repeats
    return _REPEATS if len(subjects) > 1 and not asked.same_process else 0


def _passed(told: dict[str, Any], stable: bool) -> bool:
    return stable and bool(told.get("within_limit", True))
