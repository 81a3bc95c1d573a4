"""Collecting the nodes of a graph from trained PyTorch modules."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedense.graph.nodes import (
    Affine,
    Array,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    Node,
    Relu,
)

Double = NDArray[np.float64]


@dataclass
class Builder:
    """The nodes so far. Each method adds one or two and gives the name of what comes out."""

    nodes: list[Node] = field(default_factory=list)

    def add(self, node: Node) -> str:
        """One node."""
        self.nodes.append(node)
        return node.name

    def concat(self, name: str, parts: list[str]) -> str:
        """A concat, or the one part itself."""
        return self.add(Concat(name, tuple(parts))) if len(parts) > 1 else parts[0]

    def conv(
        self, name: str, value: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None
    ) -> str:
        """A convolution with the BN behind it folded into it."""
        weight, bias = _parameters(conv)
        if norm is not None:
            scale, shift = affine_of(norm)
            weight, bias = weight * scale[:, None, None, None], bias * scale + shift
        stride, padding = int(conv.stride[0]), int(conv.padding[0])
        return self.add(Conv(name, value, _single(weight), _single(bias), stride, padding))

    def conv_behind(self, name: str, value: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
        """A 1x1 convolution with the BN in front of it folded into it: no ReLU is between them."""
        weight, bias = _parameters(conv)
        scale, shift = affine_of(norm)
        bias = bias + weight[:, :, 0, 0] @ shift
        weight = weight * scale[:, None, None]
        return self.add(Conv(name, value, _single(weight), _single(bias)))

    def conv_transpose(
        self, name: str, value: str, conv: nn.ConvTranspose2d, trim: tuple[int, int]
    ) -> str:
        """A transposed convolution without padding."""
        weight, bias = _parameters(conv)
        stride = int(conv.stride[0])
        return self.add(ConvTranspose(name, value, _single(weight), _single(bias), stride, trim))

    def linear(self, name: str, value: str, linear: nn.Linear) -> str:
        """A matrix product."""
        weight, bias = _parameters(linear)
        return self.add(Linear(name, value, _single(weight), _single(bias)))

    def activation(self, name: str, value: str, norm: nn.BatchNorm2d) -> str:
        """BN that folds into nothing, and its ReLU."""
        scale, shift = affine_of(norm)
        value = self.add(Affine(name, value, _single(scale), _single(shift)))
        return self.add(Relu(f"{name}.relu", value))


def affine_of(norm: nn.BatchNorm2d) -> tuple[Double, Double]:
    """``scale`` and ``shift`` (channels,) of a BatchNorm in eval mode, in float64."""
    mean, var = _double(norm.running_mean), _double(norm.running_var)
    scale = _double(norm.weight) / np.sqrt(var + norm.eps)
    return scale, _double(norm.bias) - mean * scale


def _parameters(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> tuple[Double, Double]:
    weight = _double(module.weight)
    if module.bias is not None:
        return weight, _double(module.bias)
    return weight, np.zeros(len(weight))


def _double(tensor: object) -> Double:
    if not isinstance(tensor, Tensor):
        raise TypeError("a trained DenseNet's modules have all their tensors")
    return tensor.detach().cpu().numpy().astype(np.float64)


def _single(array: Double) -> Array:
    return array.astype(np.float32)
