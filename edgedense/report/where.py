"""The sections about where error and time go, and what runs in which precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgedense.report.cells import Cell
from edgedense.report.facts import items, mapping, number, text
from edgedense.report.html import Child, Markup, tag
from edgedense.report.inside import inside
from edgedense.report.maps import MOST_STAGES, figures, grid, of_kind
from edgedense.report.parts import Cells, section, table
from edgedense.report.run import Raw
from edgedense.report.words import DASH, between, decimal, plural

_KINDS = {"activation": "inputs of", "weight": "weights of", "concat": "concats at"}


# from "costs nothing" to "costs as much as the signal can bear", in dB of logit SQNR
_MILD_DB, _HARSH_DB = 70.0, 30.0


def sensitivity(raw: Raw) -> Markup | None:
    """Where error goes: the logit SQNR of each quantizer alone."""
    known = list(raw.sensitivity.items())[:MOST_STAGES]
    parts: list[Child] = []
    for name, found in known:
        if len(known) > 1:
            parts.append(tag("h3", name))
        parts += _sensitivity(name, found)
    times = list(inside(raw))
    if not parts and not times:
        return None
    title = (
        "Where error and time go"
        if parts and times
        else f"Where {'time' if times else 'error'} goes"
    )
    return section("where", title, [*parts, *times])


def _sensitivity(name: str, found: dict[str, Any]) -> Iterable[Child]:
    total = number(found, "everything", "sqnr_db")
    images = plural(number(found, "images") or 0, "calibration image")
    yield tag(
        "p",
        f"Each tensor was quantized alone, all others in FP32, on {images}. A cell is the logit "
        f"SQNR that is left, in dB: small values cost most. All together leave "
        f"{decimal(total, 1)} dB.",
    )
    for number_, kept in enumerate(items(found, "maps")):
        drawn = _map(f"sensitivity-{name}-{number_}", kept)
        if drawn is not None:
            yield drawn
    worst = sorted(
        (row for row in items(found, "rows") if number(row, "sqnr_db") is not None),
        key=lambda row: number(row, "sqnr_db") or 0.0,
    )[:10]
    columns: Cells = [
        ("what", lambda r: text(r, "kind")),
        ("logit SQNR dB", lambda r: decimal(number(r, "sqnr_db"), 1)),
        ("answers changed", lambda r: decimal(number(r, "flips"), 0)),
    ]
    if worst:
        rows = [(text(row, "name"), row) for row in worst]
        yield tag("h3", "What costs most")
        yield table("The ten quantizers that cost most alone", "tensor", columns, rows)


def _map(name: str, found: Any) -> Markup | None:
    blocks, layers = items(found, "blocks"), items(found, "layers")
    kept = {}
    for block, row in zip(blocks, items(found, "sqnr_db"), strict=False):
        for layer, value in zip(layers, row if isinstance(row, list) else [], strict=False):
            db = number({"db": value}, "db")
            if db is not None and isinstance(block, str) and isinstance(layer, int):
                strength = (_MILD_DB - db) / (_MILD_DB - _HARSH_DB)
                kept[block, layer] = Cell(
                    f"{db:.0f}", strength, f"{block}, layer {layer}: {db:.1f} dB"
                )
    if not kept:
        return None
    what = f"{_KINDS.get(text(found, 'kind'), text(found, 'kind'))} {text(found, 'operator')}"
    title = f"Logit SQNR in dB, {what}"
    return tag("figure", tag("figcaption", title), grid(name, title, kept))


def layers(found: dict[str, Any], raw: Raw) -> Markup | None:
    """What is INT8 and what stays in floating point, and why."""
    stages = of_kind(found, "quantize")
    if not stages:
        return None
    columns: Cells = [
        ("placement", lambda s: text(s, "report", "placement") or DASH),
        ("effort", lambda s: text(s, "report", "effort") or DASH),
        ("ranges by", lambda s: text(s, "report", "calibrator") or DASH),
        ("images", lambda s: decimal(number(s, "report", "images"), 0)),
        ("INT8 layers", lambda s: decimal(number(s, "report", "quantized"), 0)),
        ("in floating point", lambda s: str(len(left_in_float(s)))),
        ("SQNR dB, simulated", lambda s: decimal(number(s, "report", "sqnr_db"), 1)),
        ("seconds", lambda s: decimal(number(s, "report", "seconds"), 1)),
    ]
    parts: list[Child] = [table("How it was quantized", "stage", columns, list(stages.items()))]
    for name, stage in list(stages.items()) if len(stages) <= MOST_STAGES else []:
        if len(stages) > 1:
            parts.append(tag("h3", name))
        parts += _precision(stage)
        parts += _reach(mapping(raw.calibration.get(name), "float_range"))
        warnings = [w for w in items(stage, "report", "warnings") if isinstance(w, str)]
        if warnings:
            parts.append(tag("ul", [tag("li", warning) for warning in warnings], class_="plain"))
    return section("layers", "Layers by precision", parts)


def left_in_float(stage: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Layers and concats of a quantize stage that are in floating point: kind, name and why."""
    reasons = {
        text(row, "name"): text(row, "reason")
        for row in items(stage, "report", "budget", "left_in_float")
    }
    asked = items(stage, "options", "skip")
    found = []
    for name in items(stage, "report", "skipped"):
        if isinstance(name, str):
            why = reasons.get(name) or (
                "by the options, or what the placement leaves out by itself"
                if name in asked
                else ""
            )
            found.append(("layer", name, why))
    for name in items(stage, "report", "float_concats"):
        if isinstance(name, str):
            found.append(
                (
                    "concat",
                    name,
                    reasons.get(name)
                    or "by the options, or what the placement leaves out by itself",
                )
            )
    return found


def _precision(stage: dict[str, Any]) -> Iterable[Child]:
    rest = "FP16" if text(stage, "options", "rest") == "fp16" else "FP32"
    concats = "INT8" if text(stage, "report", "placement") == "block" else rest
    count = plural(
        number(stage, "report", "quantized") or 0,
        "convolution or classifier",
        "convolutions and classifiers",
    )
    yield tag(
        "p",
        f"{count} in INT8; concats in {concats}; everything else in {rest} in the file for GPUs.",
    )
    left = left_in_float(stage)
    if left:
        columns: Cells = [("what", lambda row: row[0]), ("why", lambda row: row[2] or DASH)]
        rows = [(row[1], row) for row in left]
        yield table("In floating point", "name", columns, rows, words=True)
    budget = mapping(stage, "report", "budget")
    if budget:
        ends = items(budget, "drop_ci95")
        pair = (ends[0], ends[1]) if len(ends) == 2 else None
        yield tag(
            "p",
            f"The accuracy budget of {decimal(number(budget, 'budget_pp'))} pp was met with a "
            f"drop of {decimal(number(budget, 'drop_pp'))} pp (95 % {between(pair)}) on "
            f"{plural(number(budget, 'images') or 0, 'image')}. {text(budget, 'note')}",
        )


def _reach(found: dict[str, Any]) -> Iterable[Child]:
    rows = [
        (name, f)
        for key, name in (("plain", "FP32 and FP16 files"), ("int8", "INT8 files"))
        if (f := mapping(found, key))
    ]
    columns: Cells = [
        ("largest value", lambda f: figures(number(f, "largest"))),
        ("at", lambda f: text(f, "largest_at") or DASH),
        ("smallest peak", lambda f: figures(number(f, "smallest"))),
        ("there", lambda f: text(f, "smallest_at") or DASH),
    ]
    if rows:
        caption = "Floating-point values that calibration saw (FP16 ends at 65,504)"
        yield table(caption, "in", columns, rows)
