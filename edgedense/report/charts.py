"""The plots of the page. Every series differs in shape or dash as well as in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedense.report.html import Markup
from edgedense.report.svg import (
    NARROW,
    Scale,
    both,
    dot,
    label,
    line,
    padded,
    path,
    rect,
    square,
    x_axis,
    y_axis,
)
from edgedense.report.words import between, decimal, milliseconds
from edgedense.stats import least_samples

Doubles = NDArray[np.float64]
_MARKS = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
_DRAWN = 160  # points of a distribution, whatever the number of samples


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot: a value with its 95 % interval, and what was concluded."""

    name: str
    value: float
    ends: tuple[float, float]
    said: str


def forest(
    name: str, title: str, unit: str, rows: Sequence[Interval], gate: tuple[str, float] | None
) -> Markup:
    """Values with their intervals against zero and a gate, a row each."""
    ends = [end for row in rows for end in (*row.ends, row.value)]
    low, high = padded([*ends, 0.0, *([] if gate is None else [gate[1]])])

    def draw(width: int) -> tuple[float, list[Markup]]:
        narrow = width == NARROW
        left, right = (10, width - 10) if narrow else (200, width - 190)
        each, top = (56, 34) if narrow else (38, 34)
        bottom = top + each * len(rows)
        scale = Scale(low, high, left, right)
        shapes: list[Markup] = []
        if gate is not None:
            x = scale(gate[1])
            shapes.append(rect(x, top - 6, right - x, bottom - top + 6, "beyond"))
        shapes += x_axis(scale, top - 6, bottom, unit)
        shapes.append(line(scale(0), top - 6, scale(0), bottom, "zero"))
        if gate is not None:
            shapes.append(line(scale(gate[1]), top - 14, scale(gate[1]), bottom, "gate"))
            middle = min(max(scale(gate[1]), left + 60), right - 40)
            shapes.append(
                label(f"{gate[0]} {gate[1]:g} pp", middle, top - 20, "middle", "gatename")
            )
        for number, row in enumerate(rows):
            y = top + each * number + (34 if narrow else each / 2)
            if narrow:  # its words have a line of their own, which nothing else crosses
                above = y - 34 if number else top - 7
                shapes.append(rect(0, above, width, y - 10 - above, "blank"))
            shapes += _interval(row, scale, y, narrow, (left, right))
        return bottom + 48, shapes

    told = "; ".join(f"{r.name}: {decimal(r.value)} ({between(r.ends)}), {r.said}" for r in rows)
    return both(name, title, told, draw)


def _interval(
    row: Interval, scale: Scale, y: float, narrow: bool, ends: tuple[float, float]
) -> list[Markup]:
    low, high = (scale(end) for end in row.ends)
    figures = f"{decimal(row.value)} ({between(row.ends)})"
    shapes = [line(low, y, high, y, "whisker")]
    shapes += [line(x, y - 5, x, y + 5, "whisker") for x in (low, high)]
    shapes.append(square(scale(row.value), y, 5, "mark"))
    if narrow:
        shapes.append(label(cut(row.name, 22), ends[0], y - 16, class_="name"))
        return [*shapes, label(figures, ends[1], y - 16, "end", "figure")]
    shapes.append(label(cut(row.name, 27), 0, y + 4, class_="name"))
    shapes.append(label(figures, ends[1] + 14, y - 3 if row.said else y + 5, class_="figure"))
    said = [label(row.said, ends[1] + 14, y + 13, class_="tick")] if row.said else []
    return [*shapes, *said]


@dataclass(frozen=True)
class Samples:
    """Latency samples in ms of one thing; the first of a plot is the one that it is about."""

    name: str
    values: Doubles


def distribution(name: str, title: str, series: Sequence[Samples]) -> Markup:
    """Share of calls that took at most so long, with marks at p50, p90 and p99.

    A percentile that has too few samples has no mark.
    """
    low = min(float(s.values.min()) for s in series) * 0.92
    high = max(_quantile(s, 0.99) for s in series) * 1.25
    told = "; ".join(
        f"{s.name}: "
        + (
            ", ".join(f"{mark} {milliseconds(_quantile(s, p))} ms" for p, mark in _marks(s))
            or "too few calls to tell"
        )
        for s in series
    )

    def draw(width: int) -> tuple[float, list[Markup]]:
        left, right, top, bottom = 40, width - 12, 40, 300
        x, y = Scale(low, high, left, right, high > 2.5 * low), Scale(0, 1, bottom, top)
        shapes = x_axis(x, top, bottom, "ms a call, copies included", 4 if width == NARROW else 8)
        for share, mark in ((0.0, "0"), *_MARKS, (1.0, "")):
            shapes.append(line(left, y(share), right, y(share), "grid"))
            # p90 and p99 lie close together: the upper one stands above its line
            shapes.append(
                label(mark, left - 8, y(share) + (-1 if mark == "p99" else 5), "end", "tick")
            )
        for number, found in enumerate(series):
            shapes += _curve(found, number, x, y)
        return bottom + 48, [*shapes, *_legend(series, left, 16, width)]

    return both(name, title, told, draw)


def _curve(found: Samples, number: int, x: Scale, y: Scale) -> list[Markup]:
    kind, marker = ("one", dot) if number == 0 else ("two", square)
    shares = np.unique([*np.linspace(0, 1, _DRAWN), *(share for share, _ in _MARKS)])
    places = np.quantile(found.values, shares)
    inside = places <= x.high
    points = [(x(v), y(p)) for v, p in zip(places[inside], shares[inside], strict=True)]
    marks = [marker(x(_quantile(found, p)), y(p), 4.5, f"m-{kind}") for p, _ in _marks(found)]
    return [path(points, f"curve c-{kind}"), *marks]


def _marks(found: Samples) -> list[tuple[float, str]]:
    return [(p, mark) for p, mark in _MARKS if len(found.values) >= least_samples(p)]


def _quantile(found: Samples, share: float) -> float:
    return float(np.quantile(found.values, share))


def _legend(series: Sequence[Samples], left: float, y: float, width: int) -> list[Markup]:
    shapes, x = [], float(left)
    for number, found in enumerate(series):
        kind, marker = ("one", dot) if number == 0 else ("two", square)
        text = cut(found.name, 15 if width == NARROW else 40)
        shapes += [
            line(x, y - 4, x + 26, y - 4, f"curve c-{kind}"),
            marker(x + 13, y - 4, 4.5, f"m-{kind}"),
        ]
        shapes.append(label(text, x + 34, y, class_="name"))
        x += 34 + 7.6 * len(text) + 22
    return shapes


@dataclass(frozen=True)
class Spot:
    """One network of a trade-off: what it costs, its accuracy in percent, and that one's ends.

    ``number`` is how the table beside the plot calls it; ``best`` ones are on the front.
    """

    number: str
    cost: float
    accuracy: float
    ends: tuple[float, float] | None
    best: bool


def trade(
    name: str, title: str, axes: tuple[str, str], spots: Sequence[Spot], whole: Spot | None
) -> Markup:
    """Accuracy against one cost; the front is joined by a line, ``whole`` is the FP32 network."""
    everything = [*spots, *([whole] if whole else [])]
    heights = [h for s in everything for h in (s.accuracy, *(s.ends or ()))]
    costs = [s.cost for s in everything]
    told = "; ".join(f"{s.number}: {decimal(s.accuracy)} % at {s.cost:.4g}" for s in everything)

    def draw(width: int) -> tuple[float, list[Markup]]:
        left, right, top, bottom = 46, width - 14, 30, 260
        log = min(costs) > 0 and max(costs) > 8 * min(costs)
        ends = (min(costs) / 1.3, max(costs) * 1.3) if log else padded(costs, 0.12)
        x, y = Scale(*ends, left, right, log), Scale(*padded(heights), bottom, top)
        shapes = [*x_axis(x, top, bottom, axes[0], 4), *y_axis(y, left, right, axes[1])]
        front = sorted((s for s in spots if s.best), key=lambda s: s.cost)
        if len(front) > 1:
            shapes.append(path([(x(s.cost), y(s.accuracy)) for s in front], "curve front"))
        for spot in spots:
            if spot.ends:
                shapes.append(
                    line(x(spot.cost), y(spot.ends[0]), x(spot.cost), y(spot.ends[1]), "faint")
                )
        if whole:
            shapes.append(line(left, y(whole.accuracy), right, y(whole.accuracy), "zero dashed"))
        shapes += [dot(x(s.cost), y(s.accuracy), 5, "m-one" if s.best else "hollow") for s in spots]
        if whole:
            shapes.append(square(x(whole.cost), y(whole.accuracy), 5, "m-two"))
        places = [(x(s.cost), y(s.accuracy)) for s in everything]
        names = [s.number for s in everything]
        return bottom + 48, [*shapes, *_names(names, places, (left, right))]

    return both(name, title, told, draw, wide=400)


def _names(
    names: Sequence[str], places: Sequence[tuple[float, float]], ends: tuple[float, float]
) -> list[Markup]:
    """A name beside each place, where it covers no other place or name as far as that can be."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    shapes = []
    for text, (x, y) in zip(names, places, strict=True):
        wide = 7.0 * len(text)
        tries = [
            (x + 9, y + 4),
            (x - 9 - wide, y + 4),
            (x - wide / 2, y - 10),
            (x - wide / 2, y + 19),
        ]
        tries += [(x + 9, y - 9), (x + 9, y + 17), (x - 9 - wide, y - 9), (x - 9 - wide, y + 17)]
        boxes = [(a, b - 11, a + wide, b + 1) for a, b in tries]
        costs = [
            sum(_covered(box, other) for other in taken)
            + 1000 * (box[0] < ends[0] - 10 or box[2] > ends[1] + 12)
            for box in boxes
        ]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        shapes.append(label(text, *tries[best], class_="spot"))
    return shapes


def _covered(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def cut(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
