"""How many channels stay, and which: numbers in, numbers out; no network is touched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.family import Spec
from edgedense.errors import InputError
from edgedense.prune.groups import Group, with_widths

Scores = Mapping[str, NDArray[np.float64]]
Selection = Mapping[str, NDArray[np.int64]]
Cost = Literal["macs", "params"]
_FINEST = 4
WORDS: Mapping[Cost, str] = {"macs": "MACs", "params": "parameters"}


@dataclass(frozen=True)
class Ranking:
    """The order in which one group's channels go, and what each of them costs when it does.

    ``order`` is int64 (width,), ``losses`` float64 (width,). Losses must be comparable between
    groups: they compete for the budget.
    """

    order: NDArray[np.int64]
    losses: NDArray[np.float64]

    def kept(self, width: int) -> NDArray[np.int64]:
        """Sorted indices of the ``width`` channels that go last."""
        return np.sort(self.order[len(self.order) - width :])


Rankings = Mapping[str, Ranking]


@dataclass(frozen=True)
class Budget:
    """What may stay: ``share`` of ``original``'s multiply-accumulates or parameters.

    ``align`` is the number of which kept widths are multiples; ``finer`` halves it, to 4 at least,
    where a group has fewer than three of them. MACs are those of one image of ``input_size``
    (height, width).
    """

    original: Spec
    share: float
    align: int
    input_size: tuple[int, int]
    of: Cost = "macs"
    finer: bool = False

    def widths(self, width: int) -> list[int]:
        """What a group of ``width`` channels may be left with, falling."""
        align = self.align
        while self.finer and align > _FINEST and width < 3 * align:
            align //= 2
        return allowed_widths(width, align)

    def cost(self, spec: Spec) -> int:
        """MACs or parameters of ``spec``."""
        return count_params(spec) if self.of == "params" else count_macs(spec, self.input_size)

    def holds(self, spec: Spec) -> bool:
        """Whether ``spec`` is within the budget."""
        return self.cost(spec) <= self.share * self.cost(self.original)

    def steps(self, count: int) -> Iterator[Budget]:
        """So many budgets that lead down to this one, each by the same factor."""
        for step in range(1, count + 1):
            yield replace(self, share=self.share ** (step / count))

    def saving(self, spec: Spec, group: Group) -> int:
        """What one channel of ``group`` costs in ``spec``."""
        return self.cost(spec) - self.cost(with_widths(spec, {group.name: group.width - 1}))


class _Step(NamedTuple):
    """Narrowing ``group`` to ``width``; the cheapest ``loss`` is taken first."""

    loss: float
    group: str
    width: int


def rank(scores: NDArray[np.float64]) -> Ranking:
    """Channels by rising score; of equals the last goes first."""
    order = np.argsort(-scores, kind="stable")[::-1].astype(np.int64)
    return Ranking(order, scores[order])


def allocate(
    spec: Spec, groups: tuple[Group, ...], rankings: Rankings, budget: Budget
) -> dict[str, int]:
    """Width of each of the ``groups`` of ``spec``, within ``budget``.

    Channels go in bunches that lead from one of the :func:`allowed_widths` to the next, those
    first whose mean loss is lowest for each unit of cost saved. One bunch less would exceed it.
    Errors: InputError where the share is below what the alignment lets be reached.
    """
    check_share(spec, groups, budget)
    steps = [step for g in groups for step in _steps(spec, g, rankings[g.name], budget)]
    steps.sort(key=lambda step: step.loss)  # stable: equals stay in order, widths falling

    def widths(taken: int) -> dict[str, int]:
        return {g.name: g.width for g in groups} | {s.group: s.width for s in steps[:taken]}

    few, enough = 0, len(steps)
    while few < enough:
        taken = (few + enough) // 2
        if budget.holds(with_widths(spec, widths(taken))):
            enough = taken
        else:
            few = taken + 1
    return widths(enough)


def check_share(spec: Spec, groups: tuple[Group, ...], budget: Budget) -> None:
    """Raise InputError where the budget's share is below the smallest that can be reached."""
    narrowest = {group.name: budget.widths(group.width)[-1] for group in groups}
    least = with_widths(spec, narrowest)
    if not budget.holds(least):
        share = math.ceil(1000 * budget.cost(least) / budget.cost(budget.original)) / 1000
        raise InputError(
            f"--{budget.of} {budget.share:g} is out of reach: with widths of {budget.align} or "
            f"more in this scope, {share:g} of the {WORDS[budget.of]} is the least",
            "Ask for that or more; a smaller --align or --scope all reaches further.",
        )


def allowed_widths(width: int, align: int) -> list[int]:
    """``width`` itself, then the smaller multiples of ``align``, falling."""
    return [width, *range((width - 1) // align * align, 0, -align)]


def _steps(spec: Spec, group: Group, ranking: Ranking, budget: Budget) -> Iterator[_Step]:
    # costs are linear in one group's width while the others stay
    saving = budget.saving(spec, group)
    falling = ranking.losses[::-1]
    loss = 0.0
    for before, after in itertools.pairwise(budget.widths(group.width)):
        # later bunches cost more; max() keeps a group's steps in order where they do not
        loss = max(loss, float(falling[after:before].mean()) / saving)
        yield _Step(loss, group.name, after)
