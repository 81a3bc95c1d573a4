"""What an engine became, as its inspector and its profile tell it: precisions and times."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from edgedense.report.cells import Cell
from edgedense.report.facts import items, number, text
from edgedense.report.html import Child, Markup, tag
from edgedense.report.maps import MOST_STAGES, grid
from edgedense.report.parts import Cells, table
from edgedense.report.run import Raw
from edgedense.report.words import DASH, decimal, milliseconds

# a layer of a dense block, wherever it stands in the names that TensorRT joins to one
_PLACE = re.compile(
    r"(?P<block>[A-Za-z_]*block[A-Za-z_]*\d*(?:\.\d+)?)[./]"
    r"(?:(?:dense)?layer(?P<layer>\d+)|layers[./](?P<index>\d+))",
    re.IGNORECASE,
)
# shown the stronger, the more bits a multiplication has
_BITS = {"INT8": 0.1, "FP8": 0.1, "FP16": 0.6, "BF16": 0.6, "FP32": 1.0, "TF32": 1.0}


def inside(raw: Raw) -> Iterable[Child]:
    """For each engine that could be looked into: sums, and maps of precision and time."""
    known = {name: found for name, found in raw.insight.items() if items(found, "rows")}
    for name, found in list(known.items())[:MOST_STAGES]:
        yield tag("h3", f"Inside {name}")
        yield _precisions(found)
        yield from _maps(name, found)
        yield _slowest(found)


def _precisions(found: dict[str, Any]) -> Markup:
    columns: Cells = [
        ("layers", lambda part: decimal(number(part, "layers"), 0)),
        ("ms", lambda part: milliseconds(number(part, "time_ms"))),
        ("share of the time, %", lambda part: _percent(number(part, "share"))),
    ]
    rows = [(text(part, "name"), part) for part in items(found, "precisions")]
    return table("Convolutions and matrix products by precision", "precision", columns, rows)


def _percent(share: float | None) -> str:
    return DASH if share is None else decimal(100 * share, 0)


def _maps(name: str, found: dict[str, Any]) -> Iterable[Markup]:
    """What the layers of dense blocks multiply in, and how long all of each layer takes."""
    precisions: dict[tuple[str, int], str] = {}
    times: dict[tuple[str, int], float] = defaultdict(float)
    for row in items(found, "rows"):
        place = _PLACE.search(text(row, "name"))
        if place is None:
            continue
        where = place["block"], int(place["layer"] or 0) or int(place["index"]) + 1
        times[where] += number(row, "time_ms") or 0.0
        precision = text(row, "precision")
        if text(row, "role") == "weighted" and precision:
            known = precisions.get(where, precision)
            precisions[where] = max(known, precision, key=lambda p: _BITS.get(p, 0.0))
    if precisions:
        drawn = {p: Cell(v, _BITS.get(v, 0.3), f"{_told(p)}: {v}") for p, v in precisions.items()}
        title = "Precision of convolutions by dense block and layer (the widest of each)"
        yield _figure(f"precision-{name}", title, drawn)
    most = max(times.values(), default=0.0)
    if most > 0:
        title = "Time by dense block and layer, in microseconds"
        drawn = {
            p: Cell(f"{1000 * ms:.0f}", ms / most, f"{_told(p)}: {milliseconds(ms)} ms")
            for p, ms in times.items()
        }
        yield _figure(f"time-{name}", title, drawn)


def _told(place: tuple[str, int]) -> str:
    return f"{place[0]}, layer {place[1]}"


def _figure(name: str, title: str, drawn: dict[tuple[str, int], Cell]) -> Markup:
    return tag("figure", tag("figcaption", title), grid(name, title, drawn))


def _slowest(found: dict[str, Any]) -> Markup | None:
    timed = [row for row in items(found, "rows") if number(row, "time_ms") is not None]
    timed.sort(key=lambda row: -(number(row, "time_ms") or 0.0))
    columns: Cells = [
        ("kind", lambda row: text(row, "kind") or DASH),
        ("precision", lambda row: text(row, "precision") or DASH),
        ("ms", lambda row: milliseconds(number(row, "time_ms"))),
    ]
    rows = [(_shortened(text(row, "name")), row) for row in timed[:8]]
    return table("The layers that take longest", "layer", columns, rows) if rows else None


def _shortened(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:59]}…"
