"""The structure of a DenseNet, read off the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from edgedense.densenet.spec import DenseLayer, DenseNetSpec, Stem
from edgedense.errors import InputError

State = Mapping[str, Tensor]


def infer_spec(state: State, path: Path) -> DenseNetSpec:
    """Structure of a state dict with torchvision's names; ``path`` is for messages only.

    What shapes cannot tell gets the family's usual value: average pooling, eps 1e-5, no dropout.
    """
    conv0 = _shape(state, "features.conv0.weight", path, 4)
    blocks = tuple(_block(state, number, path) for number in _numbers(state, "denseblock", path))
    transitions = tuple(
        _shape(state, f"features.transition{number}.conv.weight", path, 4)[0]
        for number in range(1, len(blocks))
    )
    return DenseNetSpec(
        stem=_stem(conv0, path),
        in_channels=conv0[1],
        stem_width=conv0[0],
        blocks=blocks,
        transitions=transitions,
        num_classes=_shape(state, "classifier.weight", path, 2)[0],
    )


def _stem(conv0: tuple[int, ...], path: Path) -> Stem:
    stems: dict[tuple[int, ...], Stem] = {(7, 7): "imagenet", (3, 3): "cifar"}
    if conv0[2:] not in stems:
        raise InputError(
            f"{path}: a stem with a {conv0[2]}x{conv0[3]} kernel is unknown",
            "edgedense knows the 7x7 stem for ImageNet and the 3x3 stem for CIFAR.",
        )
    return stems[conv0[2:]]


def _block(state: State, block: int, path: Path) -> tuple[DenseLayer, ...]:
    prefix = f"features.denseblock{block}."
    layers = []
    for number in _numbers(state, f"denseblock{block}.denselayer", path):
        name = f"{prefix}denselayer{number}."
        first = _shape(state, f"{name}conv1.weight", path, 4)
        if f"{name}conv2.weight" in state:
            second = _shape(state, f"{name}conv2.weight", path, 4)
            layers.append(DenseLayer(growth=second[0], bottleneck=first[0]))
        else:
            layers.append(DenseLayer(growth=first[0], bottleneck=None))
    return tuple(layers)


def _numbers(state: State, name: str, path: Path) -> range:
    pattern = re.compile(rf"features\.{re.escape(name)}(\d+)\.")
    found = {int(match.group(1)) for key in state if (match := pattern.match(key))}
    if found != set(range(1, len(found) + 1)) or not found:
        raise InputError(
            f"{path}: {name} has the numbers {sorted(found)}, where 1, 2, 3, … is expected",
            "The file is incomplete: copy or save it again.",
        )
    return range(1, len(found) + 1)


def _shape(state: State, key: str, path: Path, axes: int) -> tuple[int, ...]:
    shape = tuple(state[key].shape) if key in state else ()
    if len(shape) != axes or 0 in shape:
        raise InputError(
            f"{path}: {key} is missing or has a shape {shape} that no DenseNet gives it",
            "The file is incomplete, or of a variant that edgedense does not know yet.",
        )
    return shape
