"""Parameters and multiply-accumulates of a DenseNet, from its structure alone."""

from __future__ import annotations

from typing import Any

from edgedense.densenet.specs import Spec
from edgedense.densenet.wiring import grids, wires


def count_params(spec: Spec) -> int:
    """Trainable parameters: weights and biases, and two a BN channel."""
    total = 0
    for wire in wires(spec):
        total += wire.out * (wire.fan_in * wire.kernel**2 + wire.bias)
        total += 2 * wire.fan_in * (wire.norm is not None)
        total += 2 * wire.out * (wire.own_norm is not None)
    return total


def count_macs(spec: Spec, input_size: tuple[int, int]) -> int:
    """Multiply-accumulates of the convolutions and the classifier for one (height, width) image.

    BN, ReLU and pooling are not counted: the convention of torchvision and of the papers.
    Errors: InputError where the image is too small for the network.
    """
    places = [height * width for height, width in grids(spec, input_size)]
    return sum(
        wire.out * wire.fan_in * wire.kernel**2 * (1 if wire.grid is None else places[wire.grid])
        for wire in wires(spec)
    )


def usual_input_size(spec: Spec) -> tuple[int, int]:
    """(height, width) in pixels that networks of this kind are usually trained with."""
    if spec.task == "segmentation":
        return 224, 224
    return (32, 32) if spec.stem == "cifar" else (224, 224)


def describe(spec: Spec, input_size: tuple[int, int]) -> dict[str, Any]:
    """What a manifest records of a network: its structure, and its counts at (height, width)."""
    return {
        "spec": spec.to_dict(),
        "family": spec.family,
        "task": spec.task,
        "activation": spec.activation,
        "num_classes": spec.num_classes,
        "params": count_params(spec),
        "macs": count_macs(spec, input_size),
    }
