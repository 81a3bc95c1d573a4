"""bearpaw/pytorch-classification, models/cifar/densenet.py: any compression, any bn_size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    def __init__(self, inplanes: int, growth: int, expansion: int) -> None:
        super().__init__()
        planes = expansion * growth
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, growth, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return torch.cat((x, out), 1)


class BasicBlock(nn.Module):
    def __init__(self, inplanes: int, growth: int, expansion: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.conv1 = nn.Conv2d(inplanes, growth, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv1(self.relu(self.bn1(x)))), 1)


class Transition(nn.Module):
    def __init__(self, inplanes: int, outplanes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes)
        self.conv1 = nn.Conv2d(inplanes, outplanes, kernel_size=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(self.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    def __init__(
        self,
        depth: int = 16,
        block: type[nn.Module] = Bottleneck,
        num_classes: int = 6,
        growth_rate: int = 3,
        compression_rate: float = 2,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        layers = (depth - 4) // (3 if block is BasicBlock else 6)
        self.growth_rate, self.expansion = growth_rate, expansion
        self.inplanes = growth_rate * 2
        self.conv1 = nn.Conv2d(3, self.inplanes, kernel_size=3, padding=1, bias=False)
        self.dense1 = self._dense(block, layers)
        self.trans1 = self._transition(compression_rate)
        self.dense2 = self._dense(block, layers)
        self.trans2 = self._transition(compression_rate)
        self.dense3 = self._dense(block, layers)
        self.bn = nn.BatchNorm2d(self.inplanes)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AvgPool2d(8)
        self.fc = nn.Linear(self.inplanes, num_classes)

    def _dense(self, block: type[nn.Module], layers: int) -> nn.Sequential:
        made = []
        for _ in range(layers):
            made.append(block(self.inplanes, self.growth_rate, self.expansion))
            self.inplanes += self.growth_rate
        return nn.Sequential(*made)

    def _transition(self, compression_rate: float) -> Transition:
        inplanes, self.inplanes = self.inplanes, int(self.inplanes // compression_rate)
        return Transition(inplanes, self.inplanes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.trans1(self.dense1(x))
        x = self.trans2(self.dense2(x))
        x = self.relu(self.bn(self.dense3(x)))
        x = self.avgpool(x)
        return self.fc(x.view(x.size(0), -1))


def save(network: nn.Module, path: Path) -> None:
    """Its ``model_best.pth.tar``, from under DataParallel."""
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    momentum = {0: {"momentum_buffer": torch.ones_like(state["module.conv1.weight"])}}
    optimizer = {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content = {"epoch": 3, "state_dict": state, "acc": 94.1, "best_acc": 94.2}
    torch.save({**content, "optimizer": optimizer}, path)
