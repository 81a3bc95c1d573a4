"""``edgedense benchmark``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.engines import fp32_of, opened
from edgedense.cli.terminal import Terminal, emit, number

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.engines.runner import Runner


@click.command()
@params.engine_argument
@click.option(
    "--against",
    type=params.PATH,
    metavar="ENGINE|MODEL",
    help="Measure interleaved with another engine, or with a network in FP32 PyTorch.",
)
@click.option("--batch", default=1, show_default=True, help="Images a call.")
@click.option("--iterations", default=700, show_default=True, help="Timed calls, at least.")
@click.option("--max-seconds", default=30.0, show_default=True, help="Stop after this time.")
@params.output_option(required=False)
@params.seed_option
@params.json_option
def benchmark(
    engine: Path,
    against: Path | None,
    batch: int,
    iterations: int,
    max_seconds: float,
    output: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure the latency of an engine, copies included.

    Raw samples are kept (-o) after a warm-up; percentiles are of single calls.

    \b
    Example:  edgedense benchmark engine --against net.pth
    """
    from edgedense import artifact
    from edgedense import benchmark as stage

    if output is not None:
        artifact.check_absent(output)
    options = stage.BenchmarkOptions(
        batch=batch,
        iterations=iterations,
        max_seconds=max_seconds,
        min_seconds=min(2.0, max_seconds),
        seed=seed,
    )
    terminal = Terminal()
    source = artifact.read(engine)
    parents = {"engine": source.sha256}
    if against is not None:
        parents["against"] = artifact.sha256_of(against)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(opened(source))
        found: stage.BenchmarkReport | stage.ComparisonReport
        if against is None:
            found = stage.benchmark(runner, options, progress=terminal)
        else:
            other = stack.enter_context(_other(against, source))
            found = stage.compare(runner, other, options, progress=terminal)
    if output is not None:
        stage.write_report(output, found, parents=parents, options=vars(options), seed=seed)
    if as_json:
        emit(found.to_dict())
        return
    show(terminal, str(engine), found.to_dict())


def show(terminal: Terminal, name: str, found: dict[str, Any]) -> None:
    """Print the latency table of one engine, or of two that were measured interleaved."""
    pairs = [(name, found)]
    if "against" in found:
        pairs.append((found["against"]["engine_name"], found["against"]))
    rows = [
        (
            who,
            *(number(row[key]) for key in ("p50_ms", "p90_ms", "p99_ms")),
            number(row["throughput_ips"], 1),
            f"{100 * row['cov']:.1f} %",
            "yes" if row["stable"] else "NO",
        )
        for who, row in pairs
    ]
    head = ("engine", "p50 ms", "p90 ms", "p99 ms", "images/s", "cov", "stable")
    terminal.table(f"latency, batch {found['batch']}, {found['iterations']} calls", head, rows)
    if "speedup" in found:
        low, high = found["speedup_ci95"]
        terminal.say(f"speed-up {found['speedup']:.2f} (95 % {low:.2f} to {high:.2f})")
    for note in found["notes"]:
        terminal.say(note)


@contextlib.contextmanager
def _other(path: Path, source: Artifact) -> Iterator[Runner]:
    from edgedense import artifact
    from edgedense.engines.opening import STAGE

    if artifact.is_artifact(path) and artifact.read(path).manifest.stage == STAGE:
        with opened(artifact.read(path)) as runner:
            yield runner
    else:
        yield fp32_of(path, source)
