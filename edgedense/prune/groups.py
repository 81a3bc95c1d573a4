"""What can be pruned: the channels of one convolution, and everything that reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgedense.densenet.family import Spec
from edgedense.densenet.fc_spec import FCDenseNetSpec, Growths
from edgedense.densenet.spec import DenseLayer
from edgedense.densenet.wiring import Wire, private, producers, wires
from edgedense.errors import InputError

Scope = Literal["auto", "bottleneck", "all"]
SCOPES: tuple[str, ...] = get_args(Scope)


@dataclass(frozen=True)
class Reader:
    """Who reads a group: BN ``norm`` from channel ``offset`` on, and the ``layer`` behind it.

    ``norm`` is None where the layer reads the concat itself (FC-DenseNet's transposed convolutions
    and its last one).
    """

    norm: str | None
    layer: str
    offset: int

    @property
    def seen_by(self) -> str:
        """The module whose input is the concat."""
        return self.norm or self.layer


@dataclass(frozen=True)
class Group:
    """The output channels of one convolution; they can only be removed together with their readers.

    ``name`` is the convolution's module path. To remove a channel is to zero its scale and shift
    in the BN of every reader: nothing else reads it. ``own_norm`` is the BN that the ImageNet stem
    has before its readers. ``private`` groups are all that their one reader reads, so that no
    concat changes with them: the outputs of bottleneck convolutions.
    """

    name: str
    width: int
    readers: tuple[Reader, ...]
    own_norm: str | None = None
    private: bool = False

    def norms(self) -> list[tuple[str, int]]:
        """Each BN that sees the group, and the first channel at which it does."""
        own = [(self.own_norm, 0)] if self.own_norm else []
        return own + [(r.norm, r.offset) for r in self.readers if r.norm is not None]


def prunable(spec: Spec, scope: Scope) -> tuple[Group, ...]:
    """Groups of ``spec`` from the first layer to the last.

    ``bottleneck`` gives the outputs of each layer's 1x1 convolution: private to the layer, so that
    no concat changes. ``all`` adds the stem, what each layer adds to the concat, and the
    transitions. ``auto`` is ``bottleneck`` where there is one, else ``all``.
    Errors: InputError for scope ``bottleneck`` where there is no bottleneck.
    """
    groups = tuple(_all(wires(spec)))
    if scope == "all":
        return groups
    private = tuple(group for group in groups if group.private)
    if not private and scope == "auto":
        return groups
    if not private:
        raise InputError(
            f"this {spec.family} has no bottleneck layers to prune",
            "Prune what its layers add to the concat: --scope all",
        )
    return private


def with_widths(spec: Spec, widths: Mapping[str, int]) -> Spec:
    """``spec`` with the widths of the groups named in ``widths`` (module path to channels)."""
    if isinstance(spec, FCDenseNetSpec):
        return _narrower_tiramisu(spec, widths)
    blocks = tuple(
        tuple(_resized(layer, _layer(b, i), widths) for i, layer in enumerate(block, start=1))
        for b, block in enumerate(spec.blocks, start=1)
    )
    transitions = tuple(
        widths.get(f"features.transition{b}.conv", width)
        for b, width in enumerate(spec.transitions, start=1)
    )
    stems = [
        widths.get(f"features.conv{number}", width)
        for number, width in enumerate((*spec.stem_hidden, spec.stem_width))
    ]
    return replace(
        spec,
        stem_hidden=tuple(stems[:-1]),
        stem_width=stems[-1],
        blocks=blocks,
        transitions=transitions,
    )


def aligned_convs(spec: Spec, align: int) -> int:
    """Convolutions whose input and output channels are multiples of ``align``.

    Of the stem only the output counts: its input is the image.
    """
    convs = [wire for wire in wires(spec) if wire.grid is not None]
    return sum(
        wire.out % align == 0 and (not wire.reads or wire.fan_in % align == 0) for wire in convs
    )


def count_convs(spec: Spec) -> int:
    """Convolutions of ``spec``, the stem included."""
    return sum(wire.grid is not None for wire in wires(spec))


def _all(found: tuple[Wire, ...]) -> Iterator[Group]:
    width = producers(found)
    readers: defaultdict[str, list[Reader]] = defaultdict(list)
    for wire in found:
        offset = 0
        for name in wire.reads:
            readers[name].append(Reader(wire.norm, wire.name, offset))
            offset += width[name]
    alone = private(found)
    for wire in found[:-1]:
        own = wire.name in alone
        yield Group(wire.name, wire.out, tuple(readers[wire.name]), wire.own_norm, own)


def _resized(layer: DenseLayer, name: str, widths: Mapping[str, int]) -> DenseLayer:
    if layer.bottleneck is None:
        return replace(layer, growth=widths.get(f"{name}.conv1", layer.growth))
    return DenseLayer(
        growth=widths.get(f"{name}.conv2", layer.growth),
        bottleneck=widths.get(f"{name}.conv1", layer.bottleneck),
    )


def _narrower_tiramisu(spec: FCDenseNetSpec, widths: Mapping[str, int]) -> FCDenseNetSpec:
    def block(name: str, growths: Growths) -> Growths:
        return tuple(widths.get(f"{name}.layers.{i}.conv", g) for i, g in enumerate(growths))

    def outs(name: str, old: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(widths.get(name.format(i), width) for i, width in enumerate(old))

    return replace(
        spec,
        stem_width=widths.get("firstconv", spec.stem_width),
        down=tuple(block(f"denseBlocksDown.{d}", old) for d, old in enumerate(spec.down)),
        middle=block("bottleneck.bottleneck", spec.middle),
        up=tuple(block(f"denseBlocksUp.{u}", old) for u, old in enumerate(spec.up)),
        transitions_down=outs("transDownBlocks.{}.conv", spec.transitions_down),
        transitions_up=outs("transUpBlocks.{}.convTrans", spec.transitions_up),
    )


def _layer(b: int, i: int) -> str:
    return f"features.denseblock{b}.denselayer{i}"
