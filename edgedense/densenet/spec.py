"""The structure of one DenseNet, as numbers: enough to build it, count it and store it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgedense.errors import InputError

# names of every deployed network's input and output
INPUT, OUTPUT = "images", "logits"

Stem = Literal["imagenet", "cifar", "deep", "deep-blur"]
Pool = Literal["avg", "max"]
Padding = Literal["symmetric", "same"]
# what a network did to its logits where it was trained; ours and every engine's stop at the logits
Activation = Literal["none", "softmax", "log_softmax", "sigmoid", "op_norm"]


@dataclass(frozen=True)
class DenseLayer:
    """Widths of one dense layer.

    ``growth`` is the number of channels that it adds to the concat; ``bottleneck`` the output
    channels of its 1x1 convolution, None for a plain layer (one 3x3 convolution).
    """

    growth: int
    bottleneck: int | None


@dataclass(frozen=True)
class DenseNetSpec:
    """Structure of a DenseNet; every layer may have widths of its own (after pruning it does).

    ``stem`` is ``imagenet`` (7x7/2, BN, ReLU, 3x3/2 max pool), ``cifar`` (3x3), ``deep`` (timm's
    3x3/2, 3x3, 3x3, each with BN and ReLU, then the max pool; ``stem_hidden`` are the widths of the
    first two) or ``deep-blur`` (max pool of stride 1, then a binomial blur of stride 2).
    ``transitions`` are the output channels of the 1x1 convolutions between blocks; ``pool`` is
    what follows them. ``dropout`` acts after the last convolution of each layer, in training only.

    ``padding`` is how an ``imagenet`` stem pads: ``same`` as Keras does, more at the end.
    ``transition_relu`` False leaves the ReLU of the transitions out. ``activation`` is what the
    original network applied to its logits (``op_norm``: torchxrayvision's, with the
    ``thresholds`` of its classes, None for a class that it never trained); it is recorded, and
    stripped.
    """

    stem: Stem
    in_channels: int
    stem_width: int
    blocks: tuple[tuple[DenseLayer, ...], ...]
    transitions: tuple[int, ...]
    num_classes: int
    pool: Pool = "avg"
    dropout: float = 0.0
    eps: float = 1e-5
    stem_hidden: tuple[int, ...] = ()
    padding: Padding = "symmetric"
    transition_relu: bool = True
    activation: Activation = "none"
    thresholds: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if len(self.transitions) != len(self.blocks) - 1:
            raise InputError(
                f"{len(self.blocks)} dense blocks need {len(self.blocks) - 1} transitions, "
                f"not {len(self.transitions)}",
                "Give one transition width for each pair of neighbouring blocks.",
            )

    @property
    def block_config(self) -> tuple[int, ...]:
        """Layers of each block."""
        return tuple(len(block) for block in self.blocks)

    @property
    def growth_rate(self) -> int | list[int] | list[list[int]]:
        """One number where all layers agree, else one a block, else one a layer."""
        per_layer = [[layer.growth for layer in block] for block in self.blocks]
        if all(len(set(block)) == 1 for block in per_layer):
            per_block = [block[0] for block in per_layer]
            return per_block[0] if len(set(per_block)) == 1 else per_block
        return per_layer

    @property
    def family(self) -> str:
        """``DenseNet``, ``DenseNet-B``, ``-C`` or ``-BC`` (paper, section 3), with its depth."""
        bottleneck = any(layer.bottleneck for block in self.blocks for layer in block)
        compressed = any(
            width < after
            for width, after in zip(self.transitions, self.block_widths(), strict=False)
        )
        letters = ("B" if bottleneck else "") + ("C" if compressed else "")
        return f"DenseNet-{letters}-{self.depth}" if letters else f"DenseNet-{self.depth}"

    @property
    def depth(self) -> int:
        """Convolutions plus the classifier, as the paper counts its L."""
        convs = sum(2 if layer.bottleneck else 1 for block in self.blocks for layer in block)
        return 1 + len(self.stem_hidden) + convs + len(self.transitions) + 1

    @property
    def task(self) -> Literal["classification"]:
        """One answer an image."""
        return "classification"

    def block_inputs(self) -> tuple[int, ...]:
        """Channels that enter each block."""
        return (self.stem_width, *self.transitions)

    def block_widths(self) -> tuple[int, ...]:
        """Channels of each block's last concat."""
        return tuple(
            width + sum(layer.growth for layer in block)
            for width, block in zip(self.block_inputs(), self.blocks, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> DenseNetSpec:
        """From what :meth:`to_dict` gave, after a round trip through JSON."""
        blocks = tuple(tuple(DenseLayer(**layer) for layer in block) for block in raw["blocks"])
        lists = ("transitions", "stem_hidden", "thresholds")
        tuples = {key: tuple(raw[key]) for key in lists if key in raw}
        return cls(**{**raw, **tuples, "blocks": blocks})

    @classmethod
    def build(
        cls,
        block_config: Sequence[int],
        growth_rate: int | Sequence[int],
        *,
        num_classes: int,
        stem: Stem = "cifar",
        in_channels: int = 3,
        stem_width: int | None = None,
        bottleneck: bool = True,
        bn_size: int = 4,
        compression: float = 0.5,
        pool: Pool = "avg",
        dropout: float = 0.0,
    ) -> DenseNetSpec:
        """Structure from the paper's numbers; ``stem_width`` is 2k of the first block by default.

        ``compression`` is the paper's theta, 1.0 for none; ``bn_size`` times the growth rate is
        the bottleneck's width. ``growth_rate`` is one number, or one a block.
        """
        rates = [growth_rate] * len(block_config) if isinstance(growth_rate, int) else growth_rate
        width = stem_width or 2 * rates[0]
        first, blocks, transitions = width, [], []
        for layers, rate in zip(block_config, rates, strict=True):
            blocks.append((DenseLayer(rate, bn_size * rate if bottleneck else None),) * layers)
            width += layers * rate
            width = int(width * compression)
            transitions.append(width)
        return cls(
            stem=stem,
            in_channels=in_channels,
            stem_width=first,
            blocks=tuple(blocks),
            transitions=tuple(transitions[:-1]),
            num_classes=num_classes,
            pool=pool,
            dropout=dropout,
        )
