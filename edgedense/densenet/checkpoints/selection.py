"""Channel selection of network slimming: a gather after BN, undone exactly by zero weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgedense.errors import InputError

SELECT = "select.indexes"


@dataclass(frozen=True)
class Widened:
    """Tensors without selections; of ``inputs`` channels in all, ``read`` had been selected."""

    state: dict[str, Tensor]
    read: int
    inputs: int


def widen(state: Mapping[str, Tensor], cfg: object, path: Path) -> Widened:
    """Convolutions and classifier that read all channels, with zeros for those not selected.

    ``cfg`` is what the file says of the selections' sizes, None or anything else where it says
    nothing. Source: Liu et al., "Learning Efficient Convolutional Networks through Network
    Slimming" (arXiv 1708.06519); Eric-mingjie/network-slimming models/channel_selection.py.
    Errors: InputError where selections, weights and ``cfg`` contradict each other.
    """
    found = {key: value for key, value in state.items() if not key.endswith(SELECT)}
    sizes, inputs = [], 0
    for key in (key for key in state if key.endswith(SELECT)):
        mask = state[key]
        reader = _reader(key)
        if reader in found:
            found[reader] = _scatter(found[reader], mask, reader, path)
        sizes.append(int(torch.count_nonzero(mask)))
        inputs += mask.numel()
    _check_cfg(cfg, sizes, path)
    return Widened(found, sum(sizes), inputs)


def _reader(select: str) -> str:
    place = select.removesuffix(SELECT)
    if place == "features.":
        return "classifier.weight"
    return f"{place}conv.weight" if "transition" in place else f"{place}conv1.weight"


def _scatter(weight: Tensor, mask: Tensor, reader: str, path: Path) -> Tensor:
    places = torch.nonzero(mask.flatten()).flatten()
    if mask.ndim != 1 or weight.ndim < 2 or weight.shape[1] != len(places):
        raise InputError(
            f"{path}: {reader} has shape {tuple(weight.shape)}, where its selection takes "
            f"{len(places)} of {mask.numel()} channels",
            "The file is incomplete, or pruned and saved by different versions of the code.",
        )
    full = weight.new_zeros((weight.shape[0], len(mask), *weight.shape[2:]))
    full[:, places] = weight
    return full


def _check_cfg(cfg: object, sizes: list[int], path: Path) -> None:
    if not isinstance(cfg, list) or not all(isinstance(size, int) for size in cfg):
        return
    if cfg != sizes:
        pairs = zip(cfg, sizes, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(cfg), len(sizes)))
        raise InputError(
            f"{path}: its cfg has {len(cfg)} sizes and its selections {len(sizes)}, which differ "
            f"from place {place} on: {cfg[place:][:3]} and {sizes[place:][:3]}",
            "The file mixes two prunings: save it again from the pruned network.",
        )
