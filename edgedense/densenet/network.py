"""The network in PyTorch, built from a :class:`DenseNetSpec`.

Module names are torchvision's, so that a state dict of ours loads there wherever all layers have
the widths of a published network.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.spec import DenseLayer, DenseNetSpec, Pool


class Layer(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3, or BN-ReLU-conv3x3 where there is no bottleneck."""

    def __init__(self, width: int, layer: DenseLayer, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.BatchNorm2d(width, eps=eps)
        if layer.bottleneck is None:
            self.conv1 = nn.Conv2d(width, layer.growth, 3, padding=1, bias=False)
            self.norm2 = self.conv2 = None
        else:
            self.conv1 = nn.Conv2d(width, layer.bottleneck, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(layer.bottleneck, eps=eps)
            self.conv2 = nn.Conv2d(layer.bottleneck, layer.growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """New features (N, growth, H, W) of the concat (N, width, H, W)."""
        y: Tensor = self.conv1(F.relu(self.norm1(x)))
        if self.norm2 is not None and self.conv2 is not None:
            y = self.conv2(F.relu(self.norm2(y)))
        return F.dropout(y, self.dropout, self.training) if self.dropout else y


class Block(nn.ModuleDict):
    """Layers, each of which reads the concat of the block's input and all earlier outputs."""

    def __init__(
        self, width: int, layers: tuple[DenseLayer, ...], eps: float, dropout: float
    ) -> None:
        super().__init__()
        for number, layer in enumerate(layers, start=1):
            self[f"denselayer{number}"] = Layer(width, layer, eps=eps, dropout=dropout)
            width += layer.growth

    def forward(self, x: Tensor) -> Tensor:
        """The block's last concat."""
        features = [x]
        for layer in self.values():
            features.append(layer(torch.cat(features, 1) if len(features) > 1 else x))
        return torch.cat(features, 1)


class Transition(nn.Module):
    """BN-ReLU-conv1x1-pool between two blocks."""

    def __init__(self, width: int, out: int, pool: Pool, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=eps)
        self.conv = nn.Conv2d(width, out, 1, bias=False)
        self.pool = nn.AvgPool2d(2) if pool == "avg" else nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, out, H/2, W/2)."""
        y: Tensor = self.pool(self.conv(F.relu(self.norm(x))))
        return y


class DenseNet(nn.Module):
    """A DenseNet for classification: images (N, C, H, W) to logits (N, num_classes)."""

    def __init__(self, spec: DenseNetSpec) -> None:
        super().__init__()
        self.spec = spec
        features: OrderedDict[str, nn.Module] = OrderedDict(_stem(spec))
        blocks = zip(spec.block_inputs(), spec.blocks, spec.block_widths(), strict=True)
        for number, (width, layers, out) in enumerate(blocks, start=1):
            features[f"denseblock{number}"] = Block(width, layers, spec.eps, spec.dropout)
            if number < len(spec.blocks):
                features[f"transition{number}"] = Transition(
                    out, spec.transitions[number - 1], spec.pool, spec.eps
                )
        features["norm5"] = nn.BatchNorm2d(spec.block_widths()[-1], eps=spec.eps)
        self.features = nn.Sequential(features)
        self.classifier = nn.Linear(spec.block_widths()[-1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, before any softmax."""
        x = F.relu(self.features(x))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        logits: Tensor = self.classifier(x)
        return logits


def initialised(spec: DenseNetSpec, seed: int) -> DenseNet:
    """A network with He-normal convolutions (paper, section 3, and He et al. 1502.01852)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DenseNet(spec)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
    return network


def _stem(spec: DenseNetSpec) -> list[tuple[str, nn.Module]]:
    if spec.stem == "cifar":
        return [("conv0", nn.Conv2d(spec.in_channels, spec.stem_width, 3, padding=1, bias=False))]
    return [
        ("conv0", nn.Conv2d(spec.in_channels, spec.stem_width, 7, 2, padding=3, bias=False)),
        ("norm0", nn.BatchNorm2d(spec.stem_width, eps=spec.eps)),
        ("relu0", nn.ReLU()),
        ("pool0", nn.MaxPool2d(3, 2, padding=1)),
    ]
