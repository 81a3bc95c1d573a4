"""The section about calibration: what was seen of each value, and its range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgedense.report.cells import histogram
from edgedense.report.facts import mapping, number
from edgedense.report.html import Child, Markup, tag
from edgedense.report.maps import MOST_STAGES, ident
from edgedense.report.parts import section
from edgedense.report.run import Raw
from edgedense.report.words import listed

_MOST_DRAWN = 240  # histograms on a page


_OPEN = 8  # of these the first ones, without a click


def calibration(raw: Raw) -> Markup | None:
    """What calibration saw of each quantized value, and the range that was chosen."""
    known = {name: kept for name, kept in raw.histograms.items() if kept}
    if not known:
        return None
    parts: list[Child] = [
        tag(
            "p",
            "Magnitudes of each quantized value on the calibration images, counts on a logarithmic "
            "scale. The dashed line is the end of the chosen INT8 range: what lies "
            "beyond is clipped.",
        )
    ]
    most = _MOST_DRAWN // min(len(known), MOST_STAGES)
    for name, kept in list(known.items())[:MOST_STAGES]:
        if len(known) > 1:
            parts.append(tag("h3", name))
        parts += _histograms(name, kept, mapping(raw.calibration.get(name)), most)
    if len(known) > MOST_STAGES:
        others = listed(list(known)[MOST_STAGES:])
        parts.append(tag("p", f"Not drawn: {others}.", class_="quiet"))
    return section("calibration", "Calibration", parts)


def _histograms(
    stage: str, kept: dict[str, tuple[list[int], float]], record: dict[str, Any], most: int
) -> Iterable[Child]:
    ranged = [
        (name, counts, top, amax)
        for name, (counts, top) in kept.items()
        if (amax := number(record, "amax", name)) is not None and sum(counts) > 0
    ]
    ranged.sort(key=lambda row: -_beyond(row[1], row[2], row[3]))
    drawn = [_small(stage, record, row) for row in ranged[:most]]
    if len(drawn) <= _OPEN:
        yield tag("div", drawn, class_="small")
        return
    yield tag("p", f"The {_OPEN} whose range leaves out most:", class_="quiet")
    yield tag("div", drawn[:_OPEN], class_="small")
    more = f"; {len(ranged) - most} more are not drawn" if len(ranged) > most else ""
    said = tag("summary", f"{len(drawn) - _OPEN} others", tag("span", more, class_="quiet"))
    # on paper they would be many pages
    yield tag("details", said, tag("div", drawn[_OPEN:], class_="small"), class_="more")


def _small(
    stage: str, record: dict[str, Any], row: tuple[str, Sequence[int], float, float]
) -> Markup:
    name, counts, top, amax = row
    title = f"Magnitudes of {name}"
    largest, clipped = number(record, "largest", name), 100 * _beyond(counts, top, amax)
    said = f"range {amax:.3g}" + (f", largest {largest:.3g}" if largest is not None else "")
    if clipped >= 0.01:
        said += f", about {clipped:.2g} % beyond"
    elif clipped:
        said += ", next to nothing beyond"
    drawn = histogram(ident(f"histogram-{stage}-{name}"), title, counts, top, amax)
    return tag("figure", drawn, tag("figcaption", tag("b", name), said))


def _beyond(counts: Sequence[int], top: float, amax: float) -> float:
    """Share of values that are clipped; those of the bin that the range ends in are not counted.

    Clipped is what lies more than half a step above the last code: below zero that is -128.
    """
    width, last = top / max(1, len(counts)), amax * 128.5 / 127
    above = sum(count for number, count in enumerate(counts) if number * width >= last)
    return above / max(1, sum(counts))
