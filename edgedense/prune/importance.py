"""A score for each channel: the higher, the more the network would miss it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.data import VOID, Batch
from edgedense.densenet.family import Network
from edgedense.errors import InputError
from edgedense.prune.groups import Group, Reader, prunable
from edgedense.prune.select import Scores

_Read = Callable[[Reader, Group], Tensor]


def magnitude(network: Network, groups: tuple[Group, ...]) -> Scores:
    """The channel's share in what each reader reads, summed over the readers.

    What a reader reads of a channel is the norm of the channel's filter, times abs(BN scale), times
    the norm of the reader's own column. Source: Li et al., "Pruning Filters for Efficient ConvNets"
    (arXiv 1608.08710, section 3.1), here for the whole path; shares make layers comparable.
    """
    modules = dict(network.named_modules())

    def read(reader: Reader, group: Group) -> Tensor:
        filters = _row_norms(_by_channel(modules, group.name, axis=0))
        if group.own_norm:
            filters = filters * _weight(modules, group.own_norm).double().abs()
        columns = _by_channel(modules, reader.layer, axis=1)[_rows(reader, group)]
        return filters * _scale(modules, reader, group) * _row_norms(columns)

    return _shares(network, groups, read)


def bn_scale(network: Network, groups: tuple[Group, ...]) -> Scores:
    """The channel's share in the absolute BN scales of each reader, summed over the readers.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming"
    (arXiv 1708.06519, section 3).
    """
    modules = dict(network.named_modules())
    return _shares(network, groups, lambda reader, group: _scale(modules, reader, group))


def fpgm(network: Network, groups: tuple[Group, ...]) -> Scores:
    """The channel's share in the distances of its group's filters from each other.

    Filters near the geometric median go first: the others can stand in for them. Source: He et al.,
    "Filter Pruning via Geometric Median" (arXiv 1811.00250, section 3.2).
    """
    modules = dict(network.named_modules())
    scores = {}
    for group in groups:
        filters = _by_channel(modules, group.name, axis=0).double().flatten(1)
        distances = torch.cdist(filters, filters).sum(1)
        scores[group.name] = (distances / (float(distances.sum()) or 1.0)).numpy()
    return scores


def lamp(network: Network, groups: tuple[Group, ...]) -> Scores:
    """The channel's squared magnitude over that of all in its group that are not smaller.

    Source: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning" (arXiv 2010.07611,
    section 3.1), here of channels and their :func:`magnitude`.
    """
    scores = {}
    for name, values in magnitude(network, groups).items():
        order = np.argsort(-values, kind="stable")
        squares = values[order] ** 2
        sums = np.cumsum(squares)
        scores[name] = np.empty_like(values)
        scores[name][order] = squares / np.where(sums > 0, sums, 1.0)
    return scores


def random_scores(groups: tuple[Group, ...], seed: int) -> Scores:
    """Scores by chance, uniform in [0, 1): the floor for all others."""
    random = np.random.default_rng(seed)
    return {group.name: random.random(group.width) for group in groups}


def taylor(network: Network, groups: tuple[Group, ...], batches: Iterable[Batch]) -> Scores:
    """Mean square, over images, of the loss that removing the channel would cost to first order.

    The gate of a channel is its value in all its readers at once, after BN: there it is what
    removal takes away. The loss is the cross-entropy against the labels, or the masks. Source:
    Molchanov et al., "Importance Estimation for Neural Network Pruning" (arXiv 1906.10771,
    section 3.1 and 3.2), image by image. Errors: InputError where gradients are not finite.
    """
    totals = {group.name: torch.zeros(group.width, dtype=torch.float64) for group in groups}
    count = 0
    with torch.inference_mode(False), torch.enable_grad(), _watch_gates(network, groups) as gates:
        for batch in batches:
            count += len(batch)
            # gradients must reach every BN, whatever parameters are frozen, and stay in none
            images = torch.from_numpy(batch.images).requires_grad_()
            loss = _loss(network(images), batch)
            torch.autograd.grad(loss, images)
            for group in groups:
                parts = [gates[r.seen_by][:, _rows(r, group)] for r in group.readers]
                totals[group.name] += torch.stack(parts).sum(0).square().sum(0)
    if not all(bool(total.isfinite().all()) for total in totals.values()):
        raise InputError(
            "the gradients for --method taylor are not finite",
            "Check --preprocess, or use --method magnitude.",
        )
    return {name: (total / count).numpy() for name, total in totals.items()}


def _loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy against the labels, or pixel by pixel against the masks."""
    if batch.masks is None:
        return F.cross_entropy(logits, torch.from_numpy(batch.labels), reduction="sum")
    masks = torch.from_numpy(batch.masks).long()
    return F.cross_entropy(logits, masks, reduction="sum", ignore_index=VOID)


@contextlib.contextmanager
def _watch_gates(network: Network, groups: tuple[Group, ...]) -> Iterator[dict[str, Tensor]]:
    """Value times gradient of what each reader sees, (N, channels), after every backward pass.

    That is its BN's output, or the layer's own input where there is no BN in front of it.
    """
    gates: dict[str, Tensor] = {}
    modules = dict(network.named_modules())

    def watch(name: str, seen: Tensor) -> None:
        value = seen.detach().clone()  # the ReLU behind it writes over it

        def backward(gradient: Tensor) -> None:
            gates[name] = (value * gradient).sum((2, 3)).double()

        seen.register_hook(backward)  # type: ignore[no-untyped-call]

    def output(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, seen: watch(name, seen)

    def input_(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: watch(name, inputs[0])

    readers = {reader.seen_by: reader for group in groups for reader in group.readers}
    handles = [
        modules[name].register_forward_hook(output(name))
        if reader.norm
        else modules[name].register_forward_pre_hook(input_(name))
        for name, reader in sorted(readers.items())
    ]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


def _shares(network: Network, groups: tuple[Group, ...], read: _Read) -> Scores:
    whole: defaultdict[str, float] = defaultdict(float)
    for group in prunable(network.spec, "all"):
        for reader in group.readers:
            whole[reader.seen_by] += float(read(reader, group).sum())
    scores = {}
    for group in groups:
        shares = [read(reader, group) / (whole[reader.seen_by] or 1.0) for reader in group.readers]
        scores[group.name] = torch.stack(shares).sum(0).numpy()
    return scores


def _scale(modules: dict[str, nn.Module], reader: Reader, group: Group) -> Tensor:
    if reader.norm is None:
        return torch.ones(group.width, dtype=torch.float64)
    return _weight(modules, reader.norm)[_rows(reader, group)].double().abs()


def _by_channel(modules: dict[str, nn.Module], name: str, axis: int) -> Tensor:
    """Weights with their output channels (``axis`` 0) or input channels (1) first."""
    if isinstance(modules[name], nn.ConvTranspose2d):
        axis = 1 - axis  # PyTorch keeps its weights as (in, out, kh, kw)
    return _weight(modules, name).movedim(axis, 0)


def _row_norms(weight: Tensor) -> Tensor:
    """L2 norm of each slice along the first axis."""
    norms: Tensor = torch.linalg.vector_norm(weight.double().flatten(1), dim=1)
    return norms


def _rows(reader: Reader, group: Group) -> slice:
    """The group's channels in what a reader sees."""
    return slice(reader.offset, reader.offset + group.width)


def _weight(modules: dict[str, nn.Module], name: str) -> Tensor:
    weight = modules[name].weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{name} has no weight")
    return weight.detach()
