"""The section about accuracy: engine and FP32 original on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgedense.report.charts import Interval, forest
from edgedense.report.engines import Engine
from edgedense.report.facts import at, items, mapping, number, text
from edgedense.report.html import Child, Markup, tag
from edgedense.report.parts import figure, listing, section, table
from edgedense.report.verdict import gate_of, reasons
from edgedense.report.words import (
    DASH,
    between,
    decimal,
)

_CONCLUDED = {"open": "no gate"}


_MOST_CLASSES = 40
_MOST_CHANGED = 8
_MOST_SHOWN = 4  # engines told in detail
_DETAILS = ("McNemar p", "KL of softmax, nats", "calibration error, pp")


def accuracy(known: Sequence[Engine]) -> Markup | None:
    """Drops with their intervals against the gate, the figures, and why."""
    judged = [engine for engine in known if engine.judged]
    if not judged:
        return None
    rows = [
        Interval(e.name, e.drop, e.drop_ends, "" if e.verdict == "open" else e.verdict)
        for e in judged
        if e.drop is not None and e.drop_ends is not None
    ]
    metric = judged[0].metric[1]
    parts: list[Child] = [
        tag(
            "p",
            f"Engine and FP32 original saw the same images. What counts is not the measured drop "
            f"of {metric} but how far its 95 % interval reaches.",
        )
    ]
    if rows:
        gates = {number(e.judged, "max_drop_pp") for e in judged}
        # without any gate the default one is drawn, for orientation
        gate = ("usual" if gates == {None} else "allowed", gate_of(judged))
        title = f"Drop of {metric} with 95 % intervals"
        said = "Squares are measured drops, lines their 95 % intervals."
        if gates == {None}:
            said += f" No gate was set; the dashed line is the usual {gate[1]:g} pp."
        unit = "drop in percentage points, right is worse"
        parts.append(figure(forest("drop", title, unit, rows, gate), said))
    parts.append(_accuracy_table(judged))
    told = [(e, reason) for e in judged for reason in reasons(e)]
    if told:
        parts.append(tag("h3", "Why"))
        named = len(judged) > 1
        parts.append(listing(f"{e.name}: {reason}" if named else reason for e, reason in told))
    notes = dict.fromkeys(n for e in judged for n in items(e.judged, "notes") if isinstance(n, str))
    if notes:
        parts += [tag("h3", "Worth a look"), listing(notes)]
    shown = judged if len(judged) <= _MOST_SHOWN else []
    for engine in shown:
        parts += [_classes(engine, len(judged) > 1), _changed(engine, len(judged) > 1)]
    return section("accuracy", "Accuracy", parts)


def _accuracy_table(judged: Sequence[Engine]) -> Markup:
    dense = judged[0].metric[0] == "miou"
    name = "mIoU" if dense else "top-1"
    columns: list[tuple[str, Any]] = [
        ("images", lambda e: decimal(number(e.judged, "samples"), 0)),
        (f"FP32 {name} %", lambda e: decimal(number(e.judged, "reference", e.metric[0]))),
        (f"engine {name} %", lambda e: decimal(e.accuracy)),
        ("drop pp", lambda e: decimal(e.drop)),
        ("drop, 95 %", lambda e: between(e.drop_ends)),
        (
            "same pixels %" if dense else "same answer %",
            lambda e: decimal(number(e.judged, "agreement")),
        ),
        ("logit SQNR dB", lambda e: decimal(number(e.judged, "logit_sqnr_db"), 1)),
        ("lost / gained", _flips),
        ("McNemar p", lambda e: decimal(number(e.judged, "mcnemar_p"), 3)),
        ("KL of softmax, nats", lambda e: _short(number(e.judged, "kl_nats"))),
        ("calibration error, pp", _calibration),
        ("verdict", lambda e: _CONCLUDED.get(e.verdict, e.verdict or DASH)),
    ]
    if len(judged) > _MOST_SHOWN:
        columns = [column for column in columns if column[0] not in _DETAILS]
    return table(
        "Against the FP32 original, on the same images",
        "engine",
        columns,
        [(engine.name, engine) for engine in judged],
    )


def _flips(engine: Engine) -> str:
    lost, gained = number(engine.judged, "lost"), number(engine.judged, "gained")
    return DASH if lost is None or gained is None else f"{lost:,.0f} / {gained:,.0f}"


def _short(value: float | None) -> str:
    return DASH if value is None else f"{value:.2g}"


def _calibration(engine: Engine) -> str:
    before, after = (
        number(engine.judged, "calibration", who, "ece_pp") for who in ("reference", "engine")
    )
    if after is None:
        return DASH
    return decimal(after) if before is None else f"{decimal(before)} → {decimal(after)}"


def _classes(engine: Engine, named: bool) -> Markup | None:
    """A table of classes: IoU before and after, or drops with Holm's correction."""
    before, after = (
        mapping(engine.judged, "reference", "iou"),
        mapping(engine.judged, "engine", "iou"),
    )
    rows: list[tuple[str, Any]] = [
        (name, {"before": number(before, name), "after": number(after, name)}) for name in after
    ]
    columns: list[tuple[str, Any]] = [
        ("FP32 IoU %", lambda r: decimal(r["before"])),
        ("engine IoU %", lambda r: decimal(r["after"])),
        ("drop pp", lambda r: decimal(_minus(r["before"], r["after"]))),
    ]
    if not rows:
        rows, columns = _per_class(engine)
    if not rows:
        return None
    shown = rows[:_MOST_CLASSES]
    more = f", the first {len(shown)} of {len(rows)}" if len(rows) > len(shown) else ""
    of = f" of {engine.name}" if named else ""
    caption = f"Classes{of}{more}; what lost most comes first"
    inner = table(caption, "class", columns, shown)
    return tag("details", tag("summary", f"Classes{of} ({len(rows)})"), inner)


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _per_class(engine: Engine) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """The classes that lost, each with its own test."""
    rows = [(_called(at(row, "class")), row) for row in items(engine.judged, "classes", "worst")]
    columns: list[tuple[str, Any]] = [
        ("images", lambda r: decimal(number(r, "images"), 0)),
        ("FP32 %", lambda r: decimal(number(r, "reference_top1"))),
        ("engine %", lambda r: decimal(number(r, "engine_top1"))),
        ("drop pp", lambda r: decimal(number(r, "drop_pp"))),
        ("p after Holm", lambda r: decimal(number(r, "p_holm"), 3)),
    ]
    return rows, columns


def _called(name: object) -> str:
    return name if isinstance(name, str) else f"class {name}"


def _changed(engine: Engine, named: bool) -> Markup | None:
    """Images whose answer changed, some of each kind."""
    kinds = {"lost": "right before, wrong now", "gained": "wrong before, right now"}
    kinds |= {"wrong_both": "wrong, and another class now", "unlabelled": "not labelled"}
    rows = [
        (text(row, "image"), {**row, "kind": said})
        for kind, said in kinds.items()
        for row in items(engine.judged, "flips", "examples", kind)[:_MOST_CHANGED]
        if isinstance(row, dict)
    ]
    if not rows:
        return None
    columns: list[tuple[str, Any]] = [
        ("what", lambda r: r["kind"]),
        ("label", lambda r: _called(r.get("label"))),
        ("FP32", lambda r: _called(r.get("reference"))),
        ("engine", lambda r: _called(r.get("engine"))),
        ("sure, %", lambda r: decimal(number(r, "confidence"), 0)),
    ]
    total = number(engine.judged, "flips", "changed")
    of = f", {engine.name}" if named else ""
    said = f"Images whose answer changed{of} ({decimal(total, 0)})"
    inner = table(
        f"{len(rows)} of them, those of which the engine is surest", "image", columns, rows
    )
    return tag("details", tag("summary", said), inner)
