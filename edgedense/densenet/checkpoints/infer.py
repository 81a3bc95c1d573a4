"""The structure of a DenseNet, read off the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from edgedense.densenet.checkpoints.recognised import SAVE_WHOLE, Facts
from edgedense.densenet.family import Spec
from edgedense.densenet.fc_spec import FCDenseNetSpec, Growths
from edgedense.densenet.spec import DenseLayer, DenseNetSpec, Stem
from edgedense.errors import InputError

State = Mapping[str, Tensor]


def infer_spec(state: State, facts: Facts, path: Path) -> Spec:
    """Structure of a state dict with our names; ``path`` is for messages only.

    What neither shapes nor ``facts`` tell gets the family's usual value: no dropout for
    classification, max pools and dropout of 0.2 for FC-DenseNet.
    """
    if any(key.startswith(("firstconv.", "finalConv.")) for key in state):
        return _infer_segmentation(state, facts, path)
    return infer_classifier(state, facts, path)


def infer_classifier(state: State, facts: Facts, path: Path) -> DenseNetSpec:
    """Structure of a state dict with torchvision's names."""
    convs = _stem_convs(state, path)
    stem = _stem(state, convs, facts, path)
    blocks = tuple(
        _block(state, number, path) for number in _numbers(state, "features.denseblock", path)
    )
    transitions = tuple(
        _shape(state, f"features.transition{number}.conv.weight", path, 4)[0]
        for number in range(1, len(blocks))
    )
    return DenseNetSpec(
        stem=stem,
        in_channels=convs[0][1],
        stem_width=convs[-1][0],
        stem_hidden=tuple(conv[0] for conv in convs[:-1]),
        blocks=blocks,
        transitions=transitions,
        num_classes=_shape(state, "classifier.weight", path, 2)[0],
        pool=facts.pool,
        eps=facts.eps,
        padding=facts.padding,
        transition_relu=facts.transition_relu,
        activation=facts.activation,
        thresholds=facts.thresholds,
    )


def _infer_segmentation(state: State, facts: Facts, path: Path) -> FCDenseNetSpec:
    """Structure of a state dict with bfortuner's names of an FC-DenseNet."""
    first = _shape(state, "firstconv.weight", path, 4)
    downs = _numbers(state, "denseBlocksDown.", path, first=0)
    ups = _numbers(state, "denseBlocksUp.", path, first=0)
    try:
        return FCDenseNetSpec(
            in_channels=first[1],
            stem_width=first[0],
            down=tuple(_growths(state, f"denseBlocksDown.{b}", path) for b in downs),
            middle=_growths(state, "bottleneck.bottleneck", path),
            up=tuple(_growths(state, f"denseBlocksUp.{b}", path) for b in ups),
            transitions_down=tuple(
                _shape(state, f"transDownBlocks.{b}.conv.weight", path, 4)[0] for b in downs
            ),
            transitions_up=tuple(  # transposed convolutions keep their outputs on the second axis
                _shape(state, f"transUpBlocks.{b}.convTrans.weight", path, 4)[1] for b in ups
            ),
            num_classes=_shape(state, "finalConv.weight", path, 4)[0],
            eps=facts.eps,
            activation=facts.activation,
        )
    except InputError as error:
        what = error.what if str(path) in error.what else f"{path}: {error.what}"
        raise InputError(what, error.remedy) from error


def block_config(state: State, path: Path) -> tuple[int, ...]:
    """Layers of each block of a state dict with torchvision's names."""
    blocks = _numbers(state, "features.denseblock", path)
    names = (f"features.denseblock{b}.denselayer" for b in blocks)
    return tuple(len(_numbers(state, name, path)) for name in names)


def _stem_convs(state: State, path: Path) -> list[tuple[int, ...]]:
    deep = "features.conv1.weight" in state or "features.conv2.weight" in state
    names = (f"features.conv{number}.weight" for number in range(3 if deep else 1))
    return [_shape(state, name, path, 4) for name in names]


def _stem(state: State, convs: list[tuple[int, ...]], facts: Facts, path: Path) -> Stem:
    kernel = convs[0][2:]
    if len(convs) > 1:
        return "deep-blur" if facts.blur else "deep"
    if kernel == (7, 7):
        return "imagenet"
    if kernel != (3, 3):
        raise InputError(
            f"{path}: a stem with a {kernel[0]}x{kernel[1]} kernel is unknown",
            "edgedense knows the 7x7 stem for ImageNet and the 3x3 stem for CIFAR.",
        )
    if "features.norm0.weight" in state:
        raise InputError(
            f"{path}: a 3x3 stem with a BN behind it: whether it halves the image is not told by "
            "the file, and features.norm0.weight has no place in the 3x3 stem for CIFAR",
            "edgedense knows that stem without BN, and the 7x7 stem with BN and max pool.",
        )
    return "cifar"


def _block(state: State, block: int, path: Path) -> tuple[DenseLayer, ...]:
    prefix = f"features.denseblock{block}.denselayer"
    layers = []
    for number in _numbers(state, prefix, path):
        name = f"{prefix}{number}."
        first = _shape(state, f"{name}conv1.weight", path, 4)
        if f"{name}conv2.weight" in state:
            second = _shape(state, f"{name}conv2.weight", path, 4)
            layers.append(DenseLayer(growth=second[0], bottleneck=first[0]))
        else:
            layers.append(DenseLayer(growth=first[0], bottleneck=None))
    return tuple(layers)


def _growths(state: State, block: str, path: Path) -> Growths:
    layers = f"{block}.layers."
    return tuple(
        _shape(state, f"{layers}{number}.conv.weight", path, 4)[0]
        for number in _numbers(state, layers, path, first=0)
    )


def _numbers(state: State, name: str, path: Path, first: int = 1) -> range:
    pattern = re.compile(rf"{re.escape(name)}(\d+)\.")
    found = {int(match.group(1)) for key in state if (match := pattern.match(key))}
    wanted = range(first, first + len(found))
    if not found:
        raise InputError(f"{path}: {name}{first}.* is missing", SAVE_WHOLE)
    if found != set(wanted):
        raise InputError(
            f"{path}: {name.removeprefix('features.').removesuffix('.')} has the numbers "
            f"{sorted(found)}, where {first}, {first + 1}, {first + 2}, … is expected",
            SAVE_WHOLE,
        )
    return wanted


_AXES = {2: "(outputs, inputs)", 4: "(outputs, inputs, height, width)"}


def _shape(state: State, key: str, path: Path, axes: int) -> tuple[int, ...]:
    if key not in state:
        raise InputError(f"{path}: {key} is missing", SAVE_WHOLE)
    shape = tuple(state[key].shape)
    if len(shape) != axes or 0 in shape:
        raise InputError(
            f"{path}: {key} has shape {shape}, where {_AXES[axes]} is expected", SAVE_WHOLE
        )
    return shape
