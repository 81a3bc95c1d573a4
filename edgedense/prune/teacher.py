"""What the original network gives, at sampled positions, and how much its logits hang on it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from edgedense.data import Batch
from edgedense.densenet.family import Network
from edgedense.densenet.wiring import wires
from edgedense.prune.select import Selection
from edgedense.prune.spool import Spool

# rows of a layer's least squares, over all images: some dozens for each column of a usual layer
ROWS = 1 << 15
_GRADIENT_IMAGES = 128
_GRADIENT_BATCH = 16


@dataclass(frozen=True)
class Positions:
    """Which output positions of each image have a say: ``each`` of them, drawn by ``seed``."""

    each: int
    seed: int
    _drawn: dict[tuple[int, int, int], Tensor] = field(default_factory=dict, repr=False)

    def of(self, batch: int, images: int, cells: int) -> Tensor:
        """Flat positions (images, at most ``each``) out of ``cells``, the same at every call."""
        key = batch, images, cells
        if key not in self._drawn:
            random = np.random.default_rng((self.seed, *key)).random((images, cells))
            drawn = np.argsort(random, axis=1)[:, : self.each]
            self._drawn[key] = torch.from_numpy(np.sort(drawn, axis=1))
        return self._drawn[key]


@dataclass(frozen=True)
class Teacher:
    """What the original gives and what matters of it, for layers that lost some of their outputs.

    ``outputs`` are by layer (its path) and batch, (N * P, outputs) at ``positions``; ``matter`` by
    layer, see :func:`output_weights`. ``rows`` are the outputs that a layer still has.
    """

    outputs: Mapping[str, list[Tensor]]
    matter: Mapping[str, Tensor]
    positions: Positions
    rows: Selection = field(default_factory=dict)

    def wanted(self, name: str) -> Iterator[Tensor]:
        """Outputs of the layer ``name``, batch by batch."""
        rows = self.rows.get(name)
        for outputs in self.outputs[name]:
            yield outputs if rows is None else outputs[:, torch.from_numpy(rows)]

    def matter_of(self, name: str) -> Tensor:
        """(outputs, outputs) of the layer ``name``."""
        matter, rows = self.matter[name], self.rows.get(name)
        return matter if rows is None else matter[rows][:, rows]

    def narrowed(self, kept: Selection) -> Teacher:
        """For a network of which only the outputs ``kept`` are left, by layer."""
        rows = {
            name: self.rows[name][some] if name in self.rows else some
            for name, some in kept.items()
        }
        return replace(self, rows={**self.rows, **rows})


def observe(
    network: Network, batches: Callable[[str], Iterable[Batch]], positions: Positions, spool: Spool
) -> Teacher:
    """Look at every convolution and the classifier of ``network``, which is in eval mode."""
    outputs: defaultdict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str, y: Tensor) -> None:
        if y.dim() == 4:
            index = positions.of(len(outputs[name]), len(y), y[0, 0].numel())
            y = y.flatten(2).gather(2, index[:, None].expand(-1, y.shape[1], -1))
            y = y.transpose(1, 2).flatten(0, 1)
        outputs[name].append(spool.put(y))

    with torch.no_grad(), _watched(network, keep):
        for batch in batches("original outputs"):
            network(torch.from_numpy(batch.images))
    matter = output_weights(network, batches("sensitivity"), positions.seed)
    return Teacher(outputs, matter, positions)


def output_weights(network: Network, batches: Iterable[Batch], seed: int) -> dict[str, Tensor]:
    """How much each layer's output errors matter: (outputs, outputs), float64, by layer.

    With ``e`` the error of one position's outputs, ``e' M e`` is the mean square of the change
    of the logits (their mean apart) to first order, if the errors of different positions are
    independent. Estimated by backward passes from random combinations of the logits: a
    Gauss-Newton matrix, as in Martens and Grosse, "K-FAC" (arXiv 1503.05671, section 2).
    """
    found: dict[str, Tensor] = {}
    images = 0
    generator = torch.Generator().manual_seed(seed)

    def keep(name: str, y: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            g = gradient.flatten(2) if gradient.dim() == 4 else gradient[..., None]
            rows = g.transpose(0, 1).flatten(1).double()
            found[name] = found.get(name, 0) + rows @ rows.T

        y.register_hook(add)  # type: ignore[no-untyped-call]

    with torch.inference_mode(False), torch.enable_grad(), _watched(network, keep):
        for x in _few(batches):
            logits = network(x.requires_grad_())
            signs = torch.randint(0, 2, logits.shape, generator=generator) * 2.0 - 1.0
            if logits.shape[1] > 1:
                signs -= signs.mean(1, keepdim=True)
            torch.autograd.grad((logits * signs).sum(), x)
            images += len(x)
    return {name: total / images for name, total in found.items()}


def _few(batches: Iterable[Batch]) -> Iterator[Tensor]:
    seen = 0
    for batch in batches:
        for start in range(0, len(batch.images), _GRADIENT_BATCH):
            x = torch.from_numpy(batch.images[start : start + _GRADIENT_BATCH]).clone()
            yield x
            seen += len(x)
            if seen >= _GRADIENT_IMAGES:
                return


@contextlib.contextmanager
def _watched(network: Network, keep: Callable[[str, Tensor], None]) -> Iterator[None]:
    modules = dict(network.named_modules())

    def hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, y: keep(name, y)

    handles = [
        modules[wire.name].register_forward_hook(hook(wire.name)) for wire in wires(network.spec)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
