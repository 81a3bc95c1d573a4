"""The network against the paper's description, written again without modules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import images, logits, relative_error, sizes, specs, tiny, tiramisus, trained
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgedense.densenet.family import initialised
from edgedense.densenet.network import DenseNet

Doubles = NDArray[np.float64]


class Paper:
    """A DenseNet in NumPy, float64, from nothing but a state dict and what shapes cannot tell."""

    def __init__(self, network: DenseNet) -> None:
        state = network.state_dict()
        self.state = {key: value.numpy().astype(np.float64) for key, value in state.items()}
        self.spec = network.spec

    def __call__(self, x: Doubles) -> Doubles:
        x = self.stem(x)
        block = 1
        while f"features.denseblock{block}.denselayer1.conv1.weight" in self.state:
            if block > 1:
                name = f"features.transition{block - 1}"
                act = self.bn_relu if self.spec.transition_relu else self.bn
                x = windows(self.conv(act(x, f"{name}.norm"), f"{name}.conv"), 2, 2)
                x = x.mean((-1, -2)) if self.spec.pool == "avg" else x.max((-1, -2))
            x = self.block(x, f"features.denseblock{block}")
            block += 1
        x = self.bn_relu(x, "features.norm5").mean((2, 3))
        return x @ self.state["classifier.weight"].T + self.state["classifier.bias"]

    def stem(self, x: Doubles) -> Doubles:
        if self.spec.stem == "cifar":
            return self.conv(x, "features.conv0")
        for number in range(len(self.spec.stem_hidden) + 1):
            stride = 2 if number == 0 else 1
            same = self.spec.padding == "same"
            x = self.conv(x, f"features.conv{number}", stride, same=same)
            x = self.bn_relu(x, f"features.norm{number}")
        if self.spec.padding == "same":
            return windows(same_padded(x, 3, 2, -math.inf), 3, 2).max((-1, -2))
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-math.inf)
        if self.spec.stem != "deep-blur":
            return windows(x, 3, 2).max((-1, -2))
        x = np.pad(windows(x, 3, 1).max((-1, -2)), ((0, 0), (0, 0), (1, 1), (1, 1)), "reflect")
        binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
        return np.einsum("nchwij,ij->nchw", windows(x, 3, 2), binomial)

    def block(self, x: Doubles, name: str) -> Doubles:
        layer = 1
        while f"{name}.denselayer{layer}.conv1.weight" in self.state:
            y = x
            for part in (1, 2):
                if f"{name}.denselayer{layer}.conv{part}.weight" in self.state:
                    y = self.bn_relu(y, f"{name}.denselayer{layer}.norm{part}")
                    y = self.conv(y, f"{name}.denselayer{layer}.conv{part}")
            x = np.concatenate([x, y], axis=1)
            layer += 1
        return x

    def bn_relu(self, x: Doubles, name: str) -> Doubles:
        return np.maximum(self.bn(x, name), 0)

    def bn(self, x: Doubles, name: str) -> Doubles:
        gain, shift, mean, var = (
            self.state[f"{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + self.spec.eps) * gain + shift

    def conv(self, x: Doubles, name: str, stride: int = 1, *, same: bool = False) -> Doubles:
        weight = self.state[f"{name}.weight"]
        kernel = weight.shape[2]
        pad = kernel // 2
        if same:
            x = same_padded(x, kernel, stride, 0.0)
        else:
            x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        y = np.einsum("nchwij,ocij->nohw", windows(x, kernel, stride), weight)
        return y + self.state.get(f"{name}.bias", np.zeros(len(weight)))[:, None, None]


def same_padded(x: Doubles, kernel: int, stride: int, value: float) -> Doubles:
    """TensorFlow's "same": what is odd goes to the end."""
    borders = []
    for side in x.shape[2:]:
        whole = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        borders.append((whole // 2, whole - whole // 2))
    return np.pad(x, ((0, 0), (0, 0), *borders), constant_values=value)


class Tiramisu(Paper):
    """FC-DenseNet from arXiv 1611.09326, section 3, with each concat written out."""

    def __call__(self, x: Doubles) -> Doubles:
        x, skips = self.conv(x, "firstconv"), []
        depth = len(self.spec.down)
        for d in range(depth):
            skips.append(self.layers(x, f"denseBlocksDown.{d}"))
            x = self.bn_relu(skips[-1], f"transDownBlocks.{d}.norm")
            x = windows(self.conv(x, f"transDownBlocks.{d}.conv"), 2, 2).max((-1, -2))
        new = self.layers(x, "bottleneck.bottleneck")[:, x.shape[1] :]
        for u in range(depth):
            skip = skips.pop()
            up = self.transposed(new, f"transUpBlocks.{u}.convTrans")
            top, left = ((a - b) // 2 for a, b in zip(up.shape[2:], skip.shape[2:], strict=True))
            up = up[:, :, top : top + skip.shape[2], left : left + skip.shape[3]]
            x = np.concatenate([up, skip], 1)
            whole = self.layers(x, f"denseBlocksUp.{u}")
            new = whole[:, x.shape[1] :]
        return self.conv(whole, "finalConv")

    def layers(self, x: Doubles, name: str) -> Doubles:
        layer = 0
        while f"{name}.layers.{layer}.conv.weight" in self.state:
            y = self.bn_relu(x, f"{name}.layers.{layer}.norm")
            x = np.concatenate([x, self.conv(y, f"{name}.layers.{layer}.conv")], 1)
            layer += 1
        return x

    def transposed(self, x: Doubles, name: str) -> Doubles:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        (n, _, h, w), (_, out, k, _) = x.shape, weight.shape
        y = np.zeros((n, out, 2 * h - 2 + k, 2 * w - 2 + k))
        for i in range(k):
            for j in range(k):
                part = np.einsum("nchw,co->nohw", x, weight[:, :, i, j])
                y[:, :, i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2] += part
        return y + bias[:, None, None]


def windows(x: Doubles, kernel: int, stride: int) -> Doubles:
    return sliding_window_view(x, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_logits_are_those_of_the_paper(data: st.DataObject) -> None:
    spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    network = trained(spec, seed=data.draw(st.integers(0, 99)))
    x = images(spec, size, count=2)
    paper = Tiramisu if spec.task == "segmentation" else Paper
    wanted = paper(network)(x.astype(np.float64))
    assert relative_error(wanted, logits(network, x)) < 1e-5


def test_dropout_acts_in_training_only() -> None:
    spec = tiny(dropout=0.5)
    network, x = trained(spec), torch.from_numpy(images(spec))
    torch.manual_seed(0)
    assert torch.equal(network(x), network(x))
    for module in network.modules():
        module.training = not isinstance(module, torch.nn.BatchNorm2d)
    assert not torch.equal(network(x), network(x))
    without = trained(tiny(dropout=0.0)).train()
    assert torch.equal(without(x), without(x))


def test_dropout_follows_the_last_convolution_of_each_layer() -> None:
    network, x = trained(tiny((1,), 8, dropout=0.5)), torch.from_numpy(images(tiny((1,), 8)))
    layer = network.features.denseblock1.denselayer1
    inner = torch.ones(1)
    layer.conv1.register_forward_hook(lambda _, __, out: inner.set_(out.detach()))
    layer.train()
    new = layer(network.features.conv0(x))
    assert (inner != 0).all()
    assert 0.3 < float((new == 0).float().mean()) < 0.7


def test_initial_weights_are_he_normal_and_come_from_the_seed() -> None:
    spec = tiny((4, 4), 24)
    one, same, other = initialised(spec, 1), initialised(spec, 1), initialised(spec, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    weight = one.features.denseblock2.denselayer4.conv2.weight.detach()
    assert not torch.equal(weight, other.features.denseblock2.denselayer4.conv2.weight)
    fan_out = weight.shape[0] * 9  # as the authors' code has it
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert not one.classifier.bias.any()


def test_making_a_network_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    initialised(tiny(), 1)
    assert torch.equal(torch.rand(4), wanted)
