"""Small plots: maps of cells, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedense.report.charts import cut
from edgedense.report.html import Markup, tag
from edgedense.report.svg import (
    Scale,
    drawing,
    label,
    line,
    path,
    rect,
)


@dataclass(frozen=True)
class Cell:
    """A cell of a map: what it says, and how strongly it is filled, 0 to 1."""

    text: str
    strength: float
    told: str


def cells(
    name: str, title: str, rows: Sequence[tuple[str, Sequence[Cell | None]]], columns: str
) -> Markup:
    """A map of blocks (rows) by layers (columns, from 1); each cell has its value as text."""
    count = max(len(row) for _, row in rows)
    widest = max(len(c.text) for _, row in rows for c in row if c) if rows else 1
    each, left = max(26, 9 + 7 * widest), 12 + 7.2 * max(len(cut(head, 24)) for head, _ in rows)
    shapes = [label(columns, left, 12, class_="tick")]
    step = 1 if count <= 16 else 4
    for column in range(count):
        if column == 0 or (column + 1) % step == 0:
            shapes.append(
                label(str(column + 1), left + each * (column + 0.5), 30, "middle", "tick")
            )
    for number, (head, row) in enumerate(rows):
        y = 38 + 28 * number
        shapes.append(label(cut(head, 24), 0, y + 17, class_="name"))
        for column, cell in enumerate(row):
            if cell is not None:
                shapes += _cell(cell, left + each * column, y, each)
    told = f"{len(rows)} rows by {count} columns; the values are written in the cells."
    height = 38 + 28 * len(rows) + 4
    svg = drawing(name, title, told, left + each * count + 2, height)(shapes)
    return tag("div", svg, class_="scroll", tabindex="0", role="region", aria_label=title)


def _cell(cell: Cell, x: float, y: float, width: float) -> list[Markup]:
    level = min(6, max(0, round(6 * cell.strength)))
    told = tag("title", cell.told)
    box = rect(x + 1, y + 1, width - 2, 24, f"h{level}", told)
    return [box, label(cell.text, x + width / 2, y + 17, "middle", f"t{level}")]


def histogram(name: str, title: str, counts: Sequence[int], top: float, amax: float) -> Markup:
    """Magnitudes on a logarithmic count axis, and the range that was chosen as a line."""
    width, height = 200, 76
    filled = [number for number, count in enumerate(counts) if count]
    end = max(top * ((filled[-1] + 1) if filled else 1) / max(1, len(counts)), amax) * 1.04 or 1.0
    most = np.log1p(max([*counts, 1]))
    x = Scale(0, end, 0, width)
    points = [(0.0, float(height))]
    for number in range((filled[-1] + 1) if filled else 0):
        y = height - (height - 6) * float(np.log1p(counts[number]) / most)
        ends = (x(top * number / len(counts)), x(top * (number + 1) / len(counts)))
        points += [(ends[0], y), (ends[1], y)]
    points.append((points[-1][0], float(height)))
    shapes = [path(points, "area", closed=True), line(0, height, width, height, "base")]
    shapes.append(line(x(amax), 0, x(amax), height, "gate"))
    told = f"The chosen range ends at {amax:.4g}."
    return drawing(name, title, told, width, height + 1)(shapes)
