"""The structure of one FC-DenseNet (Tiramisu), as numbers.

Source: Jégou et al., "The One Hundred Layers Tiramisu" (arXiv 1611.09326, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgedense.densenet.spec import Activation
from edgedense.errors import InputError

Growths = tuple[int, ...]


@dataclass(frozen=True)
class FCDenseNetSpec:
    """Structure of an FC-DenseNet for segmentation; every layer may have a width of its own.

    ``down``, ``middle`` and ``up`` give the growth of each plain layer (BN-ReLU-conv3x3, dropout);
    ``up`` counts from the deepest block. ``transitions_down`` are the output channels of the 1x1
    convolutions in front of the 2x2 max pools, ``transitions_up`` those of the transposed 3x3/2
    convolutions. All convolutions have a bias.
    """

    in_channels: int
    stem_width: int
    down: tuple[Growths, ...]
    middle: Growths
    up: tuple[Growths, ...]
    transitions_down: tuple[int, ...]
    transitions_up: tuple[int, ...]
    num_classes: int
    dropout: float = 0.2
    eps: float = 1e-5
    activation: Activation = "none"

    def __post_init__(self) -> None:
        parts = (self.down, self.up, self.transitions_down, self.transitions_up)
        if len({len(part) for part in parts}) != 1 or not self.down:
            raise InputError(
                f"{len(self.down)} blocks down, {len(self.up)} up, with "
                f"{len(self.transitions_down)} and {len(self.transitions_up)} transitions",
                "Each block down needs its transition, and its counterparts on the way up.",
            )

    @property
    def task(self) -> Literal["segmentation"]:
        """One answer a pixel."""
        return "segmentation"

    @property
    def blocks(self) -> tuple[Growths, ...]:
        """Growths of all layers in the order of the data."""
        return (*self.down, self.middle, *self.up)

    @property
    def block_config(self) -> tuple[int, ...]:
        """Layers of each block, down, in the middle and up."""
        return tuple(len(block) for block in self.blocks)

    @property
    def growth_rate(self) -> int | list[int] | list[list[int]]:
        """One number where all layers agree, else one a block, else one a layer."""
        per_layer = [list(block) for block in self.blocks]
        if all(len(set(block)) == 1 for block in per_layer):
            per_block = [block[0] for block in per_layer]
            return per_block[0] if len(set(per_block)) == 1 else per_block
        return per_layer

    @property
    def depth(self) -> int:
        """Convolutions, as the paper counts them: layers, transitions, first and last."""
        return sum(self.block_config) + 2 * len(self.down) + 2

    @property
    def family(self) -> str:
        """``FC-DenseNet`` with its depth."""
        return f"FC-DenseNet-{self.depth}"

    def skips(self) -> tuple[int, ...]:
        """Channels of each block's output on the way down, which its counterpart up reads too."""
        entries = (self.stem_width, *self.transitions_down)
        return tuple(w + sum(b) for w, b in zip(entries, self.down, strict=False))

    def block_inputs(self) -> tuple[int, ...]:
        """Channels that enter each block, in the order of :attr:`blocks`."""
        entries = (self.stem_width, *self.transitions_down)
        ups = zip(self.transitions_up, reversed(self.skips()), strict=True)
        return (*entries, *(width + skip for width, skip in ups))

    def block_widths(self) -> tuple[int, ...]:
        """Channels of each block's last concat; deeper blocks hand on their new features only."""
        return tuple(
            width + sum(block)
            for width, block in zip(self.block_inputs(), self.blocks, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> FCDenseNetSpec:
        """From what :meth:`to_dict` gave, after a round trip through JSON."""
        nested = {key: tuple(tuple(block) for block in raw[key]) for key in ("down", "up")}
        flat = ("middle", "transitions_down", "transitions_up")
        return cls(**{**raw, **nested, **{key: tuple(raw[key]) for key in flat}})

    @classmethod
    def build(
        cls,
        down: Sequence[int],
        middle: int,
        growth_rate: int,
        *,
        num_classes: int,
        in_channels: int = 3,
        stem_width: int = 48,
        dropout: float = 0.2,
    ) -> FCDenseNetSpec:
        """Structure from the paper's numbers: layers of the blocks down and in the middle.

        The way up mirrors the way down; transitions down keep their width, transitions up the
        new features that they read (paper, table 2).
        """
        downs = tuple((growth_rate,) * layers for layers in down)
        widths, width = [], stem_width
        for block in downs:
            width += sum(block)
            widths.append(width)
        ups = tuple(reversed(downs))
        bottom = (growth_rate,) * middle
        return cls(
            in_channels=in_channels,
            stem_width=stem_width,
            down=downs,
            middle=bottom,
            up=ups,
            transitions_down=tuple(widths),
            transitions_up=tuple(sum(block) for block in (bottom, *ups[:-1])),
            num_classes=num_classes,
            dropout=dropout,
        )
