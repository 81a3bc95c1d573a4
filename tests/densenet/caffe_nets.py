"""Caffe DenseNets as their code bases define them, and their files, written byte by byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class Layer:
    kind: str
    name: str
    bottoms: list[str]
    top: str
    blobs: list[Tensor] = field(default_factory=list)
    eps: float | None = None


@dataclass(frozen=True)
class Blob:
    array: Tensor
    top: str


class Caffe:
    """Caffe's layers in double precision; they come into being when a network first runs."""

    def __init__(self, seed: int = 0) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.layers: dict[str, Layer] = {}

    def layer(self, kind: str, name: str, bottoms: list[Blob], top: str | None = None) -> Layer:
        new = Layer(kind, name, [blob.top for blob in bottoms], top or name)
        return self.layers.setdefault(name, new)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        values = torch.rand(shape, generator=self.random) * (high - low) + low
        return values.double()

    def conv(
        self, x: Blob, name: str, out: int, side: int, stride: int = 1, bias: bool = False
    ) -> Blob:
        layer = self.layer("Convolution", name, [x])
        if not layer.blobs:
            layer.blobs = [self.uniform(-0.3, 0.3, out, x.array.shape[1], side, side)]
            layer.blobs += [self.uniform(-1, 1, out)] if bias else []
        y = F.conv2d(x.array, *layer.blobs, stride=stride, padding=side // 2)
        return Blob(y, layer.top)

    def norm(self, x: Blob, name: str, eps: float = 1e-5) -> Blob:
        """BatchNorm: two sums and their weight. The variance is so small that eps counts."""
        width = x.array.shape[1]
        layer = self.layer("BatchNorm", name, [x])
        layer.eps = eps
        if not layer.blobs:
            factor = torch.tensor([self.random.initial_seed() + 999.5], dtype=torch.float64)
            mean, variance = self.uniform(-1, 1, width), self.uniform(5e-4, 2e-3, width)
            layer.blobs = [(mean * factor).float().double(), variance * factor, factor]
            layer.blobs[1] = layer.blobs[1].float().double()
        mean, variance = (blob / layer.blobs[2] for blob in layer.blobs[:2])
        axes = (1, -1, 1, 1)
        y = (x.array - mean.view(axes)) / torch.sqrt(variance.view(axes) + eps)
        return Blob(y, layer.top)

    def scale(self, x: Blob, name: str) -> Blob:
        width = x.array.shape[1]
        layer = self.layer("Scale", name, [x], x.top)
        if not layer.blobs:
            layer.blobs = [self.uniform(-0.03, 0.06, width), self.uniform(-0.5, 1, width)]
        gamma, beta = (blob.view(1, -1, 1, 1) for blob in layer.blobs)
        return Blob(x.array * gamma + beta, layer.top)

    def relu(self, x: Blob, name: str) -> Blob:
        return Blob(x.array.clamp(min=0), self.layer("ReLU", name, [x], x.top).top)

    def max_pool(self, x: Blob, name: str) -> Blob:
        y = F.max_pool2d(x.array, 3, 2, padding=1)
        return Blob(y, self.layer("Pooling", name, [x]).top)

    def average_pool(self, x: Blob, name: str, whole: bool = False) -> Blob:
        y = x.array.mean((2, 3), keepdim=True) if whole else F.avg_pool2d(x.array, 2)
        return Blob(y, self.layer("Pooling", name, [x]).top)

    def concat(self, name: str, *parts: Blob) -> Blob:
        layer = self.layer("Concat", name, list(parts))
        return Blob(torch.cat([part.array for part in parts], 1), layer.top)

    def inner(self, x: Blob, name: str, out: int) -> Blob:
        flat = x.array.flatten(1)
        layer = self.layer("InnerProduct", name, [x])
        if not layer.blobs:
            layer.blobs = [self.uniform(-1, 1, out, flat.shape[1]), self.uniform(-1, 1, out)]
        return Blob(F.linear(flat, *layer.blobs), layer.top)


class Shicai(Caffe):
    """shicai/DenseNet-Caffe, DenseNet_121.prototxt: it ends in fc6, without a Softmax."""

    blocks, growth, classes, eps = (2, 3, 1), 4, 5, 1e-5
    reversed_concat = False

    def affine(self, x: Blob, name: str, relu: str) -> Blob:
        return self.relu(self.scale(self.norm(x, f"{name}/bn", self.eps), f"{name}/scale"), relu)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.conv(Blob(x, "data"), "conv1", 8, 7, 2)
        y = self.max_pool(self.affine(y, "conv1", "relu1"), "pool1")
        for stage, layers in enumerate(self.blocks, start=2):
            for i in range(1, layers + 1):
                y = self.dense_layer(y, f"{stage}_{i}")
            y = self.affine(y, f"conv{stage}_blk", f"relu{stage}_blk")
            if stage < len(self.blocks) + 1:
                y = self.conv(y, f"conv{stage}_blk", y.array.shape[1] // 2, 1)
                y = self.average_pool(y, f"pool{stage}")
        y = self.average_pool(y, "pool5", whole=True)
        return self.conv(y, "fc6", self.classes, 1, bias=True).array.flatten(1)

    def dense_layer(self, x: Blob, place: str) -> Blob:
        y = self.affine(x, f"conv{place}/x1", f"relu{place}/x1")
        y = self.conv(y, f"conv{place}/x1", 4 * self.growth, 1)
        y = self.affine(y, f"conv{place}/x2", f"relu{place}/x2")
        y = self.conv(y, f"conv{place}/x2", self.growth, 3)
        parts = (y, x) if self.reversed_concat else (x, y)
        return self.concat(f"concat_{place}", *parts)


class Liu(Caffe):
    """liuzhuang13/DenseNetCaffe, make_densenet.py: plain layers, no compression, numbered names."""

    blocks, growth, classes = (2, 2, 2), 12, 5
    affines = convs = concats = 0

    def affine(self, x: Blob) -> Blob:
        self.affines += 1
        n = self.affines
        return self.relu(self.scale(self.norm(x, f"BatchNorm{n}"), f"Scale{n}"), f"ReLU{n}")

    def step(self, x: Blob, out: int, side: int) -> Blob:
        self.convs += 1
        return self.conv(x, f"Convolution{self.convs}", out, side)

    def __call__(self, x: Tensor) -> Tensor:
        self.affines = self.convs = self.concats = 0
        y = self.step(Blob(x, "Data1"), 16, 3)
        for block, layers in enumerate(self.blocks, start=1):
            for _ in range(layers):
                new = self.step(self.affine(y), self.growth, 3)
                self.concats += 1
                y = self.concat(f"Concat{self.concats}", y, new)
            if block < len(self.blocks):
                y = self.step(self.affine(y), y.array.shape[1], 1)
                y = self.average_pool(y, f"Pooling{block}")
        y = self.average_pool(self.affine(y), "Pooling3", whole=True)
        y = self.inner(y, "InnerProduct1", self.classes)
        self.layer("SoftmaxWithLoss", "SoftmaxWithLoss1", [y])
        return y.array


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def item(number: int, value: Any) -> bytes:
    """One field of protobuf's wire format: bytes and text with their length, or an integer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(values: Tensor, old: bool = False, double: bool = False) -> bytes:
    data = np.ascontiguousarray(values.numpy(), "<f8" if double else "<f4").tobytes()
    if old:
        sides = [*[1] * (4 - values.ndim), *values.shape]
        shape = b"".join(item(k, side) for k, side in enumerate(sides, start=1))
    else:
        shape = item(7, item(1, b"".join(map(varint, values.shape))))
    return item(8 if double else 5, data) + shape


def layer_bytes(layer: Layer, **form: bool) -> bytes:
    parts = [item(1, layer.name), item(2, layer.kind)]
    parts += [item(3, bottom) for bottom in layer.bottoms] + [item(4, layer.top)]
    # fields that weights do not need: param, loss_weight (a fixed32), phase
    parts += [item(6, item(3, 1)), varint(5 << 3 | 5) + struct.pack("<f", 1.0), item(10, 1)]
    parts += [item(7, blob(values, **form)) for values in layer.blobs]
    if layer.eps is not None:
        parts.append(item(139, varint(3 << 3 | 5) + struct.pack("<f", layer.eps)))
    return b"".join(parts)


def caffemodel(net: Caffe, **form: bool) -> bytes:
    layers = b"".join(item(100, layer_bytes(layer, **form)) for layer in net.layers.values())
    return item(1, "DENSENET") + item(3, "data") + layers


def v1_layer_bytes(name: str, kind: int, *blobs: Tensor) -> bytes:
    parts = [item(4, name), item(5, kind), *(item(6, blob(values, old=True)) for values in blobs)]
    return item(2, b"".join(parts))
