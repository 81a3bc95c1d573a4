"""bamos/densenet.pytorch, densenet.py: ends in log_softmax, and saves the module itself."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        inner = 4 * growth
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, inner, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat((x, out), 1)


class SingleLayer(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv1(F.relu(self.bn1(x)))), 1)


class Transition(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    def __init__(
        self,
        growth_rate: int = 3,
        depth: int = 16,
        reduction: float = 0.5,
        classes: int = 6,
        bottleneck: bool = True,
    ) -> None:
        super().__init__()
        layers = (depth - 4) // (6 if bottleneck else 3)
        width = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        self.dense1 = self._dense(width, growth_rate, layers, bottleneck)
        width += layers * growth_rate
        self.trans1 = Transition(width, math.floor(width * reduction))
        width = math.floor(width * reduction)
        self.dense2 = self._dense(width, growth_rate, layers, bottleneck)
        width += layers * growth_rate
        self.trans2 = Transition(width, math.floor(width * reduction))
        width = math.floor(width * reduction)
        self.dense3 = self._dense(width, growth_rate, layers, bottleneck)
        width += layers * growth_rate
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def _dense(self, width: int, growth: int, layers: int, bottleneck: bool) -> nn.Sequential:
        kind = Bottleneck if bottleneck else SingleLayer
        return nn.Sequential(*(kind(width + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.trans1(self.dense1(out))
        out = self.trans2(self.dense2(out))
        out = self.dense3(out)
        out = torch.squeeze(F.avg_pool2d(F.relu(self.bn1(out)), 8))
        return F.log_softmax(self.fc(out), dim=1)


def save(network: nn.Module, path: Path) -> None:
    """Its ``latest.pth``: the pickled module, which needs this very code to be read."""
    torch.save(network, path)


def save_state(network: nn.Module, path: Path) -> None:
    """What its user saves once told to."""
    torch.save(network.state_dict(), path)
