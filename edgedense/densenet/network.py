"""The network in PyTorch, built from a :class:`DenseNetSpec`.

Module names are torchvision's, so that a state dict of ours loads there wherever all layers have
the widths of a published network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.recompute import recomputed
from edgedense.densenet.spec import DenseLayer, DenseNetSpec
from edgedense.densenet.stem import stem_modules


class Layer(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3, or BN-ReLU-conv3x3 where there is no bottleneck."""

    def __init__(self, width: int, layer: DenseLayer, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.recompute = False
        self.norm1 = nn.BatchNorm2d(width, eps=eps)
        if layer.bottleneck is None:
            self.conv1 = nn.Conv2d(width, layer.growth, 3, padding=1, bias=False)
            self.norm2 = self.conv2 = None
        else:
            self.conv1 = nn.Conv2d(width, layer.bottleneck, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(layer.bottleneck, eps=eps)
            self.conv2 = nn.Conv2d(layer.bottleneck, layer.growth, 3, padding=1, bias=False)

    def forward(self, *features: Tensor) -> Tensor:
        """New features (N, growth, H, W) of the concat of ``features``, ``width`` channels."""
        if self.recompute and torch.is_grad_enabled():
            y = recomputed(self._first, self.norm1, features)
        else:
            y = self._first(*features)
        if self.norm2 is not None and self.conv2 is not None:
            y = self.conv2(F.relu(self.norm2(y), inplace=True))
        return F.dropout(y, self.dropout, self.training) if self.dropout else y

    def _first(self, *features: Tensor) -> Tensor:
        x = torch.cat(features, 1) if len(features) > 1 else features[0]
        y: Tensor = self.conv1(F.relu(self.norm1(x), inplace=True))
        return y


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
        if not torch.is_grad_enabled():
            for layer in self.values():
                x = torch.cat((x, layer(x)), 1)  # two parts copy faster than many
            return x
        features = [x]  # kept apart, since the memory-efficient mode saves these and no concat
        for layer in self.values():
            features.append(layer(*features))
        return torch.cat(features, 1)


class Transition(nn.Module):
    """BN-ReLU-conv1x1-pool between two blocks."""

    def __init__(self, width: int, out: int, spec: DenseNetSpec) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=spec.eps)
        self.relu = nn.ReLU(inplace=True) if spec.transition_relu else nn.Identity()
        self.conv = nn.Conv2d(width, out, 1, bias=False)
        self.pool = nn.AvgPool2d(2) if spec.pool == "avg" else nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, out, H/2, W/2)."""
        y: Tensor = self.pool(self.conv(self.relu(self.norm(x))))
        return y


class DenseNet(nn.Module):
    """A DenseNet for classification: images (N, C, H, W) to logits (N, num_classes)."""

    def __init__(self, spec: DenseNetSpec) -> None:
        super().__init__()
        self.spec = spec
        features = stem_modules(spec)
        blocks = zip(spec.block_inputs(), spec.blocks, spec.block_widths(), strict=True)
        for number, (width, layers, out) in enumerate(blocks, start=1):
            features[f"denseblock{number}"] = Block(width, layers, spec.eps, spec.dropout)
            if number < len(spec.blocks):
                features[f"transition{number}"] = Transition(
                    out, spec.transitions[number - 1], spec
                )
        features["norm5"] = nn.BatchNorm2d(spec.block_widths()[-1], eps=spec.eps)
        self.features = nn.Sequential(features)
        self.classifier = nn.Linear(spec.block_widths()[-1], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, before any softmax."""
        x = F.relu(self.features(x), inplace=True)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        logits: Tensor = self.classifier(x)
        return logits
