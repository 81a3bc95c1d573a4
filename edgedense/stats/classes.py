"""Class by class: which classes lost, and how much of that is chance when so many are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedense.stats.paired import PairedCounts, mcnemar_p

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClassChange:
    """How two classifiers split the images of one class.

    ``p`` is of McNemar's exact test; ``p_holm`` the same, adjusted for all classes.
    """

    index: int
    counts: PairedCounts
    p: float
    p_holm: float


def class_changes(labels: Ints, first: Bools, second: Bools) -> tuple[ClassChange, ...]:
    """The change of every class that has images, in the order of the classes.

    ``labels`` (N,) are classes; ``first`` and ``second`` (N,) say who was right.
    """
    present = np.unique(labels)
    tables = [PairedCounts.of(first[labels == k], second[labels == k]) for k in present]
    p_values = [mcnemar_p(table) for table in tables]
    return tuple(
        ClassChange(int(k), table, p, float(adjusted))
        for k, table, p, adjusted in zip(present, tables, p_values, holm(p_values), strict=True)
    )


def holm(p_values: Sequence[float]) -> Doubles:
    """p values adjusted by Holm's step-down method, in the order given.

    The k-th smallest of m is multiplied by m - k + 1, never less than the one before, at most 1.
    Calling all adjusted p <= 0.05 proven is wrong about any of them in at most 5 % of cases,
    however they depend on each other.
    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    raw = np.asarray(p_values, np.float64)
    order = np.argsort(raw, kind="stable")
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * factors))
    return adjusted
