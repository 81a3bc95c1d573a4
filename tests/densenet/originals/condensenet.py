"""ShichenLiu/CondenseNet, layers.py and models/: its DenseNet, CondenseNet, and that converted."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Sequential):
    def __init__(
        self, width: int, out: int, kernel: int, padding: int = 0, groups: int = 1
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, out, kernel, padding=padding, bias=False, groups=groups)


class LearnedGroupConv(nn.Module):
    """Its mask drops the weakest inputs of each group while it is trained."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, out, 1, bias=False)
        self.register_buffer("_count", torch.zeros(1))
        self.register_buffer("_stage", torch.zeros(1))
        self.register_buffer("_mask", torch.ones(self.conv.weight.size()))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.relu(self.norm(x)), self.conv.weight * self._mask)


class CondenseConv(nn.Module):
    """Gathers its inputs, and shuffles the outputs of its groups."""

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, out, 1, bias=False, groups=groups)
        self.register_buffer("index", torch.arange(width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.relu(self.norm(torch.index_select(x, 1, self.index))))
        n, channels, height, width = x.shape
        x = x.view(n, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).reshape(n, channels, height, width)


class CondenseLinear(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width // 2, out)
        self.register_buffer("index", torch.arange(width // 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.index_select(x, 1, self.index))


class DenseLayer(nn.Module):
    def __init__(self, kind: str, width: int, growth: int, groups: int) -> None:
        super().__init__()
        inner = 4 * growth
        if kind == "densenet":
            self.conv_1: nn.Module = Conv(width, inner, 1, groups=groups)
        elif kind == "condensenet":
            self.conv_1 = LearnedGroupConv(width, inner)
        else:
            self.conv_1 = CondenseConv(width, inner, groups)
        self.conv_2 = Conv(inner, growth, 3, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv_2(self.conv_1(x))], 1)


class Transition(nn.Module):
    """Only the ``densenet`` kind has a convolution here."""

    def __init__(self, kind: str, width: int, out: int, groups: int) -> None:
        super().__init__()
        if kind == "densenet":
            self.conv = Conv(width, out, 1, groups=groups)
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x) if hasattr(self, "conv") else x)


class CondenseNet(nn.Module):
    """``kind`` is "densenet", "condensenet" or "converted"; for 32x32 images."""

    def __init__(
        self,
        kind: str,
        stages: tuple[int, ...] = (2, 2, 1),
        growth: tuple[int, ...] = (4, 8, 8),
        groups: int = 4,
        num_classes: int = 6,
    ) -> None:
        super().__init__()
        width = 2 * growth[0]
        self.features = nn.Sequential()
        self.features.add_module("init_conv", nn.Conv2d(3, width, 3, padding=1, bias=False))
        for i, (layers, rate) in enumerate(zip(stages, growth, strict=True), start=1):
            block = nn.Sequential()
            for j in range(layers):
                layer = DenseLayer(kind, width + j * rate, rate, groups)
                block.add_module(f"denselayer_{j + 1}", layer)
            self.features.add_module(f"denseblock_{i}", block)
            width += layers * rate
            if i < len(stages):
                out = width // 2 if kind == "densenet" else width
                transition = Transition(kind, width, out, groups)
                self.features.add_module(f"transition_{i}", transition)
                width = out
        self.features.add_module("norm_last", nn.BatchNorm2d(width))
        self.features.add_module("relu_last", nn.ReLU(inplace=True))
        self.features.add_module("pool_last", nn.AvgPool2d(8))
        head = CondenseLinear if kind == "converted" else nn.Linear
        self.classifier = head(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), -1))


def save(network: nn.Module, path: Path) -> None:
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    content = {"epoch": 3, "model": "condensenet", "state_dict": state, "best_prec1": 94.1}
    torch.save(content, path)
