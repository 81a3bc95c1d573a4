"""Two engines, or two runs, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgedense.cli.terminal import Terminal, number, percent, size

if TYPE_CHECKING:
    from edgedense.compare import RunsReport, VerdictReport
    from edgedense.compare.runs import AccuracyRow

_SHOWN = 12


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


def show_runs(terminal: Terminal, found: RunsReport) -> None:
    """Print what differs between two runs."""
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
