"""From a trained FC-DenseNet to its deployed graph.

The centre crop of a transition up only ever cuts the last row and column (a 3x3/2 transposed
convolution of n pixels gives 2n + 1, the skip has 2n or 2n + 1), so it becomes the transposed
convolution's own padding at the end: no Slice remains.
"""

from __future__ import annotations

from torch import nn

from edgedense.densenet.fc_network import FCDenseNet, PlainBlock, PlainLayer, TransitionDown
from edgedense.densenet.spec import INPUT, OUTPUT
from edgedense.densenet.wiring import grids
from edgedense.graph.build import Builder
from edgedense.graph.nodes import Graph, Pool


def lower_fc(network: FCDenseNet, input_size: tuple[int, int]) -> Graph:
    """The deployed graph of ``network`` in eval mode, for images of (height, width) pixels."""
    build, sizes = Builder(), grids(network.spec, input_size)
    value, skips = build.conv("firstconv", INPUT, network.firstconv), []
    pairs = zip(network.denseBlocksDown, network.transDownBlocks, strict=True)
    for number, (block, transition) in enumerate(pairs, start=1):
        name = f"down{number}"
        skips.append(build.concat(f"{name}.concat", _block(build, name, block, value)))
        value = _down(build, f"{name}.transition", transition, skips[-1])
    parts = _block(build, "middle", network.bottleneck["bottleneck"], value)
    ups = zip(network.transUpBlocks, network.denseBlocksUp, strict=True)
    for number, (transition, block) in enumerate(ups, start=1):
        name = f"up{number}"
        fresh = build.concat(f"{name}.transition.concat", parts[1:])
        (height, width), (wanted, wide) = sizes[len(skips)], sizes[len(skips) - 1]
        trim = (2 * height + 1 - wanted, 2 * width + 1 - wide)
        conv = transition.convTrans
        assert isinstance(conv, nn.ConvTranspose2d)
        value = build.conv_transpose(f"{name}.transition.conv", fresh, conv, trim)
        value = build.concat(f"{name}.skip", [value, skips.pop()])
        parts = _block(build, name, block, value)
    build.conv(OUTPUT, build.concat(f"{name}.concat", parts), network.finalConv)
    shape = (network.spec.in_channels, *input_size)
    return Graph(INPUT, shape, tuple(build.nodes))


def _block(build: Builder, name: str, block: nn.Module, value: str) -> list[str]:
    """The block's input and what each of its layers adds."""
    assert isinstance(block, PlainBlock)
    parts = [value]
    for number, layer in enumerate(block.layers, start=1):
        assert isinstance(layer, PlainLayer)
        prefix = f"{name}.layer{number}"
        value = build.concat(f"{prefix}.concat", parts)
        value = build.activation(f"{prefix}.norm", value, layer.norm)
        parts.append(build.conv(f"{prefix}.conv", value, layer.conv))
    return parts


def _down(build: Builder, name: str, transition: nn.Module, value: str) -> str:
    assert isinstance(transition, TransitionDown)
    value = build.activation(f"{name}.norm", value, transition.norm)
    value = build.conv(f"{name}.conv", value, transition.conv)
    return build.add(Pool(f"{name}.pool", value, "max", kernel=2, stride=2))
