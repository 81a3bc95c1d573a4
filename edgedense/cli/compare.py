"""``edgedense compare``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.compare_tables import show_runs, show_verdict
from edgedense.cli.engines import reference_of
from edgedense.cli.terminal import Terminal, emit
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.compare import VerdictReport


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for."""

    data: Path | None
    reference: Path | None
    latency: Path | None
    max_drop: float
    min_speedup: float
    batch: int
    repeats: int
    max_seconds: float
    seed: int


@click.command(short_help="Say which of two engines to ship, or show two runs.")
@click.argument("first", type=params.PATH, metavar="A")
@click.argument("second", type=params.PATH, metavar="B")
@click.option("--data", type=params.PATH, help="Of two engines: evaluation images with labels.")
@params.reference_option
@click.option(
    "--latency",
    type=params.PATH,
    metavar="DIR",
    help="Of two validations: what benchmark A --against B wrote with -o.",
)
@click.option(
    "--max-drop",
    default=1.0,
    show_default=True,
    metavar="PP",
    help="Gate: top-1 (segmentation: mean IoU) may fall by this many percentage points from FP32.",
)
@click.option(
    "--min-speedup",
    default=1.0,
    show_default=True,
    metavar="X",
    help="Gate: how many times as fast INT8 has to be as FP16, and always faster.",
)
@click.option("--batch", default=1, show_default=True, help="Images a call.")
@click.option(
    "--repeats",
    type=click.IntRange(min=2),
    default=6,
    show_default=True,
    help="Fresh processes for each engine, in turns.",
)
@click.option("--max-seconds", default=10.0, show_default=True, help="Longest of one repeat.")
@params.output_option(required=False)
@params.seed_option
@params.json_option
def compare(first: Path, second: Path, output: Path | None, as_json: bool, **asked: Any) -> int:
    """Say which of two engines to ship, or show two runs side by side.

    Two engines are validated on the same images and timed in turns, here; two validate artifacts
    are compared by what they recorded, anywhere. The answer is ship INT8, ship FP16, ship neither
    or not enough evidence, with the numbers. Exit 0 where one may be shipped, else 1. Two run
    directories are shown side by side and not judged.

    \b
    Example:  edgedense compare engine-int8 engine-fp16 --data test/
              edgedense compare validate-int8 validate-fp16 --latency bench
              edgedense compare runs/monday runs/tuesday
    """
    from edgedense import artifact

    if output is not None:
        artifact.check_absent(output)
    wanted = _Asked(**asked)
    terminal = Terminal()
    if not (artifact.is_artifact(first) or artifact.is_artifact(second)):
        _check_runs(wanted)
        return _runs(first, second, output, as_json, terminal)
    pair = artifact.read(first), artifact.read(second)
    found = _judged(*pair, wanted, terminal)
    if output is not None:
        _write(output, found, pair, wanted)
    if as_json:
        emit(found.to_dict())
    else:
        show_verdict(terminal, found)
    return found.exit_code


def _check_runs(asked: _Asked) -> None:
    given = [name for name in ("data", "reference", "latency") if getattr(asked, name) is not None]
    if given:
        raise InputError(
            f"--{given[0]} is for two artifacts; two runs are shown as they are",
            "Leave it away, or name the engines (or validate stages) in the runs.",
        )


def _judged(first: Artifact, second: Artifact, asked: _Asked, terminal: Terminal) -> VerdictReport:
    from edgedense.compare import Terms, compare_recorded
    from edgedense.compare.recorded import BENCHMARK, VALIDATE, read_stage
    from edgedense.engines.opening import STAGE

    stages = {first.manifest.stage, second.manifest.stage}
    if stages == {STAGE}:
        return _measured(first, second, asked, terminal)
    if stages != {VALIDATE}:
        raise InputError(
            f"{first.path} is a {first.manifest.stage} artifact and {second.path} one of "
            f"{second.manifest.stage}",
            "Give two engines (with --data), two validate artifacts (with --latency), or two runs.",
        )
    if asked.data is not None or asked.reference is not None:
        raise InputError(
            "--data and --reference are for engines; two validations were measured already",
            "Leave them away.",
        )
    timed = read_stage(asked.latency, BENCHMARK) if asked.latency is not None else None
    terms = Terms(asked.max_drop, asked.min_speedup)
    return compare_recorded(first, second, timed, terms)


def _measured(
    first: Artifact, second: Artifact, asked: _Asked, terminal: Terminal
) -> VerdictReport:
    from edgedense.benchmark import BenchmarkOptions
    from edgedense.compare import CompareOptions, Terms, compare_engines
    from edgedense.engines.reference import require_labels

    if asked.data is None:
        raise InputError(
            "two engines are compared on images", "Give them with --data SET, labelled."
        )
    if asked.latency is not None:
        raise InputError("--latency is for validate artifacts", "Leave it away: engines are timed.")
    images = params.read_set(asked.data)
    require_labels(images)
    options = CompareOptions(
        terms=Terms(asked.max_drop, asked.min_speedup),
        benchmark=BenchmarkOptions(
            batch=asked.batch,
            max_seconds=asked.max_seconds,
            min_seconds=min(2.0, asked.max_seconds),
            seed=asked.seed,
        ),
        repeats=asked.repeats,
    )
    return compare_engines(
        first,
        second,
        images,
        params.choose_preprocess(None, first.manifest.preprocess, images),
        lambda engine: reference_of(engine, asked.reference),
        options,
        progress=terminal,
    )


def _write(
    output: Path, found: VerdictReport, pair: tuple[Artifact, Artifact], asked: _Asked
) -> None:
    from edgedense.artifact import sha256_of
    from edgedense.compare import write_report
    from edgedense.data import set_sha256

    parents = {"first": pair[0].sha256, "second": pair[1].sha256}
    if asked.latency is not None:
        parents["latency"] = sha256_of(asked.latency)
    if asked.reference is not None:
        parents["reference"] = sha256_of(asked.reference)
    if asked.data is not None:
        parents["data"] = set_sha256(params.read_set(asked.data))
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(asked).items()
    }
    write_report(output, found, parents=parents, options=options)


def _runs(first: Path, second: Path, output: Path | None, as_json: bool, terminal: Terminal) -> int:
    from edgedense.compare import compare_runs, write_runs

    found = compare_runs(first, second)
    if output is not None:
        write_runs(output, found, first, second)
    if as_json:
        emit(found.to_dict())
    else:
        show_runs(terminal, found)
    return 0
