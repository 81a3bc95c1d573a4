"""The sections about what pruning removed, and about training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from edgedense.report.cells import Cell
from edgedense.report.facts import items, number, text
from edgedense.report.html import Child, Markup, tag
from edgedense.report.maps import LAYER, MOST_STAGES, figures, grid, of_kind
from edgedense.report.parts import Cells, section, table
from edgedense.report.words import DASH, amount, decimal


def pruned(found: dict[str, Any]) -> Markup | None:
    """Channels before and after, by block and layer."""
    stages = of_kind(found, "prune")
    if not stages:
        return None
    parts: list[Child] = [_prune_table(stages)]
    for name, stage in list(stages.items())[:MOST_STAGES]:
        if len(stages) > 1:
            parts.append(tag("h3", name))
        parts += _channels(name, stage)
    return section("pruned", "What was removed", parts)


def _prune_table(stages: dict[str, Any]) -> Markup:
    columns: Cells = [
        ("MACs", lambda s: _change(s["report"], "macs")),
        ("parameters", lambda s: _change(s["report"], "params")),
        ("method", lambda s: text(s, "report", "method") or DASH),
        ("images", lambda s: decimal(number(s, "report", "images"), 0)),
        ("multiple of", lambda s: decimal(number(s, "report", "align"), 0)),
        ("seconds", lambda s: decimal(number(s, "report", "seconds"), 1)),
    ]
    return table("Before and after", "stage", columns, list(stages.items()))


def _change(report: dict[str, Any], what: str) -> str:
    before, after = number(report, f"{what}_before"), number(report, f"{what}_after")
    share = f" ({decimal(100 * after / before, 0)} %)" if before and after is not None else ""
    return f"{amount(before)} → {amount(after)}{share}"


def _channels(name: str, stage: dict[str, Any]) -> Iterable[Markup]:
    """A map of what is left for each convolution of a layer, and the rest in words."""
    maps: dict[str, dict[tuple[str, int], Cell]] = defaultdict(dict)
    rest = []
    for group in items(stage, "report", "groups"):
        where, before, after = text(group, "name"), number(group, "before"), number(group, "after")
        if not where or not before or after is None:
            continue
        told = f"{where}: {before:.0f} → {after:.0f} channels"
        if place := LAYER.match(where):
            cell = Cell(f"{after:.0f}", 1 - after / before, told)
            layer = int(place["layer"] or 0) or int(place["index"]) + 1
            maps[place["operator"]][place["block"], layer] = cell
        elif after < before:
            rest.append(told)
    for operator, found in maps.items():
        title = f"Channels left after {operator}, by dense block and layer ({name})"
        drawn = grid(f"channels-{name}-{operator}", title, found)
        yield tag("figure", _pruned_caption(operator), drawn)
    if rest:
        yield tag("p", f"Elsewhere: {'; '.join(rest)}.", class_="quiet")


def _pruned_caption(operator: str) -> Markup:
    said = f"Output channels of {operator} that are left. "
    return tag("figcaption", f"{said}The stronger the colour, the larger the part that went.")


def tuned(found: dict[str, Any]) -> Markup | None:
    """What fine-tuning or training did, epoch by epoch."""
    stages = {**of_kind(found, "train"), **of_kind(found, "finetune")}
    rows = []
    for name, stage in stages.items():
        for epoch in items(stage, "report", "epochs"):
            if isinstance(epoch, dict):
                rows.append((f"{name}, epoch {epoch.get('epoch', DASH)}", epoch))
    if not rows:
        return None
    columns: Cells = [
        ("rate", lambda e: figures(number(e, "lr"))),
        ("loss", lambda e: decimal(number(e, "loss"), 3)),
        ("top-1 %", lambda e: decimal(number(e, "top1"))),
        ("mIoU %", lambda e: decimal(number(e, "miou"))),
        ("seconds", lambda e: decimal(number(e, "seconds"), 1)),
    ]
    last = rows[-12:]
    caption = "Epochs" + (f", the last {len(last)} of {len(rows)}" if len(rows) > len(last) else "")
    return section("training", "Training", [table(caption, "epoch", columns, last)])
