"""Runs of graphs that differ late from one another: what is alike is computed once."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgedense.data import ImageSet, Preprocess, batches
from edgedense.graph.nodes import Array, Concat, Graph, Node, Quantize, Relu, inputs_of
from edgedense.graph.run import GraphRunner, as_array, as_input
from edgedense.stats import agreeing, sqnr_db

# the live values of one batch are there twice, in FP32 and in the run that is forked off
_PIXELS_AT_ONCE = 4 * 224 * 224


@dataclass(frozen=True)
class Loss:
    """Logit SQNR in dB (None where the logits are not finite), and answers that change.

    ``flips`` counts images whose top class changes (segmentation: pixels), ``flips_share`` is
    their share, 0 … 1.
    """

    sqnr_db: float | None
    flips: int
    flips_share: float

    @property
    def noise(self) -> float:
        """Energy of the logits' noise, as a share of the signal's."""
        return float("inf") if self.sqnr_db is None else 10 ** (-self.sqnr_db / 10)


def forks(
    exact: Graph, runs: list[Run], sample: ImageSet, preprocess: Preprocess
) -> Iterator[None]:
    """Bring all ``runs`` over ``sample``; yields after each of them, batch by batch.

    Everything before a run's first difference is computed once, in FP32. Memory is twice one
    batch's live values.
    """
    waiting: defaultdict[int, list[Run]] = defaultdict(list)
    for run in runs:
        waiting[run.start].append(run)
    runner = TailRunner(exact, ())
    for batch in batches(sample, preprocess, batch_size(preprocess)):
        given = {exact.input: as_input(batch.images)}
        wanted = runner.resume(0, given)
        for position, live in runner.walk(0, given):
            for run in waiting[position]:
                run.add(live, wanted)
                yield


def batch_size(preprocess: Preprocess) -> int:
    """Images at once: as many as have so many pixels, 32 at most."""
    height, width = preprocess.input_size
    return max(1, min(32, _PIXELS_AT_ONCE // (height * width)))


def quantized_only(exact: Graph, placed: Graph, members: Collection[str]) -> Graph:
    """``exact`` with those pairs and weights of ``placed`` that are named in ``members``.

    Nodes that nothing changes are those of ``exact``, the same objects.
    """
    known = {node.name: node for node in exact.nodes}
    stands_for: dict[str, str] = {}
    nodes: list[Node] = []
    for node in placed.nodes:
        inputs = tuple(stands_for.get(name, name) for name in inputs_of(node))
        if isinstance(node, Quantize) and node.name not in members:
            stands_for[node.name] = inputs[0]
        else:
            own = node if node.name in members else known[node.name]
            nodes.append(own if inputs_of(own) == inputs else _reading(own, inputs))
    return replace(exact, nodes=tuple(nodes))


class TailRunner(GraphRunner):
    """Runs a graph from one of its nodes on, from values that it does not change."""

    def __init__(self, graph: Graph, given: Collection[str]) -> None:
        super().__init__(graph)
        self._given = frozenset(given)

    def walk(self, start: int, given: Mapping[str, Tensor]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Before each node from ``start`` on: its position, and the values still to be read."""
        values, growing = dict(given), dict[str, Any]()
        for position in range(start, len(self.graph.nodes)):
            yield position, values
            node = self.graph.nodes[position]
            with torch.inference_mode():
                values[node.name] = self._step(position, node, values, growing)
            for name in [n for n in values if self._last.get(n, position + 1) <= position]:
                del values[name]
        yield len(self.graph.nodes), values

    def resume(self, start: int, given: Mapping[str, Tensor]) -> Array:
        """Logits, of the values that the nodes from ``start`` on read."""
        _, values = deque(self.walk(start, given), maxlen=1).pop()
        return as_array(values[self.graph.output])

    def _is_spent(self, node: Relu | Quantize, position: int) -> bool:
        return node.input not in self._given and super()._is_spent(node, position)


class Run:
    """A graph that differs from the exact one from ``start`` on, and what it has lost so far."""

    def __init__(self, exact: Graph, graph: Graph) -> None:
        self.graph = graph
        pairs = enumerate(zip(exact.nodes, graph.nodes, strict=False))
        self.start = next((k for k, (a, b) in pairs if a is not b), len(exact.nodes))
        self._signal = self._noise = 0.0
        self._flips = self._answers = 0

    def add(self, live: Mapping[str, Tensor], wanted: Array) -> None:
        """Run from ``start`` on, and hold the logits against those in FP32."""
        found = TailRunner(self.graph, live).resume(self.start, live)
        same = agreeing(wanted, found)
        self._flips += same.size - int(np.count_nonzero(same))
        self._answers += same.size
        expected = wanted.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # a spoilt one may give infinity
            self._noise += float(np.sum(np.square(expected - found)))
        self._signal += float(np.sum(np.square(expected)))

    def loss(self) -> Loss:
        """What it has lost on all images."""
        found_db = sqnr_db(self._signal, self._noise)
        return Loss(found_db, self._flips, self._flips / self._answers)


def _reading(node: Node, inputs: tuple[str, ...]) -> Node:
    if isinstance(node, Concat):
        return replace(node, inputs=inputs)
    return replace(node, input=inputs[0])
