"""Who reads whom: every convolution of a network with the producers whose outputs it sees.

Counting, pruning and alignment all follow from this one list, for both branches of the family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgedense.densenet.fc_spec import FCDenseNetSpec, Growths
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.specs import Spec
from edgedense.errors import InputError

Grid = tuple[int, int]


@dataclass(frozen=True)
class Wire:
    """One convolution (or the classifier), by its module path ``name``.

    ``reads`` names the convolutions whose outputs are concatenated, in this order, in front of it;
    it is empty for the image. ``fan_in`` and ``out`` are channels, ``kernel`` the side in pixels.
    ``grid`` is the place in :func:`grids` of the positions at which the kernel is applied, None for
    the classifier, which is applied once. ``norm`` is the BN between the concat and it, with a
    ReLU unless ``relu`` is False; ``own_norm`` is a BN right behind it. With ``pools`` its output
    is pooled to the next grid; ``transposed`` convolutions give the grid above.
    """

    name: str
    reads: tuple[str, ...]
    fan_in: int
    out: int
    kernel: int
    grid: int | None
    norm: str | None = None
    own_norm: str | None = None
    bias: bool = False
    relu: bool = True
    pools: bool = False
    transposed: bool = False


def wires(spec: Spec) -> tuple[Wire, ...]:
    """All convolutions of ``spec`` in the order of the data; the last one gives the logits."""
    found = _densenet(spec) if isinstance(spec, DenseNetSpec) else _tiramisu(spec)
    return tuple(found)


def grids(spec: Spec, input_size: Grid) -> tuple[Grid, ...]:
    """Sizes (height, width) in pixels, from the stem's to the smallest, for images of a size.

    Errors: InputError where the network halves such an image to nothing.
    """
    first = input_size
    if isinstance(spec, FCDenseNetSpec):
        found = [first]
        halvings = len(spec.down)
    else:
        if spec.stem != "cifar":
            first = _half_up(first)
        found = [first, first if spec.stem == "cifar" else _half_up(first)]
        halvings = len(spec.transitions)
    for _ in range(halvings):
        found.append((found[-1][0] // 2, found[-1][1] // 2))
    if 0 in found[-1]:
        raise InputError(
            f"an input of {input_size[0]}x{input_size[1]} pixels is too small for this network: "
            "its transitions halve it to nothing",
            "Use the input size that the network was trained with.",
        )
    return tuple(found)


def producers(found: tuple[Wire, ...]) -> Mapping[str, int]:
    """Output channels of each convolution by its name."""
    return {wire.name: wire.out for wire in found}


def private(found: tuple[Wire, ...]) -> frozenset[str]:
    """Names of the convolutions whose output is all that one other reads, and that nobody else
    reads: bottlenecks, and what a stem has inside."""
    count = Counter(name for wire in found for name in wire.reads)
    alone = {wire.reads[0] for wire in found if len(wire.reads) == 1}
    return frozenset(name for name in alone if count[name] == 1)


def _half_up(size: Grid) -> Grid:
    """Output size of a stride-2 convolution or pool with "same" padding."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _densenet(spec: DenseNetSpec) -> Iterator[Wire]:
    yield from _stem(spec)
    entry = f"features.conv{len(spec.stem_hidden)}"
    entries = zip(spec.block_inputs(), spec.blocks, spec.block_widths(), strict=True)
    for b, (width, block, out) in enumerate(entries, start=1):
        reads = [entry]
        for i, layer in enumerate(block, start=1):
            name, last, kernel = f"features.denseblock{b}.denselayer{i}", "conv1", 3
            if layer.bottleneck is not None:
                last, kernel = "conv2", 1
            first = layer.growth if layer.bottleneck is None else layer.bottleneck
            conv1, conv2, norm1 = f"{name}.conv1", f"{name}.conv2", f"{name}.norm1"
            yield Wire(conv1, tuple(reads), width, first, kernel, b, norm1)
            if layer.bottleneck is not None:
                yield Wire(conv2, (conv1,), first, layer.growth, 3, b, f"{name}.norm2")
            reads.append(f"{name}.{last}")
            width += layer.growth  # noqa: PLW2901
        if b < len(spec.blocks):
            name = f"features.transition{b}"
            entry = f"{name}.conv"
            yield Wire(
                *(entry, tuple(reads), out, spec.transitions[b - 1], 1, b, f"{name}.norm"),
                relu=spec.transition_relu,
                pools=True,
            )
    norm, final = "features.norm5", spec.block_widths()[-1]
    yield Wire("classifier", tuple(reads), final, spec.num_classes, 1, None, norm, bias=True)


def _stem(spec: DenseNetSpec) -> Iterator[Wire]:
    kernel = 7 if spec.stem == "imagenet" else 3
    reads: tuple[str, ...] = ()
    fan_in, norm = spec.in_channels, None
    for number, width in enumerate(spec.stem_hidden):
        name = f"features.conv{number}"
        yield Wire(name, reads, fan_in, width, kernel, 0, norm)
        reads, fan_in, norm = (name,), width, f"features.norm{number}"
    number = len(spec.stem_hidden)
    own = None if spec.stem == "cifar" else f"features.norm{number}"
    name, pools = f"features.conv{number}", spec.stem != "cifar"
    yield Wire(name, reads, fan_in, spec.stem_width, kernel, 0, norm, own, pools=pools)


def _tiramisu(spec: FCDenseNetSpec) -> Iterator[Wire]:
    depth, inputs = len(spec.down), spec.block_inputs()
    yield Wire("firstconv", (), spec.in_channels, spec.stem_width, 3, 0, bias=True)
    entry, skips = "firstconv", []
    for d, block in enumerate(spec.down):
        layers, reads = _layers(f"denseBlocksDown.{d}", (entry,), inputs[d], block, d)
        yield from layers
        skips.append(reads)
        entry, width = f"transDownBlocks.{d}.conv", inputs[d] + sum(block)
        norm, out = f"transDownBlocks.{d}.norm", spec.transitions_down[d]
        yield Wire(entry, reads, width, out, 1, d, norm, bias=True, pools=True)
    layers, reads = _layers("bottleneck.bottleneck", (entry,), inputs[depth], spec.middle, depth)
    yield from layers
    fresh = reads[1:]
    for u, block in enumerate(spec.up):
        name, fan_in = f"transUpBlocks.{u}.convTrans", sum(spec.blocks[depth + u])
        out, grid = spec.transitions_up[u], depth - u
        yield Wire(name, fresh, fan_in, out, 3, grid, bias=True, transposed=True)
        entries = (name, *skips.pop())
        start = inputs[depth + 1 + u]
        layers, reads = _layers(f"denseBlocksUp.{u}", entries, start, block, depth - 1 - u)
        yield from layers
        fresh = reads[len(entries) :]
    yield Wire("finalConv", reads, spec.block_widths()[-1], spec.num_classes, 1, 0, bias=True)


def _layers(
    block: str, reads: tuple[str, ...], width: int, growths: Growths, grid: int
) -> tuple[list[Wire], tuple[str, ...]]:
    """The layers of one plain block, and all that its last concat holds."""
    found = []
    for i, growth in enumerate(growths):
        name = f"{block}.layers.{i}"
        conv, norm = f"{name}.conv", f"{name}.norm"
        found.append(Wire(conv, reads, width, growth, 3, grid, norm, bias=True))
        reads, width = (*reads, conv), width + growth
    return found, reads
