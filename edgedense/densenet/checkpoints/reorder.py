"""Concats written the other way round, brought into our order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from edgedense.densenet.checkpoints.recognised import SAVE_WHOLE
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError

_BN_PARTS = ("weight", "bias", "running_mean", "running_var")


def ours_from_reversed(width: int, growths: Sequence[int]) -> Tensor:
    """Places in ``[last, …, first, input]`` of the channels of ``[input, first, …, last]``.

    ``width`` is the block's input, ``growths`` what each layer so far has added, in channels:
    ``theirs[places]`` is ours.
    """
    start = sum(growths)
    places = list(range(start, start + width))
    for growth in growths:
        start -= growth
        places += range(start, start + growth)
    return torch.tensor(places)


def reverse_concats(
    state: Mapping[str, Tensor], spec: DenseNetSpec, path: Path
) -> dict[str, Tensor]:
    """``state``, whose layers put their new features in front, with every concat in our order.

    BN vectors and the input axes of convolutions and classifier move; nothing is lost. Errors:
    InputError where a tensor has not the width that ``spec`` gives it.
    """
    found = dict(state)
    for norm, reader, places in _concats(spec):
        keys = [f"{norm}.{part}" for part in _BN_PARTS]
        for key, axis in (*((key, 0) for key in keys), (f"{reader}.weight", 1)):
            value = found.get(key)
            if value is None:
                continue  # reported where all tensors are compared with the structure
            if value.ndim <= axis or value.shape[axis] != len(places):
                raise InputError(
                    f"{path}: {key} has shape {tuple(value.shape)}, where {len(places)} channels "
                    "are read",
                    SAVE_WHOLE,
                )
            found[key] = value.index_select(axis, places)
    return found


def _concats(spec: DenseNetSpec) -> Iterator[tuple[str, str, Tensor]]:
    """Every reader of a concat: its BN, its convolution (or the classifier), the places."""
    last = len(spec.blocks)
    for b, (width, block) in enumerate(zip(spec.block_inputs(), spec.blocks, strict=True), 1):
        growths = [layer.growth for layer in block]
        for i in range(len(block)):
            name = f"features.denseblock{b}.denselayer{i + 1}"
            yield f"{name}.norm1", f"{name}.conv1", ours_from_reversed(width, growths[:i])
        places = ours_from_reversed(width, growths)
        if b < last:
            yield f"features.transition{b}.norm", f"features.transition{b}.conv", places
        else:
            yield "features.norm5", "classifier", places
