"""weiaicunzai/pytorch-cifar100, models/densenet.py: no ReLU in its transitions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        inner = 4 * growth
        self.bottle_neck = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, inner, kernel_size=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, growth, kernel_size=3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.bottle_neck(x)], 1)


class Transition(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.down_sample = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Conv2d(width, out, 1, bias=False),
            nn.AvgPool2d(2, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.down_sample(x)


class DenseNet(nn.Module):
    def __init__(
        self,
        nblocks: tuple[int, ...] = (2, 1, 3, 2),
        growth_rate: int = 3,
        reduction: float = 0.5,
        num_class: int = 10,
    ) -> None:
        super().__init__()
        width = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        self.features = nn.Sequential()
        last = len(nblocks) - 1
        for i in range(last):
            block = _dense(width, nblocks[i], growth_rate)
            self.features.add_module(f"dense_block_layer_{i}", block)
            width += growth_rate * nblocks[i]
            out = int(reduction * width)
            self.features.add_module(f"transition_layer_{i}", Transition(width, out))
            width = out
        self.features.add_module(f"dense_block{last}", _dense(width, nblocks[last], growth_rate))
        width += growth_rate * nblocks[last]
        self.features.add_module("bn", nn.BatchNorm2d(width))
        self.features.add_module("relu", nn.ReLU(inplace=True))
        # its code writes AvgPool2d(4), which for its 32x32 images and 4 blocks is all of the map
        self.classifier = nn.Sequential(nn.AvgPool2d(32 >> last))
        self.linear = nn.Linear(width, num_class)

    def forward(self, x: Tensor) -> Tensor:
        out = self.classifier(self.features(self.conv1(x)))
        return self.linear(out.view(out.size()[0], -1))


def _dense(width: int, layers: int, growth: int) -> nn.Sequential:
    block = nn.Sequential()
    for i in range(layers):
        block.add_module(f"bottle_neck_layer_{i}", Bottleneck(width + i * growth, growth))
    return block


def save(network: nn.Module, path: Path) -> None:
    torch.save(network.state_dict(), path)
