"""torch-pruning's pruners, each with the settings that served it best.

As its own scripts do it (VainF/Torch-Pruning, reproduce/main.py): the classifier is left alone, the
pruner goes on in 400 small steps until the multiply-accumulates are within the budget. Only that a
step ends where they are, so that no pruner removes more than it has to. Taylor's gradients are
those of all calibration images, anew after each fifth of the way.

What can be set is ``Peer.tried``: ranking over all layers or inside each, all channels or only
those between a layer's two convolutions, the documented ways to sum up and to normalise the scores
of a group, widths of multiples of 8. ``BEST`` was chosen among them by ``pruning.py --choose``, at
0.57 of a DenseNet-BC-100-12's MACs. The sparse training that may come before BNScalePruner and
GroupNormPruner is left out: it takes tens of epochs, and here is no training but the same little
one for all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
import torch_pruning
from torch.nn import functional as F

from edgedense.data import Batch
from edgedense.densenet.count import count_macs
from edgedense.densenet.family import Network, network_of
from edgedense.prune.groups import Group, prunable, with_widths
from edgedense.prune.select import Selection

STEPS = 400
_REFRESHED = 5
Stream = Callable[[], Iterable[Batch]]


@dataclass(frozen=True)
class Setting:
    """One way to run a pruner.

    ``everywhere`` ranks over all layers (its global_pruning), else inside each. ``inner`` prunes
    only what no concat sees. ``reduction`` and ``normalizer`` are of a group's scores.
    """

    everywhere: bool = True
    inner: bool = False
    reduction: str = "mean"
    normalizer: str = "mean"
    round_to: int | None = None

    def __str__(self) -> str:
        words = ["global" if self.everywhere else "local", "inner" if self.inner else "all"]
        words += [f"{self.reduction} of group", f"by {self.normalizer}"]
        return ", ".join(words + [f"round_to {self.round_to}"] * (self.round_to is not None))


@dataclass(frozen=True)
class Peer:
    """A pruner of torch-pruning by the names of its classes."""

    importance: str
    pruner: str = "BasePruner"
    reductions: tuple[str, ...] = ("mean",)
    normalizers: tuple[str, ...] = ("mean",)

    @property
    def tried(self) -> Iterator[Setting]:
        """Over all layers and among the channels that no concat sees, then with either changed.

        Inside one layer a normalizer changes no order.
        """
        for reduction, normalizer in product(self.reductions, self.normalizers):
            yield Setting(True, True, reduction, normalizer)
        first = Setting(True, True, self.reductions[0], self.normalizers[0])
        yield replace(first, inner=False)
        yield replace(first, everywhere=False)
        yield replace(first, round_to=8)


PEERS = {
    "torch-pruning magnitude": Peer("MagnitudeImportance", "MagnitudePruner", ("first",)),
    "torch-pruning group norm": Peer(
        "GroupMagnitudeImportance", "GroupNormPruner", normalizers=("mean", "max")
    ),
    "torch-pruning BN scale": Peer("BNScaleImportance", "BNScalePruner"),
    "torch-pruning Taylor": Peer("TaylorImportance", reductions=("mean", "first")),
    "torch-pruning FPGM": Peer("FPGMImportance", reductions=("mean", "first")),
    "torch-pruning LAMP": Peer("LAMPImportance", normalizers=("lamp",)),
}
BEST = {
    "torch-pruning magnitude": Setting(True, True, "first"),
    "torch-pruning group norm": Setting(True, True, normalizer="max"),
    "torch-pruning BN scale": Setting(True, True),
    "torch-pruning Taylor": Setting(True, True),
    "torch-pruning FPGM": Setting(True, True),
    "torch-pruning LAMP": Setting(True, True, normalizer="lamp"),
}


@dataclass(frozen=True)
class Pruned:
    """A pruned network, and which channels of the original's ``groups`` it still has."""

    network: Network
    groups: tuple[Group, ...]
    kept: Selection


def prune_by_peer(
    network: Network,
    peer: Peer,
    setting: Setting,
    share: float,
    size: tuple[int, int],
    stream: Stream,
    steps: int = STEPS,
) -> Pruned:
    """``network`` to a share of its MACs; it stays as it is."""
    groups = prunable(network.spec, "all")
    work = copy.deepcopy(network).eval().requires_grad_(True)
    modules = dict(work.named_modules())
    whole = count_macs(network.spec, size)

    def left() -> float:
        widths = {group.name: int(modules[group.name].weight.shape[0]) for group in groups}
        return count_macs(with_widths(network.spec, widths), size) / whole

    pruner = _pruner(work, peer, setting, size, steps)
    _step_down(pruner, work, share, left, stream if "Taylor" in peer.importance else None)
    kept = _replayed(groups, pruner.pruning_history())
    spec = with_widths(network.spec, {name: len(rows) for name, rows in kept.items()})
    pruned = network_of(spec)
    pruned.load_state_dict(work.state_dict())
    return Pruned(pruned.eval(), groups, kept)


def _pruner(
    work: Network, peer: Peer, setting: Setting, size: tuple[int, int], steps: int
) -> torch_pruning.BasePruner:
    modules = dict(work.named_modules())
    ignored = [modules["classifier"]]
    if setting.inner:
        ignored += [modules[g.name] for g in prunable(work.spec, "all") if not g.private]
    importance = getattr(torch_pruning.importance, peer.importance)
    return getattr(torch_pruning.pruner, peer.pruner)(
        work,
        torch.zeros(1, work.spec.in_channels, *size),
        importance=importance(**_summing(peer, setting)),
        global_pruning=setting.everywhere,
        pruning_ratio=1.0,
        iterative_steps=steps,
        ignored_layers=ignored,
        round_to=setting.round_to,
        # its defaults are dictionaries that all pruners of a process share
        in_channel_groups={}, out_channel_groups={}, num_heads={}, customized_pruners={},
    )  # fmt: skip


def _summing(peer: Peer, setting: Setting) -> dict[str, object]:
    norm = {} if peer.importance in ("TaylorImportance", "BNScaleImportance") else {"p": 2}
    return {"group_reduction": setting.reduction, "normalizer": setting.normalizer, **norm}


def _step_down(
    pruner: torch_pruning.BasePruner,
    work: Network,
    share: float,
    left: Callable[[], float],
    stream: Stream | None,
) -> None:
    refresh = 1.0
    for _ in range(pruner.iterative_steps):
        if stream is not None and left() <= refresh:
            _gradients(work, stream)
            refresh -= (1 - share) / _REFRESHED
        for group in pruner.step(interactive=True):
            group.prune()
            if left() <= share:
                return
    raise RuntimeError(f"{left():.3f} of the MACs are left after all steps")


def _gradients(work: Network, stream: Stream) -> None:
    work.zero_grad()
    for batch in stream():
        loss = F.cross_entropy(work(torch.from_numpy(batch.images)), torch.from_numpy(batch.labels))
        loss.backward()


def _replayed(
    groups: tuple[Group, ...], history: Iterable[tuple[str, bool, list[int]]]
) -> Selection:
    """What is left of each group after all that was removed, counted anew each time."""
    kept = {group.name: np.arange(group.width) for group in groups}
    for name, of_outputs, gone in history:
        if not of_outputs or name not in kept:
            raise RuntimeError(f"{name}: pruned from another side than its outputs")
        kept[name] = np.delete(kept[name], gone)
    return kept
