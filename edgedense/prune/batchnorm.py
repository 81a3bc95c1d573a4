"""BN statistics after pruning: what each BN sees has moved, its mean and variance have not."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from edgedense.data import Batch
from edgedense.densenet.family import Network
from edgedense.prune.groups import Group
from edgedense.prune.select import Selection


def reestimate_bn(
    pruned: Network,
    original: Network,
    groups: tuple[Group, ...],
    kept: Selection,
    batches: Iterable[Batch],
) -> None:
    """Move the BN statistics of ``pruned``, in place, as far as pruning moved them on ``batches``.

    Means by the difference, variances by the ratio, between both networks when each BN uses its
    batch's statistics (averaged over all batches). Adaptive BN takes the pruned network's averages
    as they are (Li et al., "EagleEye", arXiv 2007.02491, section 3.3); against the original's,
    what training images had and these have not (augmentation) cancels, and where nothing was
    removed nothing changes. Only statistics change; the networks stay in eval mode.
    """
    networks = [_learner(original), _learner(pruned)]
    with torch.no_grad():
        for batch in batches:
            if len(batch) > 1:  # one image may be one value a channel: it has no variance
                images = torch.from_numpy(batch.images)
                images = images.contiguous(memory_format=torch.channels_last)  # twice as fast
                for network in networks:
                    network(images)
    before, after = (_norms(network) for network in networks)
    for name, norm in _norms(pruned).items():
        rows = _rows(name, before[name].num_features, groups, kept)
        (mean, var), (mean_after, var_after) = statistics(norm), statistics(after[name])
        mean_before, var_before = (values[rows] for values in statistics(before[name]))
        mean += mean_after - mean_before
        var *= (var_after + norm.eps) / (var_before + norm.eps)


def statistics(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The buffers themselves: running mean and variance."""
    mean, var = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        raise TypeError("a DenseNet's BN tracks its statistics")
    return mean, var


def _learner(network: Network) -> Network:
    """A copy that averages its batches' BN statistics, and is in eval mode otherwise."""
    learner = copy.deepcopy(network).eval()
    for norm in _norms(learner).values():
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's name for the plain average of all batches
        norm.train()
    return learner


def _norms(network: Network) -> Mapping[str, nn.BatchNorm2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


def _rows(name: str, width: int, groups: tuple[Group, ...], kept: Selection) -> Tensor:
    """Channels of the original's BN ``name`` that the pruned network still has."""
    stays = torch.ones(width, dtype=torch.bool)
    for group in groups:
        for norm, offset in group.norms():
            if norm == name and group.name in kept:
                stays[offset : offset + group.width] = False
                stays[torch.from_numpy(kept[group.name]) + offset] = True
    return stays.nonzero().flatten()
