"""The sections about latency, and about the machine that it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgedense.report.charts import Samples, distribution
from edgedense.report.engines import Engine
from edgedense.report.facts import at, items, mapping, number, text
from edgedense.report.html import Child, Markup, tag
from edgedense.report.parts import Cells, figure, listing, section, table
from edgedense.report.run import Raw
from edgedense.report.words import (
    DASH,
    between,
    decimal,
    milliseconds,
    plural,
    times,
)

_YES = {"True": "yes", "False": "no"}


def latency(known: Sequence[Engine], raw: Raw) -> Markup | None:
    """Distributions of single calls, engine and FP32 side by side, and their percentiles."""
    timed = [engine for engine in known if engine.timed]
    if not timed:
        return None
    batch = plural(number(timed[0].timed, "batch") or 1, "image")
    parts: list[Child] = [
        tag("p", f"Single calls with {batch} each, copies in and out included, after a warm-up.")
    ]
    shown = timed if len(timed) <= 4 else []
    for number_, engine in enumerate(shown):
        parts.append(_distribution(engine, f"latency-{number_}", raw))
    parts.append(_latency_table(timed))
    notes = dict.fromkeys(
        f"{engine.name}: {note}" if len(timed) > 1 else note
        for engine in timed
        for note in items(engine.timed, "notes")
        if isinstance(note, str)
    )
    if notes:
        parts += [tag("h3", "What these times cannot say"), listing(notes)]
    return section("latency", "Latency", parts)


def _distribution(engine: Engine, name: str, raw: Raw) -> Markup | None:
    stage, key = engine.samples
    kept = raw.samples_ms.get(stage, {})
    pairs = ((f"{engine.name} engine", kept.get(key)), (_other(engine), kept.get(engine.against)))
    series = [Samples(who, values) for who, values in pairs if values is not None]
    if not series:
        return None
    title = f"Latency of the {engine.name} engine, share of calls"
    beyond = [s for s in series if s.values.max() > 1.3 * _p99(s)]
    said = (
        "The share of calls that took at most so long; circles and squares mark p50, p90 and p99 "
        "where there are calls enough to tell."
    )
    if beyond:
        slow = max(float(s.values.max()) for s in beyond)
        said += f" The slowest calls lie beyond the right edge, up to {milliseconds(slow)} ms."
    return figure(distribution(name, title, series), said)


def _p99(series: Samples) -> float:
    ordered = sorted(series.values.tolist())
    return float(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))])


def _other(engine: Engine) -> str:
    found = text(engine.timed, "against", "engine_name")
    return "FP32 PyTorch" if found in ("", "pytorch-fp32") else found


def _latency_table(timed: Sequence[Engine]) -> Markup:
    rows: list[tuple[str, Any]] = []
    for engine in timed:
        rows.append((f"{engine.name} engine", (engine.timed, engine)))
        if (other := mapping(engine.timed, "against")) and len(timed) == 1:
            rows.append((_other(engine), (other, None)))
    columns: list[tuple[str, Any]] = [
        ("calls", lambda r: decimal(number(r[0], "iterations"), 0)),
        ("p50 ms", lambda r: milliseconds(number(r[0], "p50_ms"))),
        ("p90 ms", lambda r: milliseconds(number(r[0], "p90_ms"))),
        ("p99 ms", lambda r: milliseconds(number(r[0], "p99_ms"))),
        ("images/s", lambda r: decimal(number(r[0], "throughput_ips"), 0)),
        ("copy in ms", lambda r: milliseconds(_phase(r[0], "copy_in"))),
        ("compute ms", lambda r: milliseconds(_phase(r[0], "compute"))),
        ("copy out ms", lambda r: milliseconds(_phase(r[0], "copy_out"))),
        ("energy, mJ an image", lambda r: decimal(number(r[0], "energy_mj"), 1)),
        ("steady", lambda r: _YES.get(str(at(r[0], "stable")), DASH)),
        ("speed-up", lambda r: _speedup(r[1]) if r[1] else DASH),
        ("speed-up, 95 %", lambda r: between(r[1].speedup_ends) if r[1] else DASH),
    ]
    return table("Latency of single calls", "what", columns, rows)


def _speedup(engine: Engine) -> str:
    return times(engine.speedup, unstable=engine.unstable_speedup)


def _phase(found: dict[str, Any], name: str) -> float | None:
    """The median of a phase of a call on the device's clock."""
    paths = (
        ("phases", f"{name}_ms"),
        ("phases", f"{name}_ms", "p50_ms"),
        ("phases", name, "p50_ms"),
    )
    return next((v for path in paths if (v := number(found, *path)) is not None), None)


def device(known: Sequence[Engine]) -> Markup | None:
    """The state of the machine while it was timed."""
    parts: list[Child] = []
    for engine in known:
        facts = [*_flat(mapping(engine.timed, "device"))]
        facts += _flat(mapping(engine.timed, "state"))
        watched = [row for row in items(engine.timed, "watched") if isinstance(row, dict)]
        facts += _flat(watched[-1]) if watched else []
        if facts and len(parts) < 4:
            columns: Cells = [("value", lambda value: value)]
            body = table(f"While {engine.name} was timed", "what", columns, facts, words=True)
            parts.append(body)
    if not parts:
        return None
    told = "What the machine said of itself; what it does not tell is left out."
    return section("device", "Device state", [tag("p", told), *parts])


def _flat(found: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested facts as rows; empty ones are left out."""
    rows: list[tuple[str, str]] = []
    for key, value in found.items():
        name = f"{above}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            rows += _flat(value, f"{name}, ")
        elif isinstance(value, bool):
            rows.append((name, "yes" if value else "no"))
        elif isinstance(value, int | float):
            rows.append((name, f"{value:,.6g}"))
        elif isinstance(value, list):
            rows += [(name, ", ".join(str(one) for one in value))] if value else []
        elif value not in (None, ""):
            rows.append((name, str(value)))
    return rows
