"""``edgedense compare``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.engines import reference_of
from edgedense.cli.terminal import Terminal, emit, number, percent, size
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.compare import RunsReport, VerdictReport
    from edgedense.compare.runs import AccuracyRow

_SHOWN = 12


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
@click.option(
    "--reference",
    type=params.PATH,
    metavar="MODEL",
    help="FP32 network to judge against (default: the logits that travel along).",
)
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


def show_verdict(terminal: Terminal, found: VerdictReport) -> None:
    """Print both engines, how they differ, and the answer."""
    told = found.to_dict()
    sides = [told["candidate"], told["incumbent"]]
    dense = found.candidate.measured.task == "segmentation"
    key, metric = ("miou", "mIoU") if dense else ("top1", "top-1")
    latency = [told["latency"][side] or {} for side in ("candidate", "incumbent")]
    fp32 = (sides[0]["fp32"] or {}).get(key)
    rows = [
        (metric, percent(fp32), *(percent(side["accuracy"].get(key)) for side in sides)),
        ("drop pp", "", *(_interval(side["drop_pp"], side["drop_ci95"]) for side in sides)),
        ("p50 ms", "", *(number(side.get("p50_ms"), 3) for side in latency)),
        ("energy mJ/image", "", *(number(side["energy_mj"], 1) for side in sides)),
        ("size", "", *(size(side["engine_bytes"]) for side in sides)),
    ]
    head = ("", "reference", *found.labels)
    terminal.table(f"on {found.candidate.measured.samples} images", head, rows)
    between = found.between
    if between.drop is not None:
        name, other = found.labels
        drop = _interval(between.drop.value, list(between.drop.interval))
        terminal.say(f"{metric} drop of {name} against {other}: {drop} pp (95 %), image by image")
    for reason in (*found.decision.reasons, *found.decision.settle, *found.notes):
        terminal.say(f"  {reason}")
    terminal.say(f"verdict: {found.verdict.upper()}")


def _runs(first: Path, second: Path, output: Path | None, as_json: bool, terminal: Terminal) -> int:
    from edgedense.compare import compare_runs, write_runs

    found = compare_runs(first, second)
    if output is not None:
        write_runs(output, found, first, second)
    if as_json:
        emit(found.to_dict())
    else:
        _show_runs(terminal, found)
    return 0


def _show_runs(terminal: Terminal, found: RunsReport) -> None:
    accuracy = [row for kept in found.accuracy for row in _accuracy_rows(kept)]
    if accuracy:
        terminal.table("accuracy, % (95 %)", ("stage", "", *found.names), accuracy)
    latency = [
        (
            row.stage,
            *(number(value, 3) for value in row.p50_ms),
            number(row.ratio),
            " and ".join(number(value) for value in row.speedups),
            "yes" if row.same_device else "NO",
        )
        for row in found.latency
    ]
    if latency:
        head = ("stage", *found.names, "ratio", "speed-ups", "same device")
        terminal.table("p50 in ms, measured apart: a ratio without interval", head, latency)
    figures = [
        (row.stage, row.figure, *(_figure(row.figure, v) for v in row.values), number(row.ratio))
        for row in found.figures
        if row.values[0] != row.values[1]
    ]
    if figures:
        terminal.table("figures that differ", ("stage", "", *found.names, "ratio"), figures)
    _show_differing(terminal, found)
    changed = [origin.stage for origin in found.lineage if not origin.same]
    same = len(found.lineage) - len(changed)
    terminal.say(f"{same} of {len(found.lineage)} shared stages hold the same files")
    for name, only in zip(found.names, found.only, strict=True):
        if only:
            terminal.say(f"only in {name}: {', '.join(only)}")


def _show_differing(terminal: Terminal, found: RunsReport) -> None:
    rows = [
        (row.kind, row.stage, row.name, *(str(value)[:30] for value in row.values))
        for row in found.differing
    ]
    if rows:
        head = ("what", "stage", "name", *found.names)
        terminal.table("options and machines that differ", head, rows[:_SHOWN])
    if len(rows) > _SHOWN:
        terminal.say(f"… and {len(rows) - _SHOWN} more (--json has them all)")


def _accuracy_rows(row: AccuracyRow) -> Iterator[Sequence[str]]:
    values = (_interval(*pair) for pair in zip(row.values, row.intervals, strict=True))
    yield row.stage, row.metric, *values
    drops = (_interval(*pair) for pair in zip(row.drops_pp, row.drop_intervals, strict=True))
    yield "", "drop from FP32", *drops
    yield "", "verdict", *row.verdicts
    if row.between is None:
        yield "", "second to first", "", "other images"
    elif row.between.drop is not None:
        drop = row.between.drop
        yield "", "drop to the second", "", _interval(drop.value, list(drop.interval))


def _interval(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")


def _figure(name: str, value: float | None) -> str:
    if name.endswith("_bytes"):
        return size(None if value is None else int(value))
    return "-" if value is None else f"{value:,.6g}"
