"""The section that holds several networks against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgedense.report.charts import Spot, trade
from edgedense.report.engines import Engine
from edgedense.report.facts import items, mapping, number, text
from edgedense.report.html import Markup, tag
from edgedense.report.parts import figure, section, table
from edgedense.report.words import (
    amount,
    between,
    decimal,
    milliseconds,
    size,
    times,
)


def choices(found: dict[str, Any], known: Sequence[Engine]) -> Markup | None:
    """Accuracy against MACs, latency and size, where one target has more than one network."""
    by_target: dict[str, list[Engine]] = {}
    for engine in known:
        if engine.accuracy is not None:
            by_target.setdefault(engine.target, []).append(engine)
    rated = max(by_target.values(), key=len, default=[])
    if len(rated) < 2:
        return None
    costs: dict[str, tuple[str, Callable[[Engine], float | None]]] = {
        "MACs": ("million MACs an image", lambda e: _million(number(e.model, "macs"))),
        "latency": ("latency p50, ms", lambda e: number(e.timed, "p50_ms")),
        "size": ("engine, MB", lambda e: _million(number(e.built, "engine_bytes"))),
    }
    numbers = {engine.name: str(position) for position, engine in enumerate(rated, 1)}
    plots, best = [], dict.fromkeys((e.name for e in rated), False)
    for name, (axis, cost) in costs.items():
        priced = [(engine, value) for engine in rated if (value := cost(engine)) is not None]
        if len({value for _, value in priced}) < 2:
            continue
        front = _front([(value, -(engine.accuracy or 0.0)) for engine, value in priced])
        spots = [
            Spot(numbers[e.name], value, e.accuracy or 0.0, _around(e), star)
            for (e, value), star in zip(priced, front, strict=True)
        ]
        for (engine, _), star in zip(priced, front, strict=True):
            best[engine.name] |= star
        title = f"{rated[0].metric[1].capitalize()} against {name}"
        whole = _fp32(rated, name)
        axes = (axis, f"{rated[0].metric[1]}, %")
        plots.append(figure(trade(f"trade-{name.lower()}", title, axes, spots, whole), None))
    if not plots:
        return None
    told = (
        "Filled points are worth having: no other network is as good in both, and better in one. "
        "Vertical lines are 95 % intervals of the drop against FP32 (the square and dotted line). "
        "Each interval is for its network alone, and the best of many is best by luck, too: judge "
        "the one that you take on images that did not choose it."
    )
    rows = [tag("p", told), tag("div", plots, class_="pair")]
    return section(
        "choices", "Which network to take", [*rows, _choice_table(rated, numbers, best, found)]
    )


def _front(costs: Sequence[tuple[float, float]]) -> list[bool]:
    def beaten(mine: tuple[float, float]) -> bool:
        return any(o[0] <= mine[0] and o[1] <= mine[1] and o != mine for o in costs)

    return [not beaten(mine) for mine in costs]


def _around(engine: Engine) -> tuple[float, float] | None:
    if engine.drop is None or engine.drop_ends is None or engine.accuracy is None:
        return None
    fp32 = engine.accuracy + engine.drop
    return fp32 - engine.drop_ends[1], fp32 - engine.drop_ends[0]


def _fp32(rated: Sequence[Engine], name: str) -> Spot | None:
    reference = number(rated[0].judged, "reference", rated[0].metric[0])
    cost = {
        "MACs": _million(number(rated[0].whole, "macs")),
        "latency": number(rated[0].timed, "against", "p50_ms"),
        "size": _million(_times4(number(rated[0].whole, "params"))),
    }[name]
    if reference is None or cost is None:
        return None
    return Spot("FP32", cost, reference, None, False)


def _million(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def _times4(value: float | None) -> float | None:
    return None if value is None else 4 * value


def _choice_table(
    rated: Sequence[Engine], numbers: dict[str, str], best: dict[str, bool], found: dict[str, Any]
) -> Markup:
    predicted = {
        text(point, "name"): mapping(point, "predicted_ms")
        for point in items(found, "sweep", "points")
    }
    targets = dict.fromkeys(name for row in predicted.values() for name in row)
    columns: list[tuple[str, Any]] = [
        ("MACs", lambda e: amount(number(e.model, "macs"))),
        ("params", lambda e: amount(number(e.model, "params"))),
        ("engine", lambda e: size(number(e.built, "engine_bytes"))),
        ("accuracy %", lambda e: decimal(e.accuracy)),
        ("drop pp", lambda e: decimal(e.drop)),
        ("drop, 95 %", lambda e: between(e.drop_ends)),
        ("p50 ms", lambda e: milliseconds(number(e.timed, "p50_ms"))),
        ("speed-up", lambda e: times(e.speedup, unstable=e.unstable_speedup)),
    ]
    columns += [(f"{name} ms, predicted", _predicted(predicted, name)) for name in targets]
    rows = [(f"{numbers[engine.name]}  {engine.name}", engine) for engine in rated]
    starred = {f"{numbers[name]}  {name}" for name, star in best.items() if star}
    caption = "All networks; a star marks those on the front of at least one plot"
    return table(caption, "network", columns, rows, best=starred)


def _predicted(predicted: dict[str, Any], target: str) -> Callable[[Engine], str]:
    return lambda engine: milliseconds(number(predicted.get(engine.name), target))
