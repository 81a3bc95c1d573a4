"""Backward elimination: the channels that a layer misses least once the others stand in for them.

With ``H`` the inverse Gram matrix and ``W`` the least-squares weights, taking channel i out of one
reader costs ``tr(W_i' (H_ii)^-1 W_i)``, when all its other weights are solved again. Source:
Hassibi and Stork, "Optimal Brain Surgeon" (NIPS 1992), here by blocks and for outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedense.prune.gram import Gram
from edgedense.prune.select import Ranking


class Reader:
    """One layer's inverse Gram matrix and weights, from which channels are taken one by one.

    ``gram`` holds ``area`` columns a channel. Its wanted outputs count as they are scaled.
    """

    def __init__(self, gram: Gram, area: int) -> None:
        ridged, _ = gram.ridged()
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(ridged))
        # no prior: what the rows do not tell must not look as if it were needed
        self._weights = self._inverse @ gram.cross
        self._area = area
        self.channels = np.arange((len(ridged) - 1) // area)

    def costs(self) -> Tensor:
        """What taking each of the channels that are left would cost, float64 (left,)."""
        left, area = len(self.channels), self._area
        weights = self._weights[:-1].reshape(left, area, self._weights.shape[1])
        blocks = self._inverse[:-1, :-1].reshape(left, area, left, area)
        blocks = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        costs: Tensor = (weights * torch.linalg.solve(blocks, weights)).sum((1, 2))
        return costs

    def take(self, places: Sequence[int]) -> None:
        """Take out the channels at ``places`` of those left; the others are solved again."""
        stays = torch.ones(len(self.channels), dtype=torch.bool)
        stays[list(places)] = False
        rows = torch.cat([stays.repeat_interleave(self._area), torch.ones(1, dtype=torch.bool)])
        column = self._inverse[:, ~rows]
        share = torch.linalg.solve(column[~rows], column[rows].T).T
        self._weights = self._weights[rows] - share @ self._weights[~rows]
        self._inverse = self._inverse[rows][:, rows] - share @ column[rows].T
        self.channels = self.channels[stays.numpy()]


def eliminate(gram: Gram, area: int) -> Ranking:
    """All channels of the inputs of one layer, the least missed first, one by one.

    The last one left comes last, at the cost of doing without any.
    """
    reader = Reader(gram, area)
    order, losses = [], []
    while len(reader.channels):
        costs = reader.costs()
        place = int(costs.argmin())
        order.append(int(reader.channels[place]))
        losses.append(max(0.0, float(costs[place])))
        reader.take([place])
    return Ranking(np.array(order, np.int64), np.array(losses))


@dataclass(frozen=True)
class Concat:
    """One layer that reads a concat: ``parts`` are (group, channels) in the concat's order."""

    reader: Reader
    parts: tuple[tuple[str, int], ...]


def eliminate_shared(concats: Sequence[Concat], savings: Mapping[str, float]) -> dict[str, Ranking]:
    """Channels that several layers read, of the groups in ``savings``, the least missed first.

    A channel's cost is what all its readers lose; those go first that lose least for what one
    channel of their group saves. Some go together (one in fifty), then all is weighed again.
    """
    race = _Race(concats, savings)
    while race.round():
        pass
    return {name: race.ranking(name) for name in savings}


class _Race:
    """Channels of all groups under one numbering, and what each would cost now."""

    def __init__(self, concats: Sequence[Concat], savings: Mapping[str, float]) -> None:
        sizes = dict(part for concat in concats for part in concat.parts)
        starts = np.cumsum([0, *sizes.values()])
        self._numbers = {
            name: np.arange(start, start + size)
            for (name, size), start in zip(sizes.items(), starts[:-1], strict=True)
        }
        self._saving = np.zeros(starts[-1])
        for name, saving in savings.items():
            self._saving[self._numbers[name]] = saving
        self._readers = [concat.reader for concat in concats]
        self._columns = [
            np.concatenate([self._numbers[name] for name, _ in concat.parts]) for concat in concats
        ]
        self._costs = [self._cost(k) for k in range(len(concats))]
        self._gone: dict[int, float] = {}

    def round(self) -> bool:
        """Take the next channels out of all their readers; False where none is left to take."""
        ready = self._ready()
        if not len(ready):
            return False
        total = np.sum(self._costs, axis=0)
        ratio = total[ready] / self._saving[ready]
        best = ready[np.argsort(ratio, kind="stable")[: max(1, len(ready) // 50)]]
        self._gone |= {int(n): max(0.0, float(total[n])) for n in best}
        for k, reader in enumerate(self._readers):
            places = np.flatnonzero(np.isin(self._columns[k][reader.channels], best))
            if len(places):
                reader.take(places.tolist())
                self._costs[k] = self._cost(k)
        return True

    def ranking(self, name: str) -> Ranking:
        """Of one group; its last channel never goes."""
        numbers = self._numbers[name].tolist()
        order = [n for n in self._gone if n in set(numbers)]
        order += [n for n in numbers if n not in self._gone]
        losses = [self._gone.get(n, np.inf) for n in order]
        return Ranking(np.array(order, np.int64) - numbers[0], np.array(losses))

    def _ready(self) -> NDArray[np.int64]:
        """All channels that may go: of each group all but the one that would be its last."""
        found = []
        for numbers in self._numbers.values():
            left = [n for n in numbers.tolist() if n not in self._gone and self._saving[n]]
            total = np.sum([costs[left] for costs in self._costs], axis=0)
            found += sorted(np.array(left)[np.argsort(total, kind="stable")[:-1]].tolist())
        return np.array(found, np.int64)

    def _cost(self, k: int) -> NDArray[np.float64]:
        costs = np.zeros(len(self._saving))
        costs[self._columns[k][self._readers[k].channels]] = self._readers[k].costs().numpy()
        return costs
