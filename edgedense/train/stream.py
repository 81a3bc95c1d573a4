"""Batches for one process: in a new order each epoch, augmented, and prepared ahead by workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from edgedense.distributed import World
from edgedense.errors import InputError
from edgedense.train.augment import Augmentation, crop_flip, draws
from edgedense.train.images import Source
from edgedense.train.loss import VOID


class Drawn(NamedTuple):
    """Images (N, C, H, W), normalised float32, and their classes: (N,), or (N, H, W) of pixels."""

    images: Tensor
    targets: Tensor


class Draw(NamedTuple):
    """Which images of which epoch, from 0."""

    epoch: int
    indices: tuple[int, ...]


class Order(Sampler[Draw]):
    """Which images each step takes: this process's part of every batch.

    Training draws a new order each epoch from (seed, epoch), and leaves out the last images that
    do not fill a batch; evaluation takes all images in order.
    """

    def __init__(self, count: int, batch: int, world: World, seed: int | None) -> None:
        self.epoch = 0
        self._count, self._batch, self._world, self._seed = count, batch, world, seed

    def __len__(self) -> int:
        whole, rest = divmod(self._count, self._batch)
        return whole + (rest > 0 and self._seed is None)

    def __iter__(self) -> Iterator[Draw]:
        order = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        share, rank = self._batch // self._world.size, self._world.rank
        for step in range(len(self)):
            batch = order[step * self._batch : (step + 1) * self._batch]
            mine = tuple(int(k) for k in batch[rank * share : (rank + 1) * share])
            if mine:
                yield Draw(self.epoch, mine)


@dataclass(frozen=True)
class Stream:
    """The batches of a source that this process takes."""

    order: Order
    loader: DataLoader[Any]

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Drawn]:
        """The batches of one epoch, from 0. Errors: InputError for images that cannot be used."""
        self.order.epoch = number
        for drawn in self.loader:
            if isinstance(drawn, InputError):
                raise drawn
            yield drawn


def stream(
    source: Source,
    batch: int,
    world: World,
    *,
    seed: int | None = None,
    augmentation: Augmentation = "none",
    workers: int = 0,
) -> Stream:
    """Batches of ``batch`` images over all processes, for training where there is a ``seed``.

    ``workers`` processes prepare this one's; 0 prepares each when it is asked for.
    """
    order = Order(len(source), batch, world, seed)
    loader = DataLoader(
        _Images(source, augmentation, seed or 0),
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_alone,
        generator=torch.Generator(),  # its own: what it draws must move no other number
    )
    return Stream(order, loader)


class _Images(Dataset[Any]):
    def __init__(self, source: Source, augmentation: Augmentation, seed: int) -> None:
        self.source, self.augmentation, self.seed = source, augmentation, seed

    def __getitem__(self, draw: Draw) -> Drawn | InputError:
        try:
            return self._drawn(draw)
        except InputError as error:
            return error  # raised in a worker it would arrive as a traceback

    def _drawn(self, draw: Draw) -> Drawn:
        source, masks = self.source, None
        if self.augmentation == "resized-crop-flip":
            pixels = np.stack([source.cropped(k, self._draws(draw, k)) for k in draw.indices])
        else:
            pixels, masks = source.read(draw.indices)
        images = source.preprocess.normalise(pixels)
        targets = source.images.labels[list(draw.indices)] if masks is None else masks
        if self.augmentation == "crop-flip":
            images = self._shifted(images, draw, 0)
            targets = targets if masks is None else self._shifted(masks, draw, VOID)
        return Drawn(torch.from_numpy(images), torch.from_numpy(targets.astype(np.int64)))

    def _shifted(self, rows: NDArray[Any], draw: Draw, fill: int) -> NDArray[Any]:
        pairs = zip(rows, draw.indices, strict=True)
        return np.stack([crop_flip(row, self._draws(draw, k), fill) for row, k in pairs])

    def _draws(self, draw: Draw, index: int) -> np.random.Generator:
        return draws(self.seed, draw.epoch, index)


def _leave_signals_alone(worker: int) -> None:
    # a worker ends when the process that it serves ends it, and has nothing to say about that
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _as_it_is(drawn: object) -> object:
    return drawn
