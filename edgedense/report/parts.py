"""Pieces that all sections are made of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias

from edgedense.report.html import Child, Markup, tag
from edgedense.report.words import DASH, MINUS

_FEW = 2  # rows: fewer than there are columns
Cells: TypeAlias = "Sequence[tuple[str, Callable[[Any], str]]]"


def section(name: str, title: str, parts: Iterable[Child]) -> Markup:
    """A part of the page with a heading that it is named by."""
    heading = tag("h2", title, id=f"{name}-heading")
    return tag("section", heading, parts, id=name, aria_labelledby=f"{name}-heading")


def figure(drawn: Markup, caption: str | None) -> Markup:
    """A plot and what it shows."""
    return tag("figure", drawn, tag("figcaption", caption) if caption else None)


def table(
    caption: str,
    corner: str,
    columns: Cells,
    rows: Sequence[tuple[str, Any]],
    *,
    best: Collection[str] = (),
    words: bool = False,
) -> Markup:
    """A table of ``rows`` (name, what the columns read); columns that know nothing are left out.

    Few rows are turned into columns, unless it is all ``words``.
    """
    filled = [(head, [cell(row) for _, row in rows]) for head, cell in columns]
    kept = [(head, cells) for head, cells in filled if any(cell != DASH for cell in cells)]
    head: list[tuple[str, str | None]]
    names, turned = [name for name, _ in rows], len(rows) <= _FEW and not words
    if turned:  # a figure a line: narrow pages have room for that
        head = [(name, None) for name in names]
        body = [_row(head, cells, [_align(cell) for cell in cells]) for head, cells in kept]
    else:
        if not words:
            caption, kept = _common(caption, kept)
        aligned = [None if words else _align(*cells) for _, cells in kept]
        head = [(name, align) for (name, _), align in zip(kept, aligned, strict=True)]
        body = [
            _row(name, [cells[number] for _, cells in kept], aligned, best=name in best)
            for number, name in enumerate(names)
        ]
    inner = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", tag("th", corner, scope="col"), [_head(*one) for one in head])),
        tag("tbody", body),
        class_="turned" if turned else "words" if words else None,
    )
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


Column: TypeAlias = tuple[str, list[str]]


def _common(caption: str, columns: list[Column]) -> tuple[str, list[Column]]:
    """What is the same in all rows is told once, behind the caption."""
    same = [(head, cells[0]) for head, cells in columns if len(set(cells)) == 1]
    if len(same) == len(columns):
        return caption, columns
    told = "".join(f"; {head}: {cell}" for head, cell in same)
    return caption + told, [(head, cells) for head, cells in columns if len(set(cells)) > 1]


def _head(name: str, align: str | None) -> Markup:
    return tag("th", name, scope="col", class_=align)


def _row(
    name: str, cells: Sequence[str], aligned: Sequence[str | None], *, best: bool = False
) -> Markup:
    data = [tag("td", cell, class_=align) for cell, align in zip(cells, aligned, strict=True)]
    return tag("tr", tag("th", name, scope="row"), data, class_="best" if best else None)


def _align(*cells: str) -> str | None:
    """Figures stand to the right, words to the left."""
    return (
        "n" if all(cell[:1].isdigit() or cell[:1] in (DASH, MINUS, "<") for cell in cells) else None
    )


def listing(lines: Iterable[str]) -> Markup:
    """A list of sentences."""
    return tag("ul", [tag("li", line) for line in lines], class_="plain")
