"""From a trained PyTorch DenseNet to its deployed graph.

BN after a convolution folds into it (stem and bottleneck); BN after a concat folds into nothing,
since a concat is before it and a ReLU behind it, and stays as one affine a channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedense.densenet.network import Block, DenseNet, Layer, Transition
from edgedense.densenet.spec import INPUT, OUTPUT
from edgedense.graph.nodes import (
    Affine,
    Array,
    Concat,
    Conv,
    GlobalPool,
    Graph,
    Linear,
    Node,
    Pool,
    Relu,
)


def lower(network: DenseNet, input_size: tuple[int, int]) -> Graph:
    """The deployed graph of ``network`` in eval mode, for images of (height, width) pixels."""
    build = _Builder()
    value = _stem(build, network, INPUT)
    for name, module in network.features.named_children():
        if isinstance(module, Block):
            value = _block(build, name, module, value)
        elif isinstance(module, Transition):
            value = _transition(build, name, module, value)
    value = build.activation("norm5", value, _norm(network, "norm5"))
    value = build.add(GlobalPool("global_pool", value))
    head = network.classifier
    build.add(Linear(OUTPUT, value, _array(head.weight), _array(head.bias)))
    shape = (network.spec.in_channels, *input_size)
    return Graph(INPUT, shape, tuple(build.nodes))


@dataclass
class _Builder:
    nodes: list[Node] = field(default_factory=list)

    def add(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def conv(self, name: str, value: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> str:
        weight, bias = _fold(conv, norm)
        stride, padding = int(conv.stride[0]), int(conv.padding[0])
        return self.add(Conv(name, value, weight, bias, stride, padding))

    def activation(self, name: str, value: str, norm: nn.BatchNorm2d) -> str:
        scale, shift = affine_of(norm)
        value = self.add(Affine(name, value, _single(scale), _single(shift)))
        return self.add(Relu(f"{name}.relu", value))


def _stem(build: _Builder, network: DenseNet, value: str) -> str:
    conv0 = network.features.get_submodule("conv0")
    assert isinstance(conv0, nn.Conv2d)
    if network.spec.stem == "cifar":
        return build.conv("conv0", value, conv0, None)
    value = build.conv("conv0", value, conv0, _norm(network, "norm0"))
    value = build.add(Relu("conv0.relu", value))
    return build.add(Pool("pool0", value, "max", kernel=3, stride=2, padding=1))


def _norm(network: DenseNet, name: str) -> nn.BatchNorm2d:
    norm = network.features.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def _block(build: _Builder, name: str, block: Block, value: str) -> str:
    parts = [value]
    for layer_name, layer in block.items():
        assert isinstance(layer, Layer)
        prefix = f"{name}.{layer_name}"
        if len(parts) > 1:
            value = build.add(Concat(f"{prefix}.concat", tuple(parts)))
        parts.append(_layer(build, prefix, layer, value))
    return build.add(Concat(f"{name}.concat", tuple(parts)))


def _layer(build: _Builder, name: str, layer: Layer, value: str) -> str:
    value = build.activation(f"{name}.norm1", value, layer.norm1)
    value = build.conv(f"{name}.conv1", value, layer.conv1, layer.norm2)
    if layer.conv2 is None:
        return value
    value = build.add(Relu(f"{name}.conv1.relu", value))
    return build.conv(f"{name}.conv2", value, layer.conv2, None)


def _transition(build: _Builder, name: str, transition: Transition, value: str) -> str:
    value = build.activation(f"{name}.norm", value, transition.norm)
    value = build.conv(f"{name}.conv", value, transition.conv, None)
    kind = "avg" if isinstance(transition.pool, nn.AvgPool2d) else "max"
    return build.add(Pool(f"{name}.pool", value, kind, kernel=2, stride=2))


def affine_of(norm: nn.BatchNorm2d) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``scale`` and ``shift`` (channels,) of a BatchNorm in eval mode, in float64."""
    mean, var = _double(norm.running_mean), _double(norm.running_var)
    scale = _double(norm.weight) / np.sqrt(var + norm.eps)
    return scale, _double(norm.bias) - mean * scale


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Array, Array]:
    weight = _double(conv.weight)
    if norm is None:
        return _single(weight), np.zeros(len(weight), np.float32)
    scale, shift = affine_of(norm)
    return _single(weight * scale[:, None, None, None]), _single(shift)


def _double(tensor: object) -> NDArray[np.float64]:
    assert isinstance(tensor, Tensor)
    return tensor.detach().cpu().numpy().astype(np.float64)


def _single(array: NDArray[np.float64]) -> Array:
    return array.astype(np.float32)


def _array(tensor: object) -> Array:
    return _single(_double(tensor))
