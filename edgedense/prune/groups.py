"""What can be pruned: the channels of one convolution, and everything that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edgedense.densenet.spec import DenseLayer, DenseNetSpec
from edgedense.errors import InputError

Scope = Literal["bottleneck", "all"]
SCOPES: tuple[str, ...] = get_args(Scope)
STEM = "features.conv0"


@dataclass(frozen=True)
class Reader:
    """Who reads a group: BN ``norm`` from channel ``offset`` on, and the ``layer`` behind it."""

    norm: str
    layer: str
    offset: int


@dataclass(frozen=True)
class Group:
    """The output channels of one convolution; they can only be removed together with their readers.

    ``name`` is the convolution's module path. To remove a channel is to zero its scale and shift
    in the BN of every reader: nothing else reads it. ``own_norm`` is the BN that the ImageNet stem
    has before its readers.
    """

    name: str
    width: int
    readers: tuple[Reader, ...]
    own_norm: str | None = None

    def norms(self) -> list[tuple[str, int]]:
        """Each BN that sees the group, and the first channel at which it does."""
        own = [(self.own_norm, 0)] if self.own_norm else []
        return own + [(reader.norm, reader.offset) for reader in self.readers]


def prunable(spec: DenseNetSpec, scope: Scope) -> tuple[Group, ...]:
    """Groups of ``spec`` from the first layer to the last.

    ``bottleneck`` gives the outputs of each layer's 1x1 convolution: private to the layer, so that
    no concat changes. ``all`` adds the stem, what each layer adds to the concat, and the
    transitions. Errors: InputError for scope ``bottleneck`` where there is no bottleneck.
    """
    groups = tuple(_all(spec))
    if scope == "all":
        return groups
    private = tuple(g for g in groups if g.readers[0].norm.endswith(".norm2"))
    if not private:
        raise InputError(
            f"this {spec.family} has no bottleneck layers to prune",
            "Prune what its layers add to the concat: --scope all",
        )
    return private


def with_widths(spec: DenseNetSpec, widths: Mapping[str, int]) -> DenseNetSpec:
    """``spec`` with the widths of the groups named in ``widths`` (module path to channels)."""
    blocks = tuple(
        tuple(_resized(layer, _layer(b, i), widths) for i, layer in enumerate(block, start=1))
        for b, block in enumerate(spec.blocks, start=1)
    )
    transitions = tuple(
        widths.get(f"{_transition(b)}.conv", width)
        for b, width in enumerate(spec.transitions, start=1)
    )
    stem_width = widths.get(STEM, spec.stem_width)
    return replace(spec, stem_width=stem_width, blocks=blocks, transitions=transitions)


def aligned_convs(spec: DenseNetSpec, align: int) -> int:
    """Convolutions whose input and output channels are multiples of ``align``.

    Of the stem only the output counts: its input is the image.
    """
    return sum(fan_in % align == 0 and out % align == 0 for fan_in, out in _convs(spec))


def count_convs(spec: DenseNetSpec) -> int:
    """Convolutions of ``spec``, the stem included."""
    return len(list(_convs(spec)))


def _all(spec: DenseNetSpec) -> Iterator[Group]:
    entry, producer = spec.stem_width, STEM
    own_norm = "features.norm0" if spec.stem == "imagenet" else None
    for b, block in enumerate(spec.blocks, start=1):
        yield Group(producer, entry, _readers(spec, b, first=1, offset=0), own_norm)
        own_norm = None
        offset = entry
        for i, layer in enumerate(block, start=1):
            name, last = _layer(b, i), "conv1"
            if layer.bottleneck is not None:
                reader = Reader(f"{name}.norm2", f"{name}.conv2", 0)
                yield Group(f"{name}.conv1", layer.bottleneck, (reader,))
                last = "conv2"
            readers = _readers(spec, b, first=i + 1, offset=offset)
            yield Group(f"{name}.{last}", layer.growth, readers)
            offset += layer.growth
        if b < len(spec.blocks):
            entry, producer = spec.transitions[b - 1], f"{_transition(b)}.conv"


def _readers(spec: DenseNetSpec, b: int, first: int, offset: int) -> tuple[Reader, ...]:
    """Who reads a channel of block ``b``'s concat: layers from ``first`` on, and what follows."""
    names = [_layer(b, i) for i in range(first, len(spec.blocks[b - 1]) + 1)]
    layers = [Reader(f"{name}.norm1", f"{name}.conv1", offset) for name in names]
    if b < len(spec.blocks):
        after = Reader(f"{_transition(b)}.norm", f"{_transition(b)}.conv", offset)
    else:
        after = Reader("features.norm5", "classifier", offset)
    return (*layers, after)


def _resized(layer: DenseLayer, name: str, widths: Mapping[str, int]) -> DenseLayer:
    if layer.bottleneck is None:
        return replace(layer, growth=widths.get(f"{name}.conv1", layer.growth))
    return DenseLayer(
        growth=widths.get(f"{name}.conv2", layer.growth),
        bottleneck=widths.get(f"{name}.conv1", layer.bottleneck),
    )


def _convs(spec: DenseNetSpec) -> Iterator[tuple[int, int]]:
    """(input, output) channels of each convolution; 0 for the image's."""
    yield 0, spec.stem_width
    for b, (channels, block) in enumerate(zip(spec.block_inputs(), spec.blocks, strict=True)):
        width = channels
        for layer in block:
            if layer.bottleneck is None:
                yield width, layer.growth
            else:
                yield width, layer.bottleneck
                yield layer.bottleneck, layer.growth
            width += layer.growth
        if b < len(spec.transitions):
            yield width, spec.transitions[b]


def _layer(b: int, i: int) -> str:
    return f"features.denseblock{b}.denselayer{i}"


def _transition(b: int) -> str:
    return f"features.transition{b}"
