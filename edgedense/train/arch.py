"""From what the user names to the structure that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgedense.data import ImageSet, classes_file
from edgedense.densenet.spec import DenseNetSpec, Pool, Stem
from edgedense.errors import InputError


def explicit(
    blocks: Sequence[int],
    growth: Sequence[int],
    num_classes: int,
    *,
    stem: Stem = "cifar",
    bottleneck: bool = True,
    compression: float = 0.5,
    pool: Pool = "avg",
    in_channels: int = 3,
    dropout: float = 0.0,
) -> DenseNetSpec:
    """A DenseNet from the paper's numbers; ``growth`` is one rate, or one a block.

    Errors: InputError for numbers that make no network.
    """
    rates = tuple(growth) * len(blocks) if len(growth) == 1 else tuple(growth)
    if not blocks or min((*blocks, *rates)) < 1 or len(rates) != len(blocks):
        layers, given = (",".join(map(str, numbers)) for numbers in (blocks, growth))
        raise InputError(
            f"--blocks {layers} --growth {given}: not all are 1 or more, or not one rate a block",
            "Give the layers of each block and the growth rate: --blocks 16,16,16 --growth 12",
        )
    if not 0 < compression <= 1:
        raise InputError(f"--compression {compression:g} is not in 0 … 1", "The paper's is 0.5.")
    return DenseNetSpec.build(
        blocks,
        rates,
        num_classes=num_classes,
        stem=stem,
        in_channels=in_channels,
        bottleneck=bottleneck,
        compression=compression,
        pool=pool,
        dropout=dropout,
    )


def one_of(arch: str | None, blocks: Sequence[int] | None) -> Literal["arch", "blocks"]:
    """Which of the two the user gave. Errors: InputError unless it is exactly one."""
    if (arch is None) == (blocks is None):
        raise InputError(
            "which network? Neither --arch nor --blocks is given"
            if arch is None
            else "--arch and --blocks are two different networks",
            "Give --arch NAME, or --blocks 16,16,16 --growth 12.",
        )
    return "blocks" if arch is None else "arch"


def classes_of(images: ImageSet) -> int:
    """Classes that a network for this set has to tell apart. Errors: InputError."""
    if images.has_masks:
        known = [k for k in range(len(images.class_names)) if k not in images.void]
        if not known:
            raise InputError(
                f"{images.source}: nothing says how many classes its masks have",
                f"Name them in {classes_file(images)}, one a line in the order of the mask values.",
            )
        return max(known) + 1
    count = len(images.class_names) or int(images.labels.max(initial=-1)) + 1
    if count < 2:
        raise InputError(
            f"{images.source} has {count} class(es), a network needs 2 or more to tell apart",
            "Give a folder with one sub-folder per class, or a label for each image.",
        )
    return count
