"""lmbxmu/HRankPlus, models/cifar10/densenet.py: every layer is pruned to a growth of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DenseBasicBlock(nn.Module):
    def __init__(self, inplanes: int, outplanes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inplanes, outplanes, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv1(self.relu(self.bn1(x)))), 1)


class Transition(nn.Module):
    def __init__(self, inplanes: int, outplanes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inplanes, outplanes, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(self.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """``compress_rate`` is for the stem, layers and transition of each block, one after another."""

    def __init__(
        self,
        compress_rate: tuple[float, ...] = (0.0, 0.5, 0.2, 0.3, 0.6, 0.0, 0.4, 0.25, 0.75),
        depth: int = 10,
        num_classes: int = 6,
        growth_rate: int = 8,
    ) -> None:
        super().__init__()
        n = (depth - 4) // 3
        self.growth_rate = growth_rate
        self.inplanes = growth_rate * 2
        self.conv1 = nn.Conv2d(3, self.inplanes, kernel_size=3, padding=1, bias=False)
        self.dense1 = self._dense(compress_rate[1 : n + 1])
        self.trans1 = self._transition(compress_rate[n + 1])
        self.dense2 = self._dense(compress_rate[n + 2 : 2 * n + 2])
        self.trans2 = self._transition(compress_rate[2 * n + 2])
        self.dense3 = self._dense(compress_rate[2 * n + 3 : 3 * n + 3])
        self.bn = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(self.inplanes, num_classes)

    def _dense(self, rates: tuple[float, ...]) -> nn.Sequential:
        made = []
        for rate in rates:
            growth = int(self.growth_rate * (1 - rate))
            made.append(DenseBasicBlock(self.inplanes, growth))
            self.inplanes += growth
        return nn.Sequential(*made)

    def _transition(self, rate: float) -> Transition:
        inplanes, self.inplanes = self.inplanes, int(self.inplanes * (1 - rate))
        return Transition(inplanes, self.inplanes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.trans2(self.dense2(x))
        x = self.relu(self.bn(self.dense3(x)))
        x = self.avgpool(x)
        return self.fc(x.view(x.size(0), -1))


def save(network: nn.Module, path: Path) -> None:
    """Its ``model_best.pth.tar``; ``best_top1_acc`` is a tensor of one number."""
    content = {"epoch": 3, "state_dict": network.state_dict()}
    torch.save({**content, "best_top1_acc": torch.tensor(94.1)}, path)
