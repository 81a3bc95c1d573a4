"""Scales and ticks of the plots; how numbers are written."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import parse

from edgedense.report.cells import Cell, cells, histogram
from edgedense.report.charts import Interval, Samples, distribution, forest
from edgedense.report.svg import NARROW, WIDE, Scale, padded
from edgedense.report.words import (
    DASH,
    MINUS,
    amount,
    between,
    decimal,
    listed,
    milliseconds,
    plural,
    size,
)

finite = st.floats(-1e9, 1e9)
spans = st.tuples(finite, st.floats(1e-6, 1e9)).map(lambda p: (p[0], p[0] + p[1]))


@given(spans, st.integers(2, 10))
def test_linear_ticks_are_round_few_and_inside(span: tuple[float, float], count: int) -> None:
    low, high = span
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        return
    found = Scale(low, high, 0, 100).ticks(count)
    room = (high - low) * 1e-6
    assert all(low - room <= tick <= high + room for tick in found)
    assert found == sorted(set(found)) and len(found) <= count + 1
    assert len(found) >= count / 2.5 - 1
    if len(found) > 1:
        step = found[1] - found[0]
        leading = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(leading - nice) for nice in (1, 2, 5, 10)) < 1e-3 * max(1, abs(low / step))


@given(st.floats(1e-4, 1e5), st.floats(1.5, 1e4), st.integers(3, 8))
def test_logarithmic_ticks_are_inside(low: float, factor: float, count: int) -> None:
    high = low * factor
    found = Scale(low, high, 0, 100, log=True).ticks(count)
    assert found and all(low * 0.998 <= tick <= high * 1.002 for tick in found)


@given(spans, finite, finite, st.booleans())
def test_scales_keep_the_order_and_the_borders(
    span: tuple[float, float], a: float, b: float, log: bool
) -> None:
    scale = Scale(*span, 10, 90, log)
    a, b = sorted((a, b))
    assert 10 <= scale(a) <= scale(b) <= 90


def test_a_scale_hits_its_ends_and_its_middle() -> None:
    assert [Scale(1, 100, 0, 80, True)(v) for v in (1, 10, 100)] == pytest.approx([0, 40, 80])
    assert [Scale(0, 4, 100, 0)(v) for v in (0, 1, 4, 9)] == [100, 75, 0, 0]


@given(st.lists(finite, min_size=1, max_size=9))
def test_padding_leaves_room(values: list[float]) -> None:
    low, high = padded(values)
    assert low < min(values) and high > max(values)


def test_a_distribution_marks_its_percentiles() -> None:
    fast, slow = np.linspace(1, 2, 1001), np.linspace(10, 20, 1001)
    drawn = parse(distribution("x", "t", [Samples("engine", fast), Samples("FP32", slow)]))
    assert [svg.get("width") for svg in drawn.all("svg")] == [str(WIDE), str(NARROW)]
    told = drawn.all("desc")[0].text
    assert told == (
        "engine: p50 1.50 ms, p90 1.90 ms, p99 1.99 ms; FP32: p50 15.0 ms, p90 19.0 ms, p99 19.9 ms"
    )
    # three marks and one in the legend, circles for one and squares for the other
    assert [len(drawn.all("svg")[0].all(name)) for name in ("circle", "rect")] == [4, 4]
    x = [float(dot.get("cx")) for dot in drawn.all("svg")[0].all("circle")][:3]
    scale = Scale(0.92, 19.9 * 1.25, 40, WIDE - 12, log=True)
    assert x == pytest.approx([scale(v) for v in (1.5, 1.9, 1.99)], abs=0.06)


@pytest.mark.parametrize(("calls", "marked"), [(10, 0), (11, 1), (64, 2), (661, 2), (662, 3)])
def test_percentiles_of_too_few_calls_have_no_mark(calls: int, marked: int) -> None:
    drawn = parse(distribution("x", "t", [Samples("engine", np.linspace(1.0, 2.0, calls))]))
    dots = [node for node in drawn.all("circle") if node.attributes.get("class") == "m-one"]
    assert len(dots) == 2 * (marked + 1)  # wide and narrow, and one in each legend
    assert ("p99" in drawn.all("desc")[0].text) == (marked == 3)


def test_a_histogram_ends_where_its_values_end() -> None:
    counts = [100, 10, 1, *[0] * 61]
    drawn = parse(histogram("h", "t", counts, 64.0, 1.5))
    shape = drawn.all("path")[0].get("d")
    places = [tuple(map(float, p.split())) for p in shape.strip("MZ").split("L")]
    assert max(x for x, _ in places) == pytest.approx(200 / 1.04, abs=0.1)
    gate = next(n for n in drawn.all("line") if n.get("class") == "gate")
    assert float(gate.get("x1")) == pytest.approx(1.5 / (3 * 1.04) * 200, abs=0.1)


def test_no_line_of_a_narrow_forest_crosses_its_words() -> None:
    rows = [Interval(f"engine {k}", 0.1, (-1.0, 0.9), "pass") for k in range(3)]
    drawn = parse(forest("f", "t", "pp", rows, ("allowed", 2.0))).all("svg")[1].all()
    cover = [n for n in drawn if n.get("class") == "blank"]
    strips = [(float(n.get("y")), float(n.get("y")) + float(n.get("height"))) for n in cover]
    words = [n for n in drawn if n.get("class") in ("name", "figure")]
    baselines = [float(n.get("y")) for n in words]
    assert len(words) == 6
    assert all(any(a <= y - 12 and y + 4 <= b for a, b in strips) for y in baselines)
    order = [n.get("class") for n in drawn]
    # what lies under a strip is drawn before it, and words and whiskers on it
    lines = [k for k, kind in enumerate(order) if kind in ("grid", "zero", "gate", "beyond")]
    assert max(lines) < order.index("blank") < order.index("name")
    whiskers = [float(n.get("y1")) for n in drawn if n.get("class") == "whisker"]
    assert not any(a < y < b for a, b in strips for y in whiskers)


def test_a_map_writes_every_value(monkeypatch: pytest.MonkeyPatch) -> None:
    row = [Cell("40", 0.0, "a"), None, Cell("7", 1.0, "b")]
    drawn = parse(cells("m", "t", [("block1", row)], "layer"))
    texts = [node.text for node in drawn.all("text")]
    assert texts == ["layer", "1", "2", "3", "block1", "40", "7"]
    assert [box.get("class") for box in drawn.all("rect")] == ["h0", "h6"]


def test_numbers_are_written_for_people() -> None:
    written = [decimal(value) for value in (-0.004, -0.02, 1234.5, None)]
    assert written == ["0.00", f"{MINUS}0.02", "1,234.50", DASH]
    assert between((-0.26, 0.22)) == f"{MINUS}0.26 to 0.22"
    written = [milliseconds(value) for value in (0.2371, 4.371, 12.92, 873.2)]
    assert written == ["0.237", "4.37", "12.9", "873"]
    assert [amount(v) for v in (287929692, 999, 2.834e9)] == ["288 M", "999", "2.83 G"]
    assert [size(v) for v in (12, 332_720, 4_510_000)] == ["12 B", "332.72 kB", "4.51 MB"]
    assert [plural(1, "image"), plural(5000, "image")] == ["1 image", "5,000 images"]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh"), 2) == "a, b and 6 more"
