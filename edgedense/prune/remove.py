"""How channels are removed: torch-pruning's dependency graph, then a network rebuilt to measure."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch_pruning
from torch import nn

from edgedense.densenet.family import Network, Spec, network_of
from edgedense.densenet.wiring import grids
from edgedense.errors import EdgedenseError, InputError
from edgedense.progress import SILENT, Progress
from edgedense.prune.groups import Group, with_widths
from edgedense.prune.select import Selection


@dataclass(frozen=True, eq=False)
class Pruned:
    """What is left of a network, and what the alignment of its widths cost.

    That is the factor by which the losses exceed those of widths that are multiples of nothing, in
    the same budget; None where it is not known.
    """

    network: Network
    alignment_cost: float | None


def remove(
    network: Network, groups: tuple[Group, ...], kept: Selection, progress: Progress = SILENT
) -> Network:
    """A new network with the channels ``kept`` of each group; ``network`` stays as it is.

    ``kept`` maps a group's name to sorted channel indices; groups that it does not name stay
    whole. Removal follows the dependency graph of Fang et al., "DepGraph" (CVPR 2023, arXiv
    2301.12900, section 3); the result is a plain :class:`DenseNet` of the widths that came out.
    """
    removed = {
        group.name: sorted(set(range(group.width)) - set(kept[group.name].tolist()))
        for group in groups
        if group.name in kept
    }
    with torch.inference_mode(False), torch.enable_grad():
        surgical = copy.deepcopy(network).requires_grad_(True)
        _operate(surgical, {name: gone for name, gone in removed.items() if gone}, progress)
    spec = with_widths(network.spec, {name: len(kept[name]) for name in removed})
    return _rebuilt(surgical, spec, network)


def _operate(surgical: Network, removed: dict[str, list[int]], progress: Progress) -> None:
    if not removed:
        return
    graph = torch_pruning.DependencyGraph()
    # the graph keeps references to its argument dictionaries: give it fresh ones
    graph.build_dependency(surgical, _example(surgical.spec), customized_pruners={})
    modules = dict(surgical.named_modules())
    for name, gone in progress.track(removed.items(), "remove channels", len(removed)):
        graph.get_pruning_group(modules[name], torch_pruning.prune_conv_out_channels, gone).prune(
            record_history=False
        )


def _example(spec: Spec) -> torch.Tensor:
    """The smallest input (1, C, side, side) that reaches the end: tracing asks no more."""
    side = 4
    while True:
        try:
            grids(spec, (side, side))
        except InputError:
            side *= 2
        else:
            return torch.zeros(1, spec.in_channels, side, side)


def _rebuilt(surgical: Network, spec: Spec, original: nn.Module) -> Network:
    rebuilt = network_of(spec)
    try:
        rebuilt.load_state_dict(surgical.state_dict())
    except RuntimeError as error:
        raise EdgedenseError(f"pruning gave other widths than were chosen: {error}") from error
    wanted = dict(original.named_parameters())
    for name, parameter in rebuilt.named_parameters():
        parameter.requires_grad_(wanted[name].requires_grad)
    return rebuilt.eval()
