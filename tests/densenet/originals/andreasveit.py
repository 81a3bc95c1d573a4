"""andreasveit/densenet-pytorch, densenet.py: DenseNet3, which DICE and other OOD code took over."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(width, out, kernel_size=3, stride=1, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv1(self.relu(self.bn1(x)))], 1)


class BottleneckBlock(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(width, out * 4, kernel_size=1, stride=1, padding=0, bias=False)
        self.bn2 = nn.BatchNorm2d(out * 4)
        self.conv2 = nn.Conv2d(out * 4, out, kernel_size=3, stride=1, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


class TransitionBlock(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(width, out, kernel_size=1, stride=1, padding=0, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(self.relu(self.bn1(x))), 2)


class DenseBlock(nn.Module):
    def __init__(self, layers: int, width: int, growth: int, block: type[nn.Module]) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(block(width + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class DenseNet3(nn.Module):
    def __init__(
        self,
        depth: int = 16,
        num_classes: int = 7,
        growth_rate: int = 3,
        reduction: float = 0.5,
        bottleneck: bool = True,
    ) -> None:
        super().__init__()
        layers = (depth - 4) // (6 if bottleneck else 3)
        block = BottleneckBlock if bottleneck else BasicBlock
        width = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, stride=1, padding=1, bias=False)
        self.block1 = DenseBlock(layers, width, growth_rate, block)
        width += layers * growth_rate
        self.trans1 = TransitionBlock(width, math.floor(width * reduction))
        width = math.floor(width * reduction)
        self.block2 = DenseBlock(layers, width, growth_rate, block)
        width += layers * growth_rate
        self.trans2 = TransitionBlock(width, math.floor(width * reduction))
        width = math.floor(width * reduction)
        self.block3 = DenseBlock(layers, width, growth_rate, block)
        width += layers * growth_rate
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(width, num_classes)
        self.in_planes = width

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.trans1(self.block1(out))
        out = self.trans2(self.block2(out))
        out = self.relu(self.bn1(self.block3(out)))
        return self.fc(F.avg_pool2d(out, 8).view(-1, self.in_planes))


def save(network: nn.Module, path: Path) -> None:
    """Its ``checkpoint.pth.tar``."""
    content = {"epoch": 300, "state_dict": network.state_dict(), "best_prec1": 94.5}
    torch.save(content, path)
