"""Parameters and multiply-accumulates of a DenseNet, from its structure alone."""

from __future__ import annotations

from typing import Any

from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError


def count_params(spec: DenseNetSpec) -> int:
    """Trainable parameters: convolutions, two a BN channel, and the classifier."""
    kernel = 49 if spec.stem == "imagenet" else 9
    total = spec.in_channels * spec.stem_width * kernel
    total += 2 * spec.stem_width if spec.stem == "imagenet" else 0
    widths = spec.block_inputs()
    for width, block in zip(widths, spec.blocks, strict=True):
        for layer in block:
            total += 2 * width
            if layer.bottleneck is None:
                total += 9 * width * layer.growth
            else:
                total += layer.bottleneck * (width + 2 + 9 * layer.growth)
            width += layer.growth  # noqa: PLW2901
    for width, out in zip(spec.block_widths(), spec.transitions, strict=False):
        total += 2 * width + width * out
    final = spec.block_widths()[-1]
    return total + 2 * final + (final + 1) * spec.num_classes


def count_macs(spec: DenseNetSpec, input_size: tuple[int, int]) -> int:
    """Multiply-accumulates of the convolutions and the classifier for one (height, width) image.

    BN, ReLU and pooling are not counted: the convention of torchvision and of the papers.
    """
    height, width = _stem_size(spec, input_size)
    kernel = 49 if spec.stem == "imagenet" else 9
    stem_pixels = _halve(input_size[0]) * _halve(input_size[1])
    pixels = height * width
    total = spec.in_channels * spec.stem_width * kernel
    total *= stem_pixels if spec.stem == "imagenet" else pixels
    for number, block in enumerate(spec.blocks):
        channels = spec.block_inputs()[number]
        for layer in block:
            if layer.bottleneck is None:
                total += pixels * 9 * channels * layer.growth
            else:
                total += pixels * layer.bottleneck * (channels + 9 * layer.growth)
            channels += layer.growth
        if number < len(spec.transitions):
            total += pixels * channels * spec.transitions[number]
            height, width = height // 2, width // 2
            pixels = height * width
            _check(pixels, input_size)
    return total + spec.block_widths()[-1] * spec.num_classes


def usual_input_size(spec: DenseNetSpec) -> tuple[int, int]:
    """(height, width) in pixels that networks with this stem are usually trained with."""
    return (224, 224) if spec.stem == "imagenet" else (32, 32)


def describe(spec: DenseNetSpec, input_size: tuple[int, int]) -> dict[str, Any]:
    """What a manifest records of a network: its structure, and its counts at (height, width)."""
    return {
        "spec": spec.to_dict(),
        "family": spec.family,
        "num_classes": spec.num_classes,
        "params": count_params(spec),
        "macs": count_macs(spec, input_size),
    }


def _stem_size(spec: DenseNetSpec, input_size: tuple[int, int]) -> tuple[int, int]:
    if spec.stem == "cifar":
        return input_size
    height, width = (_halve(_halve(side)) for side in input_size)
    return height, width


def _halve(side: int) -> int:
    """Output size of a stride-2 convolution or pool with "same" padding."""
    return (side + 1) // 2


def _check(pixels: int, input_size: tuple[int, int]) -> None:
    if pixels == 0:
        raise InputError(
            f"an input of {input_size[0]}x{input_size[1]} pixels is too small for this network: "
            "its transitions halve it to nothing",
            "Use the input size that the network was trained with.",
        )
