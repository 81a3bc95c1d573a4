"""Pruning by reconstruction: what is left is solved again to give the original's outputs.

Layer by layer, first to last: a layer's new weights are the least-squares answer, with a bias, from
what it reads in the already pruned network to what the original gave there. Source: He et al.,
"Channel Pruning for Accelerating Very Deep Neural Networks" (arXiv 1707.06168, section 3), here
with elimination instead of the LASSO, and for every reader of a concat.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgedense.densenet.family import Network
from edgedense.densenet.wiring import Wire
from edgedense.prune.batchnorm import statistics
from edgedense.prune.eliminate import Concat, Reader, eliminate, eliminate_shared
from edgedense.prune.gram import set_weights
from edgedense.prune.groups import Group, Scope, prunable
from edgedense.prune.remove import Pruned, remove
from edgedense.prune.select import (
    Budget,
    Ranking,
    Rankings,
    Selection,
    alignment_cost,
    allocate,
)
from edgedense.prune.teacher import ROWS, Positions, observe
from edgedense.prune.walk import Setting, Walk


def reconstruct(
    network: Network,
    scope: Scope,
    budget: Budget,
    setting: Setting,
    iterations: int = 1,
) -> Pruned:
    """A network within ``budget``, pruned in ``scope`` and refitted; ``network`` stays as it is.

    With ``iterations`` it goes there in so many steps, and each weighs all channels anew. Memory,
    beside the Gram matrices of one layer (of all layers that read a concat, for scope ``all``):
    what ``setting.spool`` holds, the rest is in temporary files. Errors: InputError for a budget
    out of reach or features that are not finite, MachineError where the disk is full.
    """
    positions = Positions(max(1, ROWS // setting.images), setting.seed)
    teacher = observe(network, setting.stream, positions, setting.spool)
    cost = None
    for step in budget.steps(iterations):
        groups = prunable(network.spec, scope)
        with torch.no_grad():
            rankings = rank_all(network, groups, Walk(network, teacher, setting), step)
            widths = allocate(network.spec, groups, rankings, step)
            cost = alignment_cost(network.spec, groups, rankings, step, widths)
            work = copy.deepcopy(network)
            kept = refit(work, groups, Walk(work, teacher, setting), rankings, widths)
        network = remove(work, groups, kept, setting.progress)
        teacher = teacher.narrowed(kept)
    return Pruned(network, cost)


def rank_all(network: Network, groups: tuple[Group, ...], walk: Walk, budget: Budget) -> Rankings:
    """In what order the channels of ``groups`` go, by what the logits would lose.

    ``walk`` goes through ``network``.
    """
    private = {group.name for group in groups if group.private}
    shared = {group.name: group for group in groups if not group.private}
    widths = {group.name: group.width for group in prunable(network.spec, "all")}
    rankings: dict[str, Ranking] = {}
    concats = []
    for wire in walk.layers("rank channels"):
        if wire.reads[0] in private:
            task = walk.fit(wire)
            rankings[wire.reads[0]] = eliminate(task.weighted(), task.area)
        elif not shared.keys().isdisjoint(wire.reads):
            task = walk.fit_channels(wire)
            parts = tuple((name, widths[name]) for name in wire.reads)
            concats.append(Concat(Reader(task.weighted(), task.area), parts))
    if concats:
        savings = {name: float(budget.saving(network.spec, g)) for name, g in shared.items()}
        rankings |= eliminate_shared(concats, savings)
    return rankings


def refit(
    network: Network,
    groups: tuple[Group, ...],
    walk: Walk,
    rankings: Rankings,
    widths: Mapping[str, int],
) -> Selection:
    """Solve every layer of ``network`` again, in place, for ``widths`` channels of each group.

    All channels stay, with zero weights in the readers of those to be removed: what is kept is
    returned. Shared groups keep what ``rankings`` say; private ones are eliminated once more, with
    what their reader gets now.
    """
    whole = {group.name: group for group in prunable(network.spec, "all")}
    private = {group.name for group in groups if group.private}
    kept = {name: rankings[name].kept(width) for name, width in widths.items()}
    changed = False
    for wire in walk.layers("refit layers"):
        changed |= any(
            widths.get(name, whole[name].width) < whole[name].width for name in wire.reads
        )
        if not changed:
            continue
        task = walk.fit(wire)
        if wire.reads[0] in private:
            ranking = eliminate(task.weighted(), task.area)
            kept[wire.reads[0]] = ranking.kept(widths[wire.reads[0]])
        channels = _channels([whole[name] for name in wire.reads], kept)
        weights = task.layer_weights(task.solve(channels))
        set_weights(walk.modules[wire.name], weights)
        set_bias(walk.modules, wire, whole.get(wire.name), weights[-1])
    return kept


def _channels(parts: list[Group], kept: Selection) -> Tensor:
    """Places of the kept channels in the concat of ``parts``."""
    found, offset = [], 0
    for group in parts:
        found.append(kept.get(group.name, np.arange(group.width)) + offset)
        offset += group.width
    return torch.from_numpy(np.concatenate(found))


def set_bias(
    modules: Mapping[str, nn.Module], wire: Wire, group: Group | None, bias: Tensor
) -> None:
    """The bias of a convolution that has none goes into the BN means of all its readers.

    That is exact: BN subtracts its mean, and padding comes behind it.
    """
    own = getattr(modules[wire.name], "bias", None)
    if own is not None:
        own.copy_(bias)
    elif group is not None:
        norms = group.norms()[:1] if group.own_norm else group.norms()
        for norm, offset in norms:
            mean, _ = statistics(modules[norm])
            mean[offset : offset + group.width] -= bias.to(mean.dtype)
