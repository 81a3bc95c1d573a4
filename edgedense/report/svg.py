"""Drawing: scales with round ticks, a few shapes. Colours and fonts are the style sheet's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgedense.report.html import Child, Markup, tag
from edgedense.report.words import MINUS

WIDE, NARROW = 820, 340
Draw = Callable[[int], "tuple[float, list[Markup]]"]


@dataclass(frozen=True)
class Scale:
    """From values ``low`` … ``high`` to places ``start`` … ``end`` (px), linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of ``value``; what lies outside is put on the border."""
        low, high, value = (self._bent(v) for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside, about ``count`` of them."""
        return (_log_ticks if self.log else _ticks)(self.low, self.high, count)

    def _bent(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value


def _ticks(low: float, high: float, count: int) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    low = max(low, 1e-12)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) <= count + 1:
            break
    return found if len(found) > 1 else _ticks(low, high, count)


def tick_text(value: float) -> str:
    """A tick's value, as short as it can be said."""
    return f"{value:.10g}".replace("-", MINUS)


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of ``values`` with some room around it; never empty."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - room, high + room


def drawing(
    name: str, title: str, description: str, width: float, height: float
) -> Callable[[Iterable[Child]], Markup]:
    """An ``svg`` of a size in px, with what a screen reader says; give it its shapes."""

    def filled(shapes: Iterable[Child]) -> Markup:
        return tag(
            "svg",
            tag("title", title, id=f"{name}-title"),
            tag("desc", description, id=f"{name}-desc") if description else None,
            shapes,
            viewBox=f"0 0 {width:g} {height:g}",
            width=f"{width:g}",
            height=f"{height:g}",
            role="img",
            aria_labelledby=f"{name}-title" + (f" {name}-desc" if description else ""),
        )

    return filled


def both(name: str, title: str, description: str, draw: Draw, wide: int = WIDE) -> Markup:
    """The same drawing for wide and for narrow pages, of which the style sheet shows one."""
    parts = []
    for kind, width in (("wide", wide), ("narrow", NARROW)):
        height, shapes = draw(width)
        svg = drawing(f"{name}-{kind}", title, description, width, height)(shapes)
        parts.append(tag("div", svg, class_=f"plot {kind}"))
    return Markup("".join(parts))


def label(text: str, x: float, y: float, anchor: str = "start", class_: str = "") -> Markup:
    """Text whose baseline begins, ends or has its middle at a place."""
    anchored = anchor if anchor != "start" else None
    return tag("text", text, x=float(x), y=float(y), text_anchor=anchored, class_=class_ or None)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, *inner: Child) -> Markup:
    """A rectangle; a bar that is less than nothing wide is not drawn."""
    width, height = max(0.0, float(width)), max(0.0, float(height))
    return tag("rect", inner, x=float(x), y=float(y), width=width, height=height, class_=class_)


def dot(x: float, y: float, radius: float, class_: str) -> Markup:
    """A circle."""
    return tag("circle", cx=float(x), cy=float(y), r=float(radius), class_=class_)


def square(x: float, y: float, radius: float, class_: str) -> Markup:
    """A square around a place: the other marker, so that no colour is needed to tell them apart."""
    return rect(x - radius, y - radius, 2 * radius, 2 * radius, class_)


def path(points: Iterable[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """Straight lines from point to point."""
    words = [f"{x:.1f} {y:.1f}" for x, y in points]
    return tag("path", d="M" + "L".join(words) + ("Z" if closed else ""), class_=class_)


def x_axis(scale: Scale, top: float, bottom: float, name: str, count: int = 5) -> list[Markup]:
    """Grid lines, their values and the axis' name below."""
    shapes = []
    for value in scale.ticks(count):
        x = scale(value)
        shapes.append(line(x, top, x, bottom, "grid"))
        shapes.append(label(tick_text(value), x, bottom + 18, "middle", "tick"))
    middle = (scale.start + scale.end) / 2
    return [*shapes, label(name, middle, bottom + 38, "middle", "axis")]


def y_axis(scale: Scale, left: float, right: float, name: str, count: int = 5) -> list[Markup]:
    """Grid lines and their values; the axis' name stands above its upper end."""
    shapes = []
    for value in scale.ticks(count):
        y = scale(value)
        shapes.append(line(left, y, right, y, "grid"))
        shapes.append(label(tick_text(value), left - 8, y + 4, "end", "tick"))
    return [*shapes, label(name, 0, min(scale.start, scale.end) - 14, class_="axis")]
