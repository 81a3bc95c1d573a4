"""From a trained PyTorch DenseNet to its deployed graph.

BN after a convolution folds into it (stem and bottleneck); BN after a concat folds into nothing,
since a concat is before it and a ReLU behind it, and stays as one affine a channel.
"""

from __future__ import annotations

from torch import nn

from edgedense.densenet.family import Network
from edgedense.densenet.fc_network import FCDenseNet
from edgedense.densenet.network import Block, DenseNet, Layer, Transition
from edgedense.densenet.spec import INPUT, OUTPUT
from edgedense.densenet.stem import same_padding
from edgedense.graph.build import Builder
from edgedense.graph.lower_fc import lower_fc
from edgedense.graph.nodes import GlobalPool, Graph, Pad, Pool, Relu


def lower(network: Network, input_size: tuple[int, int]) -> Graph:
    """The deployed graph of ``network`` in eval mode, for images of (height, width) pixels."""
    if isinstance(network, FCDenseNet):
        return lower_fc(network, input_size)
    build = Builder()
    value = _stem(build, network, input_size)
    for name, module in network.features.named_children():
        if isinstance(module, Block):
            value = _block(build, name, module, value)
        elif isinstance(module, Transition):
            value = _transition(build, name, module, value)
    value = build.activation("norm5", value, _norm(network, "norm5"))
    value = build.add(GlobalPool("global_pool", value))
    build.linear(OUTPUT, value, network.classifier)
    shape = (network.spec.in_channels, *input_size)
    return Graph(INPUT, shape, tuple(build.nodes))


def _stem(build: Builder, network: DenseNet, size: tuple[int, int]) -> str:
    spec = network.spec
    if spec.stem == "cifar":
        return build.conv("conv0", INPUT, _conv(network, "conv0"))
    same = spec.padding == "same"
    value = build.add(_same(INPUT, size, kernel=7)) if same else INPUT
    for number in range(len(spec.stem_hidden) + 1):
        name = f"conv{number}"
        value = build.conv(name, value, _conv(network, name), _norm(network, f"norm{number}"))
        value = build.add(Relu(f"{name}.relu", value))
    if spec.stem == "deep-blur":
        value = build.add(Pool("pool0", value, "max", kernel=3, stride=1, padding=1))
        value = build.add(Pad("blur0.pad", value, (1, 1, 1, 1), "reflect"))
        value = build.add(Pool("blur0.first", value, "avg", kernel=2, stride=1))
        return build.add(Pool("blur0", value, "avg", kernel=2, stride=2))
    if same:
        halved = -(-size[0] // 2), -(-size[1] // 2)
        value = build.add(_same(value, halved, kernel=3))
    padding = 0 if same else 1
    return build.add(Pool("pool0", value, "max", kernel=3, stride=2, padding=padding))


def _same(value: str, size: tuple[int, int], kernel: int) -> Pad:
    """TensorFlow's padding of a window of stride 2; zeros change no maximum behind a ReLU."""
    top, bottom = same_padding(size[0], kernel, 2)
    left, right = same_padding(size[1], kernel, 2)
    return Pad(f"{value}.pad", value, (top, left, bottom, right), "constant")


def _conv(network: DenseNet, name: str) -> nn.Conv2d:
    conv = network.features.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    return conv


def _norm(network: DenseNet, name: str) -> nn.BatchNorm2d:
    norm = network.features.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def _block(build: Builder, name: str, block: Block, value: str) -> str:
    parts = [value]
    for layer_name, layer in block.items():
        assert isinstance(layer, Layer)
        prefix = f"{name}.{layer_name}"
        value = build.concat(f"{prefix}.concat", parts)
        parts.append(_layer(build, prefix, layer, value))
    return build.concat(f"{name}.concat", parts)


def _layer(build: Builder, name: str, layer: Layer, value: str) -> str:
    value = build.activation(f"{name}.norm1", value, layer.norm1)
    value = build.conv(f"{name}.conv1", value, layer.conv1, layer.norm2)
    if layer.conv2 is None:
        return value
    value = build.add(Relu(f"{name}.conv1.relu", value))
    return build.conv(f"{name}.conv2", value, layer.conv2)


def _transition(build: Builder, name: str, transition: Transition, value: str) -> str:
    if isinstance(transition.relu, nn.ReLU):
        value = build.activation(f"{name}.norm", value, transition.norm)
        value = build.conv(f"{name}.conv", value, transition.conv)
    else:
        value = build.conv_behind(f"{name}.conv", value, transition.conv, transition.norm)
    kind = "avg" if isinstance(transition.pool, nn.AvgPool2d) else "max"
    return build.add(Pool(f"{name}.pool", value, kind, kernel=2, stride=2))
