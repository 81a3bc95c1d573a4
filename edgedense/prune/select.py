"""How many channels stay, and which: numbers in, indices out; no network is touched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgedense.densenet.count import count_macs
from edgedense.densenet.family import Spec
from edgedense.errors import InputError
from edgedense.prune.groups import Group, with_widths

Scores = Mapping[str, NDArray[np.float64]]
Selection = Mapping[str, NDArray[np.int64]]
Size = tuple[int, int]


class _Step(NamedTuple):
    """Narrowing ``group`` to ``width``; the cheapest ``loss`` is taken first."""

    loss: float
    group: str
    width: int


def select(
    spec: Spec,
    groups: tuple[Group, ...],
    scores: Scores,
    share: float,
    align: int,
    input_size: Size,
) -> Selection:
    """Sorted indices of the channels to keep, by group: the best by ``scores`` of each group.

    ``scores`` are float64 (width,) by group; ``share``, ``align`` and ``input_size`` as in
    :func:`allocate`.
    """
    widths = allocate(spec, groups, scores, share, align, input_size)
    return {name: keep_best(scores[name], width) for name, width in widths.items()}


def keep_best(scores: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    """Sorted indices of the ``width`` highest scores; of equals the first are kept."""
    return np.sort(np.argsort(-scores, kind="stable")[:width]).astype(np.int64)


def allocate(
    spec: Spec,
    groups: tuple[Group, ...],
    scores: Scores,
    share: float,
    align: int,
    input_size: Size,
) -> dict[str, int]:
    """Width of each group, for at most ``share`` of the MACs at (height, width) ``input_size``.

    Groups compete for the MACs, so scores must be comparable between them. Channels go in bunches
    that lead from one of the :func:`allowed_widths` to the next, those first whose scores are
    lowest for each MAC saved. One bunch less would exceed ``share``.
    Errors: InputError where ``share`` is below what ``align`` lets be reached.
    """
    check_share(spec, groups, share, align, input_size)
    budget = share * count_macs(spec, input_size)
    steps = [step for g in groups for step in _steps(spec, g, scores[g.name], align, input_size)]
    steps.sort(key=lambda step: step.loss)  # stable: equals stay in order, widths falling

    def widths(taken: int) -> dict[str, int]:
        return {g.name: g.width for g in groups} | {s.group: s.width for s in steps[:taken]}

    few, enough = 0, len(steps)
    while few < enough:
        taken = (few + enough) // 2
        if count_macs(with_widths(spec, widths(taken)), input_size) <= budget:
            enough = taken
        else:
            few = taken + 1
    return widths(enough)


def check_share(
    spec: Spec, groups: tuple[Group, ...], share: float, align: int, input_size: Size
) -> None:
    """Raise InputError where ``share`` of the MACs is below the smallest that can be reached."""
    narrowest = {group.name: allowed_widths(group.width, align)[-1] for group in groups}
    least = count_macs(with_widths(spec, narrowest), input_size)
    total = count_macs(spec, input_size)
    if least > share * total:
        raise InputError(
            f"--macs {share:g} is out of reach: with widths of {align} or more in this scope, "
            f"{math.ceil(1000 * least / total) / 1000:g} of the MACs is the least",
            "Ask for that or more; a smaller --align or --scope all reaches further.",
        )


def allowed_widths(width: int, align: int) -> list[int]:
    """``width`` itself, then the smaller multiples of ``align``, falling."""
    return [width, *range((width - 1) // align * align, 0, -align)]


def _steps(
    spec: Spec, group: Group, scores: NDArray[np.float64], align: int, input_size: Size
) -> Iterator[_Step]:
    # MACs are linear in one group's width while the others stay
    narrower = with_widths(spec, {group.name: group.width - 1})
    saving = count_macs(spec, input_size) - count_macs(narrower, input_size)
    falling = np.sort(scores)[::-1]
    loss = 0.0
    for before, after in itertools.pairwise(allowed_widths(group.width, align)):
        # weaker bunches have lower means; max() keeps a group's steps in order despite rounding
        loss = max(loss, float(falling[after:before].mean()) / saving)
        yield _Step(loss, group.name, after)
