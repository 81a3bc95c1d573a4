"""Layer by layer through a network with all calibration images: each one's least squares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from edgedense.data import Batch
from edgedense.densenet.family import Network
from edgedense.densenet.wiring import Grid, Wire, wires
from edgedense.progress import SILENT, Progress
from edgedense.prune.features import Features
from edgedense.prune.gram import Gram, area_of, solve, weights_of
from edgedense.prune.spool import Spool
from edgedense.prune.teacher import Teacher

Stream = Callable[[str], Iterable[Batch]]

# beyond so many columns a Gram matrix is of channels alone: time and memory grow with the square
MOST_COLUMNS = 2304


@dataclass(frozen=True)
class Setting:
    """What all passes over the calibration images share.

    ``stream`` gives all batches, under a label for the user; ``images`` is their number.
    """

    stream: Stream
    images: int
    input_size: Grid
    seed: int = 0
    progress: Progress = SILENT
    spool: Spool = field(default_factory=Spool)


@dataclass(frozen=True)
class LeastSquares:
    """One layer's problem: ``gram`` of its inputs, ``area`` columns a channel, and a ``prior``;
    ``matter`` tells what an error of its outputs matters.

    Where the Gram matrix is of channels alone, each of the kernel's ``taps`` counts as outputs
    of its own: (D + 1, taps * outputs).
    """

    gram: Gram
    prior: Tensor
    matter: Tensor
    area: int
    taps: int = 1

    def solve(self, channels: Tensor) -> Tensor:
        """Weights on ``channels`` (indices) alone."""
        place = torch.arange(self.area)
        return solve(self.gram, (channels[:, None] * self.area + place).flatten(), self.prior)

    def weighted(self) -> Gram:
        """``gram`` with outputs whose squared errors are what those of the layer matter."""
        values, vectors = torch.linalg.eigh(self.matter)
        root = vectors * values.clamp(min=0).sqrt()
        cross = self.gram.cross.reshape(len(self.prior), self.taps, len(root)) @ root
        return replace(self.gram, cross=cross.flatten(1))

    def layer_weights(self, weights: Tensor) -> Tensor:
        """``weights`` in the order of :func:`weights_of`."""
        if self.taps == 1:
            return weights
        outputs = weights.shape[1] // self.taps
        kernel = weights[:-1].reshape(-1, outputs)
        return torch.cat([kernel, weights[-1].reshape(self.taps, outputs).sum(0)[None]])


class Walk:
    """Through ``network``, in the order of the data; a layer may change when it is its turn."""

    def __init__(self, network: Network, teacher: Teacher, setting: Setting) -> None:
        self.modules: dict[str, nn.Module] = dict(network.named_modules())
        self._wires = wires(network.spec)
        self.features = Features(network, setting.input_size, setting.spool)
        self._teacher = teacher
        self._setting = setting
        self._batches = 0

    def layers(self, label: str) -> Iterator[Wire]:
        """Every layer that reads features: after each, its outputs are computed and held."""
        for wire in self._setting.progress.track(self._wires, label, len(self._wires)):
            if wire.reads:
                yield wire
            self._write(wire)
            self.features.finish(wire)

    def fit(self, wire: Wire) -> LeastSquares:
        """The problem of giving what the original layer gave."""
        layer = self.modules[wire.name]
        area = area_of(layer)
        if wire.grid is None or wire.fan_in * area > MOST_COLUMNS:
            return self.fit_channels(wire)
        prior = weights_of(layer)
        gram = Gram.empty(wire.fan_in * area, wire.out)
        for batch, wanted in enumerate(self._teacher.wanted(wire.name)):
            positions = self._teacher.positions.of(batch, *self.features.outputs(wire, batch))
            gram.add(self.features.columns(wire, batch, positions), wanted)
        return LeastSquares(gram.mean(), prior, self._teacher.matter_of(wire.name), area)

    def fit_channels(self, wire: Wire) -> LeastSquares:
        """The problem of giving what the layer itself would give, were nothing removed.

        Channels stand in for each other at the same position, whatever the kernel: so it is small,
        and for the classifier, which has one row an image, it is well-conditioned.
        """
        layer = self.modules[wire.name]
        taps, weights = area_of(layer), weights_of(layer)
        prior = torch.zeros(wire.fan_in + 1, taps * wire.out, dtype=torch.float64)
        prior[:-1] = weights[:-1].reshape(wire.fan_in, taps * wire.out)
        prior[-1, : wire.out] = weights[-1]
        gram = Gram.empty(wire.fan_in, 0)
        for batch in range(self._batches):
            positions = self._teacher.positions.of(batch, *self.features.inputs(wire, batch))
            rows = self.features.channels(wire, batch, positions)
            gram.add(rows, rows[:, :0])
        mean = gram.mean()
        solved = Gram(mean.inputs, mean.inputs @ prior, mean.rows)
        return LeastSquares(solved, prior, self._teacher.matter_of(wire.name), 1, taps)

    def _write(self, wire: Wire) -> None:
        if wire.grid is None:
            return
        if wire.reads:
            for batch in range(self._batches):
                self.features.write(wire, self.features.read(wire, batch))
            return
        self._batches = 0
        for images in self._setting.stream("read images"):
            self.features.write(wire, torch.from_numpy(images.images))
            self._batches += 1
