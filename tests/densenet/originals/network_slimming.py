"""Eric-mingjie/network-slimming, models/densenet.py: consumers choose among the BN's channels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelSelection(nn.Module):
    """Channels of a BN whose ``indexes`` are 1; ``kept`` of them, spread over all."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        indexes = torch.zeros(channels)
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(channels))
        indexes[order[:kept]] = 1
        self.indexes = nn.Parameter(indexes)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, torch.nonzero(self.indexes).flatten(), :, :]


class BasicBlock(nn.Module):
    def __init__(self, inplanes: int, kept: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.select = ChannelSelection(inplanes, kept)
        self.conv1 = nn.Conv2d(kept, growth, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv1(self.relu(self.select(self.bn1(x))))), 1)


class Transition(nn.Module):
    def __init__(self, inplanes: int, outplanes: int, kept: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.select = ChannelSelection(inplanes, kept)
        self.conv1 = nn.Conv2d(kept, outplanes, kernel_size=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(self.relu(self.select(self.bn1(x)))), 2)


class DenseNet(nn.Module):
    """``cfg`` counts the channels kept in front of each convolution and the classifier."""

    def __init__(
        self,
        depth: int = 10,
        growth_rate: int = 4,
        compression_rate: float = 1,
        cfg: tuple[int, ...] | None = None,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        n = (depth - 4) // 3
        start = 2 * growth_rate
        cfg = cfg or tuple(
            start + growth_rate * (b * n + i) for b in range(3) for i in range(n + 1)
        )
        self.cfg, self.growth_rate, self.inplanes = cfg, growth_rate, start
        self.conv1 = nn.Conv2d(3, start, kernel_size=3, padding=1, bias=False)
        self.dense1 = self._dense(cfg[:n])
        self.trans1 = self._transition(compression_rate, cfg[n])
        self.dense2 = self._dense(cfg[n + 1 : 2 * n + 1])
        self.trans2 = self._transition(compression_rate, cfg[2 * n + 1])
        self.dense3 = self._dense(cfg[2 * n + 2 : 3 * n + 2])
        self.bn = nn.BatchNorm2d(self.inplanes)
        self.select = ChannelSelection(self.inplanes, cfg[-1])
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(cfg[-1], num_classes)

    def _dense(self, cfg: tuple[int, ...]) -> nn.Sequential:
        made = []
        for kept in cfg:
            made.append(BasicBlock(self.inplanes, kept, self.growth_rate))
            self.inplanes += self.growth_rate
        return nn.Sequential(*made)

    def _transition(self, compression_rate: float, kept: int) -> Transition:
        inplanes, self.inplanes = self.inplanes, int(self.inplanes // compression_rate)
        return Transition(inplanes, self.inplanes, kept)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.trans2(self.dense2(x))
        x = self.relu(self.select(self.bn(self.dense3(x))))
        x = self.avgpool(x)
        return self.fc(x.view(x.size(0), -1))


def save(network: DenseNet, path: Path) -> None:
    """Its ``pruned.pth.tar``."""
    torch.save({"cfg": list(network.cfg), "state_dict": network.state_dict()}, path)


def save_unpruned(network: DenseNet, path: Path) -> None:
    """Its ``model_best.pth.tar``, before pruning."""
    torch.save({"epoch": 160, "state_dict": network.state_dict(), "best_prec1": 0.94}, path)
