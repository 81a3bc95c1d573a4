"""Keras DenseNets as their code bases define them, in numpy (N, H, W, C), and their files.

Layers come into being when a network runs for the first time, in the order in which it runs them;
each remembers its weights, and what Keras would write into the model's description.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Layer:
    kind: str
    name: str
    config: dict[str, Any]
    inputs: list[str]
    weights: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Values:
    """What a layer gives, and the layer's name."""

    array: Array
    source: str


def window(x: Array, side: int, stride: int) -> Array:
    """(N, H', W', C, side, side): all places of a kernel without padding."""
    view = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    return view[:, ::stride, ::stride]


def same(x: Array, side: int, stride: int, fill: float) -> Array:
    """TensorFlow's SAME: as many outputs as strides fit, the odd pixel at the bottom and right."""
    pads = [(0, 0)]
    for size in x.shape[1:3]:
        outputs = (size + stride - 1) // stride
        total = max((outputs - 1) * stride + side - size, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)], constant_values=fill)


class Keras:
    """The layers of Keras, with automatic names where none is given."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.layers: dict[str, Layer] = {}
        self.counts: Counter[str] = Counter()

    def layer(self, kind: str, name: str | None, inputs: Sequence[Values], **config: Any) -> Layer:
        if name is None:
            snake = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization"}
            base = snake.get(kind, kind.lower())
            self.counts[base] += 1
            name = f"{base}_{self.counts[base]}"
        sources = [value.source for value in inputs]
        new = Layer(kind, name, {"name": name, **config}, sources)
        return self.layers.setdefault(name, new)

    def weight(
        self, layer: Layer, name: str, shape: tuple[int, ...], low: float, high: float
    ) -> Array:
        if name not in layer.weights:
            value = self.random.uniform(low, high, shape).astype(np.float32)
            layer.weights[name] = value.astype(np.float64)
        return layer.weights[name]

    def input(self, x: Array) -> Values:
        return Values(x, self.layer("InputLayer", "input_1", []).name)

    def conv(
        self,
        x: Values,
        out: int,
        side: int,
        name: str | None,
        stride: int = 1,
        padding: str = "valid",
        use_bias: bool = False,
    ) -> Values:
        config = {"padding": padding, "strides": [stride, stride], "activation": "linear"}
        layer = self.layer("Conv2D", name, [x], **config)
        kernel = self.weight(layer, "kernel", (side, side, x.array.shape[3], out), -0.3, 0.3)
        padded = same(x.array, side, stride, 0) if padding == "same" else x.array
        y = np.einsum("nhwcij,ijco->nhwo", window(padded, side, stride), kernel, optimize=True)
        if use_bias:
            y = y + self.weight(layer, "bias", (out,), -1, 1)
        return Values(y, layer.name)

    def norm(self, x: Values, name: str | None, eps: float) -> Values:
        layer = self.layer("BatchNormalization", name, [x], epsilon=eps)
        width = x.array.shape[3:]
        gamma = self.weight(layer, "gamma", width, -0.03, 0.06)
        beta = self.weight(layer, "beta", width, -0.5, 1)
        mean = self.weight(layer, "moving_mean", width, -1, 1)
        # so small that a tenth of eps shows in the logits
        variance = self.weight(layer, "moving_variance", width, 5e-4, 2e-3)
        y = gamma * (x.array - mean) / np.sqrt(variance + eps) + beta
        return Values(y, layer.name)

    def scale(self, x: Values, name: str) -> Values:
        layer = self.layer("Scale", name, [x])
        gamma = self.weight(layer, "gamma", x.array.shape[3:], 0.5, 1.5)
        beta = self.weight(layer, "beta", x.array.shape[3:], -1, 1)
        return Values(x.array * gamma + beta, layer.name)

    def relu(self, x: Values, name: str | None = None) -> Values:
        layer = self.layer("Activation", name, [x], activation="relu")
        return Values(np.maximum(x.array, 0), layer.name)

    def zero_pad(self, x: Values, pixels: int) -> Values:
        layer = self.layer("ZeroPadding2D", None, [x])
        pad = (pixels, pixels)
        return Values(np.pad(x.array, [(0, 0), pad, pad, (0, 0)]), layer.name)

    def max_pool(self, x: Values, padding: str = "valid") -> Values:
        layer = self.layer("MaxPooling2D", None, [x], padding=padding)
        padded = same(x.array, 3, 2, -np.inf) if padding == "same" else x.array
        return Values(window(padded, 3, 2).max(axis=(4, 5)), layer.name)

    def average_pool(self, x: Values) -> Values:
        layer = self.layer("AveragePooling2D", None, [x])
        return Values(window(x.array, 2, 2).mean(axis=(4, 5)), layer.name)

    def concat(self, *parts: Values) -> Values:
        layer = self.layer("Concatenate", None, parts, axis=-1)
        return Values(np.concatenate([part.array for part in parts], axis=3), layer.name)

    def dense(self, x: Values, classes: int, name: str | None, activation: str) -> Array:
        """The logits: what the activation gets."""
        pooled = x.array.mean(axis=(1, 2))
        layer = self.layer("Dense", name, [x], activation=activation)
        kernel = self.weight(layer, "kernel", (pooled.shape[1], classes), -1, 1)
        return pooled @ kernel + self.weight(layer, "bias", (classes,), -1, 1)


class Original(Keras):
    """A network of one code base; calling it gives the logits of images (N, H, W, C)."""

    blocks: tuple[int, ...] = (2, 3, 1)
    growth, classes = 4, 5

    def __call__(self, x: Array) -> Array:
        self.counts.clear()
        return self.run(self.input(x))

    def run(self, x: Values) -> Array:
        raise NotImplementedError


class Applications(Original):
    """keras_applications/densenet.py."""

    slash, head = "/", "fc1000"

    def run(self, x: Values) -> Array:
        eps = 1.001e-5
        x = self.conv(self.zero_pad(x, 3), 8, 7, f"conv1{self.slash}conv", stride=2)
        x = self.relu(self.norm(x, f"conv1{self.slash}bn", eps), f"conv1{self.slash}relu")
        x = self.max_pool(self.zero_pad(x, 1))
        for stage, layers in enumerate(self.blocks, start=2):
            for i in range(layers):
                name = f"conv{stage}_block{i + 1}"
                y = self.relu(self.norm(x, f"{name}_0_bn", eps), f"{name}_0_relu")
                y = self.conv(y, 4 * self.growth, 1, f"{name}_1_conv")
                y = self.relu(self.norm(y, f"{name}_1_bn", eps), f"{name}_1_relu")
                y = self.conv(y, self.growth, 3, f"{name}_2_conv", padding="same")
                x = self.concat(x, y)
            if stage < len(self.blocks) + 1:
                x = self.relu(self.norm(x, f"pool{stage}_bn", eps), f"pool{stage}_relu")
                x = self.conv(x, x.array.shape[3] // 2, 1, f"pool{stage}_conv")
                x = self.average_pool(x)
        x = self.relu(self.norm(x, "bn", eps), "relu")
        return self.dense(x, self.classes, self.head, "softmax")


class Flyyufelix(Original):
    """flyyufelix/DenseNet-Keras, densenet121.py: a Scale layer behind every BN."""

    def affine(self, x: Values, name: str) -> Values:
        return self.relu(self.scale(self.norm(x, f"{name}_bn", 1.1e-5), f"{name}_scale"))

    def run(self, x: Values) -> Array:
        x = self.conv(self.zero_pad(x, 3), 8, 7, "conv1", stride=2)
        x = self.max_pool(self.zero_pad(self.affine(x, "conv1"), 1))
        for stage, layers in enumerate(self.blocks, start=2):
            for i in range(layers):
                name = f"conv{stage}_{i + 1}"
                y = self.conv(self.affine(x, f"{name}_x1"), 4 * self.growth, 1, f"{name}_x1")
                y = self.zero_pad(self.affine(y, f"{name}_x2"), 1)
                x = self.concat(x, self.conv(y, self.growth, 3, f"{name}_x2"))
            x = self.affine(x, f"conv{stage}_blk")
            if stage < len(self.blocks) + 1:
                x = self.average_pool(self.conv(x, x.array.shape[3] // 2, 1, f"conv{stage}_blk"))
        return self.dense(x, self.classes, "fc6", "softmax")


class Titu(Original):
    """titu1994/DenseNet, densenet.py: automatic names, "same" padding everywhere."""

    wide, bottleneck, compression, eps = True, True, 0.5, 1.1e-5
    reversed_concat, use_bias = False, False

    def run(self, x: Values) -> Array:
        side, stride = (7, 2) if self.wide else (3, 1)
        x = self.conv(x, 8, side, None, stride, "same", self.use_bias)
        if self.wide:
            x = self.max_pool(self.relu(self.norm(x, None, self.eps)), "same")
        for block, layers in enumerate(self.blocks):
            for _ in range(layers):
                x = self.dense_layer(x)
            if block < len(self.blocks) - 1:
                x = self.relu(self.norm(x, None, self.eps))
                width = int(x.array.shape[3] * self.compression)
                x = self.average_pool(self.conv(x, width, 1, None, 1, "same", self.use_bias))
        x = self.relu(self.norm(x, None, self.eps))
        return self.dense(x, self.classes, None, "softmax")

    def dense_layer(self, x: Values) -> Values:
        y = self.relu(self.norm(x, None, self.eps))
        if self.bottleneck:
            y = self.conv(y, 4 * self.growth, 1, None, 1, "same", self.use_bias)
            y = self.relu(self.norm(y, None, self.eps))
        y = self.conv(y, self.growth, 3, None, 1, "same", self.use_bias)
        return self.concat(y, x) if self.reversed_concat else self.concat(x, y)


def float32(layer: Layer) -> list[tuple[str, NDArray[np.float32]]]:
    return [(name, value.astype(np.float32)) for name, value in layer.weights.items()]


def description(net: Keras) -> str:
    """model_config of Keras 2."""
    layers = [
        {
            "class_name": layer.kind,
            "name": layer.name,
            "config": layer.config,
            "inbound_nodes": [[[source, 0, 0, {}] for source in layer.inputs]],
        }
        for layer in net.layers.values()
    ]
    return json.dumps({"class_name": "Model", "config": {"name": "densenet", "layers": layers}})


def write_legacy(root: Any, net: Keras) -> None:
    """As save_weights_to_hdf5_group of Keras 2: nested groups, names in attributes, as bytes."""
    root.attrs["layer_names"] = [layer.name.encode() for layer in net.layers.values()]
    root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.2.4"
    for layer in net.layers.values():
        group = root.create_group(layer.name)
        group.attrs["weight_names"] = [f"{layer.name}/{n}:0".encode() for n in layer.weights]
        for name, value in float32(layer):
            group.create_dataset(f"{layer.name}/{name}:0", data=value)


def save_weights(net: Keras, path: Path) -> Path:
    with h5py.File(path, "w") as file:
        write_legacy(file, net)
    return path


def save_model(net: Keras, path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = description(net).encode()
        write_legacy(file.create_group("model_weights"), net)
        file.create_group("optimizer_weights").attrs["weight_names"] = [b"SGD/iter:0"]
    return path


def save_keras3(net: Keras, path: Path) -> Path:
    """``model.save_weights("….weights.h5")`` of Keras 3: groups called after classes."""
    counts: Counter[str] = Counter()
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        for layer in net.layers.values():
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", layer.kind).lower()
            counts[name] += 1
            number = f"_{counts[name] - 1}" if counts[name] > 1 else ""
            group = file.create_group(f"layers/{name}{number}/vars")
            for place, (_, value) in enumerate(float32(layer)):
                group.create_dataset(str(place), data=value)
    return path


def save_archive(net: Keras, path: Path) -> Path:
    """``model.save("….keras")`` of Keras 3."""
    weights = save_keras3(net, path.with_suffix(".weights.h5"))
    layers = []
    for layer in net.layers.values():
        tensors = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
            for source in layer.inputs
        ]
        args = tensors if len(tensors) < 2 else [tensors]
        node = {"args": args, "kwargs": {}}
        layers.append(
            {
                "module": "keras.layers",
                "class_name": layer.kind,
                "config": layer.config,
                "name": layer.name,
                "inbound_nodes": [node],
            }
        )
    text = json.dumps({"class_name": "Functional", "config": {"name": "m", "layers": layers}})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.3.3"}')
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", weights.read_bytes())
    weights.unlink()
    return path


def save_npz(net: Keras, path: Path, suffix: str = ":0") -> Path:
    arrays = {
        f"{layer.name}/{name}{suffix}": value
        for layer in net.layers.values()
        for name, value in float32(layer)
    }
    np.savez(path, **arrays)
    return path


def as_bytes(net: Keras) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_legacy(file, net)
    return buffer.getvalue()
