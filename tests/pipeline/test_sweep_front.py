"""Which points are worth having: laws of the Pareto front, and what the star is judged on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgedense.pipeline.outcome import PointReport, failures, markdown, starred
from edgedense.pipeline.pareto import front

few = st.integers(0, 4)
clouds = st.integers(1, 3).flatmap(
    lambda n: st.lists(st.tuples(*[few] * n), min_size=1, max_size=12)
)


def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@given(clouds)
def test_what_is_off_the_front_is_beaten_by_a_point_on_it_and_nothing_on_it_is(cloud: Any) -> None:
    kept = front(cloud)
    best = [point for point, on in zip(cloud, kept, strict=True) if on]
    for point, on in zip(cloud, kept, strict=True):
        assert any(beats(other, point) for other in best) != on
        assert any(beats(other, point) for other in cloud) != on


@given(clouds, st.randoms())
def test_the_front_depends_neither_on_order_nor_on_copies(cloud: Any, random: Any) -> None:
    on = dict(zip(cloud, front(cloud), strict=True))
    mixed = cloud + cloud[:2]
    random.shuffle(mixed)
    assert dict(zip(mixed, front(mixed), strict=True)) == on


def point(name: str, drop_pp: float | None, **facts: Any) -> PointReport:
    usual = PointReport(name, 1.0, "int8", "conv", "default", {}, drop_pp=drop_pp, stable=True)
    return replace(usual, **facts)


def best(points: list[PointReport], targets: tuple[str, ...]) -> tuple[str, set[str]]:
    judged_on, found = starred(points, targets)
    return judged_on, {row.name for row in found if row.best}


def test_the_star_goes_by_the_first_thing_that_is_known() -> None:
    points = [
        point("a", 0.1, macs=9, latency_ms=3.0, predicted_ms={"x": None, "y": 1.0}),
        point("b", 0.2, macs=8, latency_ms=4.0, predicted_ms={"x": None, "y": None}),
        point("c", 0.3, macs=8, latency_ms=2.0, predicted_ms={"x": None, "y": 2.0}),
        point("d", None, failed="no disk"),
    ]
    assert best(points, ("x", "y")) == ("y", {"a"})
    assert best(points, ("x",)) == ("cpu", {"a", "c"})
    untimed = [replace(row, latency_ms=None) for row in points]
    assert best(untimed, ()) == ("macs", {"a", "b"})
    assert best(points[3:], ()) == ("macs", set())


def test_the_page_has_a_row_a_point_and_the_reasons() -> None:
    from edgedense.pipeline import SweepReport

    fp32 = {"macs": 10, "params": 5, "accuracy": 90.0, "latency_ms": 7.0}
    rows = (point("a", 0.5, drop_ci95=(0.1, 0.9), macs=9_000_000), point("b", None, failed="why"))
    rows = (*rows, point("c", None, failed="why"))
    found = SweepReport("run", "classification", "cpu", fp32, rows, ())
    assert failures(found) == {"why": "b, c"}
    assert found.exit_code == 1
    assert replace(found, points=rows[:1]).exit_code == 0
    page = markdown(found)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 1 + 3
    assert "0.50 [0.10, 0.90]" in page
    assert "- b, c: why" in page
