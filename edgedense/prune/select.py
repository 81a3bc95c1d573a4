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
from edgedense.latency import Predictor
from edgedense.prune.groups import Group, with_widths

Scores = Mapping[str, NDArray[np.float64]]
Selection = Mapping[str, NDArray[np.int64]]
Cost = Literal["macs", "params", "latency"]
_FINEST = 4
_LEAST_SAVING = 1e-9  # ms: of a group whose channels are free
WORDS: Mapping[Cost, str] = {"macs": "MACs", "params": "parameters", "latency": "latency"}


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
    """What may stay: ``share`` of ``original``'s multiply-accumulates, parameters or latency.

    ``align`` is the number of which kept widths are multiples; ``finer`` halves it, to 4 at least,
    where a group has fewer than three of them. MACs are those of one image of ``input_size``
    (height, width); a latency is what ``clock`` says.
    """

    original: Spec
    share: float
    align: int
    input_size: tuple[int, int]
    of: Cost = "macs"
    finer: bool = False
    clock: Predictor | None = None

    def widths(self, width: int) -> list[int]:
        """What a group of ``width`` channels may be left with, falling."""
        align = self.align
        while self.finer and align > _FINEST and width < 3 * align:
            align //= 2
        return allowed_widths(width, align)

    def cost(self, spec: Spec) -> float:
        """MACs, parameters or milliseconds of ``spec``."""
        if self.clock is not None:
            return self.clock.latency_ms(spec)
        return count_params(spec) if self.of == "params" else count_macs(spec, self.input_size)

    def holds(self, spec: Spec) -> bool:
        """Whether ``spec`` is within the budget."""
        return self.cost(spec) <= self.share * self.cost(self.original)

    def steps(self, count: int) -> Iterator[Budget]:
        """So many budgets that lead down to this one, each by the same factor."""
        for step in range(1, count + 1):
            yield replace(self, share=self.share ** (step / count))

    def saving(self, spec: Spec, group: Group) -> float:
        """What one channel of ``group`` costs in ``spec``; of latencies the mean over all widths.

        A latency falls in steps: one channel less often saves nothing.
        """
        least = group.width - 1
        if self.clock is not None:
            least = min(self.widths(group.width)[-1], max(1, least))
        saved = self.cost(spec) - self.cost(with_widths(spec, {group.name: least}))
        return max(saved / max(1, group.width - least), _LEAST_SAVING)


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
    first whose mean loss is lowest for each unit of cost saved. One bunch less would exceed it;
    of a latency, one width more of any group. Errors: InputError where the share is below what the
    alignment lets be reached.
    """
    check_share(spec, groups, budget)
    narrowing = _steps if budget.clock is None else _uneven_steps
    steps = [step for g in groups for step in narrowing(spec, g, rankings[g.name], budget)]
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
    found = widths(enough)
    return found if budget.clock is None else _filled(spec, groups, rankings, budget, found)


def alignment_cost(
    spec: Spec,
    groups: tuple[Group, ...],
    rankings: Rankings,
    budget: Budget,
    widths: Mapping[str, int],
) -> float | None:
    """By what factor the losses of ``widths`` exceed those without alignment, in the same budget.

    None for a latency, which has its own reasons for multiples, and where nothing is lost.
    """
    if budget.clock is not None:
        return None
    free = allocate(spec, groups, rankings, replace(budget, align=1))
    least = _lost(rankings, free)
    cost = _lost(rankings, widths) / least if least > 0 else math.inf
    return cost if math.isfinite(cost) else None


def _lost(rankings: Rankings, widths: Mapping[str, int]) -> float:
    falling = {name: rankings[name].losses[::-1] for name in widths}
    return sum(float(falling[name][width:].sum()) for name, width in widths.items())


def check_share(spec: Spec, groups: tuple[Group, ...], budget: Budget) -> None:
    """Raise InputError where the budget's share is below the smallest that can be reached."""
    least = with_widths(spec, {group.name: _cheapest(spec, group, budget) for group in groups})
    if budget.holds(least):
        return
    at_all = f"with widths of {budget.align} or more in this scope"
    if budget.clock is not None:
        raise InputError(
            f"--latency-ms {budget.share * budget.cost(budget.original):.4g} is out of reach: "
            f"{at_all}, {math.ceil(1e4 * budget.cost(least)) / 1e4:g} ms is the least, of "
            f"{budget.cost(budget.original):.4g} ({budget.clock.basis}, on "
            f"{budget.clock.target.name})",
            "Ask for that or more; a smaller --align or --scope all reaches further.",
        )
    share = math.ceil(1000 * budget.cost(least) / budget.cost(budget.original)) / 1000
    raise InputError(
        f"--{budget.of} {budget.share:g} is out of reach: {at_all}, {share:g} of the "
        f"{WORDS[budget.of]} is the least",
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


def _cheapest(spec: Spec, group: Group, budget: Budget) -> int:
    """The narrowest width; of measured latencies, which need not fall, the fastest."""
    widths = budget.widths(group.width)
    if budget.clock is None or budget.clock.table is None:
        return widths[-1]
    costs = {width: budget.cost(with_widths(spec, {group.name: width})) for width in widths}
    return min(widths, key=lambda width: costs[width])


def _uneven_steps(spec: Spec, group: Group, ranking: Ranking, budget: Budget) -> Iterator[_Step]:
    """The lower convex hull of a group's losses over what its widths save.

    Padding makes some widths save nothing, and some far more than their share: bunches that are
    no bargain alone go together with those behind them.
    """
    widths = budget.widths(group.width)
    costs = [budget.cost(with_widths(spec, {group.name: width})) for width in widths]
    falling = ranking.losses[::-1]
    lost = [float(falling[width:].sum()) for width in widths]
    now = 0
    while True:
        prices = {
            later: _price(lost[later] - lost[now], costs[now] - costs[later])
            for later in range(now + 1, len(widths))
            if costs[later] < costs[now]
        }
        if not prices:
            return
        now = min(prices, key=lambda later: (prices[later], costs[later]))
        yield _Step(prices[now], group.name, widths[now])


def _price(lost: float, saved: float) -> float:
    return lost / saved if math.isfinite(lost) else math.inf


def _filled(
    spec: Spec,
    groups: tuple[Group, ...],
    rankings: Rankings,
    budget: Budget,
    widths: Mapping[str, int],
) -> dict[str, int]:
    """``widths`` grown again, one step of one group at a time, while the budget holds.

    What would be missed most comes first.
    """
    found, growing = dict(widths), {g.name: g for g in groups if widths[g.name] < g.width}

    def wider(group: Group) -> int:
        return min(width for width in budget.widths(group.width) if width > found[group.name])

    def missed(group: Group) -> float:
        return float(rankings[group.name].losses[::-1][found[group.name] : wider(group)].sum())

    while growing:
        group = max(growing.values(), key=missed)
        if not budget.holds(with_widths(spec, {**found, group.name: wider(group)})):
            del growing[group.name]
            continue
        found[group.name] = wider(group)
        if found[group.name] == group.width:
            del growing[group.name]
    return found
