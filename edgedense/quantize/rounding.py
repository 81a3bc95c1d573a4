"""Weights to integers so that a layer's outputs stay, not so that each weight stays.

Rounding to nearest is best a weight. The outputs also depend on how inputs move together: what one
weight's rounding adds, the weights that are rounded later can take back (GPTQ, Frantar et al. 2022,
after OBQ). The second moments of a layer's inputs are all that this needs of the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgedense.data import Batch
from edgedense.graph.nodes import Array, Conv, ConvTranspose, Graph, Linear, Weighted
from edgedense.graph.run import GraphRunner

_DAMPING = 0.01  # of the mean variance
_BLOCK = 64  # weights whose errors are passed on together
_ROWS = 4  # input positions looked at for each weight of an output channel
_LEAST_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Inputs:
    """Second moments of a layer's inputs, float64: ``covariance`` (d, d) and ``mean`` (d,).

    ``d`` are the weights of one output channel, in their order.
    """

    covariance: Tensor
    mean: Tensor


class Sums:
    """Sums over sampled positions; float32 is enough for some ten thousand centred rows.

    d * d of them are kept, where :class:`Inputs` takes twice the memory.
    """

    def __init__(self) -> None:
        self.count = 0
        self.offset = self.total = self.products = torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """Count rows (positions, d)."""
        if not self.count:
            self.offset = rows.mean(0)
        rows = rows - self.offset
        self.total = self.total + rows.sum(0)
        self.products = torch.addmm(self.products, rows.T, rows)
        self.count += len(rows)

    def inputs(self) -> Inputs:
        """The moments of what was counted."""
        mean = self.total.double() / self.count
        covariance = self.products.double() / self.count - torch.outer(mean, mean)
        return Inputs(covariance, mean + self.offset)


def observe_inputs(
    graph: Graph, layers: Iterable[str], images: int, batches: Iterable[Batch], seed: int
) -> dict[str, Sums]:
    """Sums over the inputs of ``layers`` while ``graph`` runs on ``images`` images.

    Of each image some positions are taken, drawn by ``seed``; a padded border is part of them.
    Memory is one batch and d * d float32 values a layer.
    """
    wanted = frozenset(layers)
    reading: dict[str, list[Weighted]] = {}
    last = 0
    for position, node in enumerate(graph.nodes):
        if isinstance(node, Weighted) and node.name in wanted:
            reading.setdefault(node.input, []).append(node)
            last = position
    sums = {name: Sums() for name in wanted}
    generator = torch.Generator().manual_seed(seed)

    def observe(name: str, value: Tensor) -> None:
        for node in reading.get(name, ()):
            rows = max(_LEAST_ROWS, _ROWS * _inputs(node))
            sums[node.name].add(_rows(node, value, -(-rows // images), generator))

    runner = GraphRunner(replace(graph, nodes=graph.nodes[: last + 1]))
    for batch in batches:
        runner(batch.images, observe)
    return sums


def groups(nodes: Iterable[Weighted], most_bytes: int) -> Iterator[list[str]]:
    """Names of the layers in lots whose second moments fit into ``most_bytes``."""
    lot: list[str] = []
    size = 0
    for node in nodes:
        needed = 4 * _inputs(node) ** 2
        if lot and size + needed > most_bytes:
            yield lot
            lot, size = [], 0
        lot.append(node.name)
        size += needed
    if lot:
        yield lot


def roundable(node: Weighted) -> bool:
    """Whether :func:`rounded` knows the node's inputs."""
    return not isinstance(node, ConvTranspose)


def rounded(node: Weighted, scale: Array, inputs: Inputs, down: float = 0.0) -> Weighted:
    """``node`` with weights that are whole multiples of ``scale`` (out,), and the bias that fits.

    The bias takes back what rounding changes of each output's mean, for inputs that were moved
    ``down`` after ``inputs`` was seen.
    """
    weight = torch.from_numpy(node.weight).double().flatten(1)
    found = gptq(weight, torch.from_numpy(scale).double(), inputs.covariance)
    lost = (weight - found) @ (inputs.mean - down)
    return replace(
        node,
        weight=found.reshape(node.weight.shape).float().numpy(),
        bias=(node.bias + lost.numpy()).astype(np.float32),
        weight_scale=scale,
    )


def gptq(weight: Tensor, scale: Tensor, covariance: Tensor) -> Tensor:
    """``weight`` (out, d) on the grid of ``scale`` (out,) times -127 to 127, float64.

    Minimises, greedily, the error of ``weight @ x`` for inputs of ``covariance`` (d, d); it is
    never above that of the nearest weights. Inputs of the largest variance are rounded first, while
    most others can still take back their error.
    """
    order = torch.argsort(covariance.diagonal(), descending=True, stable=True)
    inverse = _inverse_factor(covariance[order][:, order])
    left, found = weight[:, order].clone(), torch.zeros_like(weight)
    for start in range(0, left.shape[1], _BLOCK):
        end = min(start + _BLOCK, left.shape[1])
        errors = left.new_zeros(len(left), end - start)
        for column in range(start, end):
            whole = torch.round(left[:, column] / scale).clamp_(-127, 127) * scale
            error = (left[:, column] - whole) / inverse[column, column]
            left[:, column:end] -= torch.outer(error, inverse[column, column:end])
            found[:, column], errors[:, column - start] = whole, error
        left[:, end:] -= errors @ inverse[start:end, end:]
    result = torch.empty_like(found)
    result[:, order] = found
    # greedy: for the odd output with few inputs the nearest weights are better after all
    column_scale = scale[:, None]
    nearest = torch.round(weight / column_scale).clamp_(-127, 127) * column_scale
    worse = _lost(weight - result, covariance) > _lost(weight - nearest, covariance)
    return torch.where(worse[:, None], nearest, result)


def _lost(error: Tensor, covariance: Tensor) -> Tensor:
    """Variance that wrong weights (out, d) add to each output."""
    return ((error @ covariance) * error).sum(1)


def moved_down(graph: Graph, scales: Mapping[str, float]) -> dict[str, float]:
    """How far each layer's input was moved down, by layer; ``scales`` are those of moved values."""
    return {n.name: 128 * scales[n.input] for n in graph.weighted() if n.input in scales}


def _inverse_factor(covariance: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped covariance's inverse, float64.

    float32 is enough for it, in half of the time, but where inputs hardly differ.
    """
    damping = _DAMPING * float(covariance.diagonal().mean()) or 1.0
    damped = covariance + damping * torch.eye(len(covariance), dtype=covariance.dtype)
    lower, failed = torch.linalg.cholesky_ex(damped.float())
    if not failed:
        factor, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        factor = torch.linalg.cholesky(inverse, upper=True)
    found: Tensor = factor.double()
    return found


def _inputs(node: Weighted) -> int:
    """Weights of one output channel."""
    return int(node.weight[0].size)


def _rows(node: Weighted, value: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """What one output sees, at up to ``most`` positions of each image: (positions, d)."""
    if isinstance(node, Linear):
        return value
    assert isinstance(node, Conv)
    kernel = node.weight.shape[2:]
    if tuple(kernel) == (1, 1) and node.stride == 1 and node.padding == 0:
        found = value.permute(0, 2, 3, 1).flatten(1, 2)
        return found[:, _drawn(found.shape[1], most, generator)].flatten(0, 1)
    padded = F.pad(value, (node.padding,) * 4)
    windows = padded.unfold(2, kernel[0], node.stride).unfold(3, kernel[1], node.stride)
    rows, columns = windows.shape[2:4]
    drawn = _drawn(rows * columns, most, generator)
    taken = windows[:, :, drawn // columns, drawn % columns]  # (N, C, positions, kh, kw)
    return taken.permute(0, 2, 1, 3, 4).flatten(2).flatten(0, 1)


def _drawn(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:most]
