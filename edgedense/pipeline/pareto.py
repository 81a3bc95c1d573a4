"""Which points of a trade are worth having."""

from __future__ import annotations

from collections.abc import Sequence


def front(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the Pareto front: no other is as good in all costs, better in one.

    A cost is the better the smaller; all points have the same costs in the same order.
    """
    return [not any(_dominates(other, point) for other in costs) for point in costs]


def _dominates(other: Sequence[float], point: Sequence[float]) -> bool:
    pairs = list(zip(other, point, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
