"""huggingface/pytorch-image-models, timm/models/densenet.py: deep stems, and blur in the stem."""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNormAct2d(nn.BatchNorm2d):
    """BN and its ReLU in one module, so the ReLU has no place in the names."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class BlurPool2d(nn.Module):
    """Depthwise binomial filter; ``persistent`` as in older releases, whose files hold it."""

    def __init__(self, channels: int, persistent: bool) -> None:
        super().__init__()
        self.channels = channels
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        filt = (line[:, None] * line[None, :])[None, None].repeat(channels, 1, 1, 1)
        self.register_buffer("filt", filt, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, [1, 1, 1, 1], "reflect")
        return F.conv2d(x, self.filt, stride=2, groups=self.channels)


class DenseLayer(nn.Module):
    def __init__(self, width: int, growth: int, bn_size: int) -> None:
        super().__init__()
        self.norm1 = BatchNormAct2d(width)
        self.conv1 = nn.Conv2d(width, bn_size * growth, kernel_size=1, stride=1, bias=False)
        self.norm2 = BatchNormAct2d(bn_size * growth)
        self.conv2 = nn.Conv2d(bn_size * growth, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        bottleneck = self.conv1(self.norm1(torch.cat(features, 1)))
        return self.conv2(self.norm2(bottleneck))


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers: int, width: int, growth: int, bn_size: int) -> None:
        super().__init__()
        for i in range(layers):
            layer = DenseLayer(width + i * growth, growth, bn_size)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseTransition(nn.Sequential):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = BatchNormAct2d(width)
        self.conv = nn.Conv2d(width, out, kernel_size=1, stride=1, bias=False)
        self.pool = nn.AvgPool2d(kernel_size=2, stride=2)


class DenseNet(nn.Module):
    """``stem_type`` is "", "deep", "deep_tiered" or "deep_tiered_narrow"."""

    def __init__(
        self,
        growth_rate: int = 4,
        block_config: tuple[int, ...] = (2, 1, 2),
        num_classes: int = 5,
        bn_size: int = 2,
        stem_type: str = "deep",
        blur: bool = False,
        filter_in_file: bool = False,
    ) -> None:
        super().__init__()
        width = 2 * growth_rate
        self.features = _stem(stem_type, growth_rate)
        self.features.add_module("pool0", _pool(width, blur, filter_in_file))
        for i, layers in enumerate(block_config):
            block = DenseBlock(layers, width, growth_rate, bn_size)
            self.features.add_module(f"denseblock{i + 1}", block)
            width += layers * growth_rate
            if i != len(block_config) - 1:
                self.features.add_module(f"transition{i + 1}", DenseTransition(width, width // 2))
                width //= 2
        self.features.add_module("norm5", BatchNormAct2d(width))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def _stem(stem_type: str, growth: int) -> nn.Sequential:
    width = 2 * growth
    if "deep" not in stem_type:
        conv = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        return nn.Sequential(OrderedDict(conv0=conv, norm0=BatchNormAct2d(width)))
    first = second = growth
    if "tiered" in stem_type:
        first = 3 * (growth // 4)
        second = width if "narrow" in stem_type else 6 * (growth // 4)
    return nn.Sequential(
        OrderedDict(
            conv0=nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
            norm0=BatchNormAct2d(first),
            conv1=nn.Conv2d(first, second, 3, stride=1, padding=1, bias=False),
            norm1=BatchNormAct2d(second),
            conv2=nn.Conv2d(second, width, 3, stride=1, padding=1, bias=False),
            norm2=BatchNormAct2d(width),
        )
    )


def _pool(width: int, blur: bool, filter_in_file: bool) -> nn.Module:
    if not blur:
        return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    pool = nn.MaxPool2d(kernel_size=3, stride=1, padding=1)
    return nn.Sequential(pool, BlurPool2d(width, filter_in_file))


def save(network: nn.Module, path: Path) -> None:
    torch.save(network.state_dict(), path)


def save_in_training(model: str) -> Callable[[nn.Module, Path], None]:
    """As utils/checkpoint_saver.py writes it, of the network called ``model``."""

    def save(network: nn.Module, path: Path) -> None:
        state = {
            "epoch": 3,
            "arch": model.partition(".")[0],
            "state_dict": network.state_dict(),
            "optimizer": {"state": {}, "param_groups": []},
            "version": 2,
            "args": Namespace(model=model, lr=0.1, aa=None),
            "metric": np.float64(76.5),
        }
        torch.save(state, path)

    return save
