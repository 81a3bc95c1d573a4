"""jfhealthcare/Chexpert, as torchxrayvision brings it: five heads behind one DenseNet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from originals import torchvision


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inner = torchvision.DenseNet()
        self.features = inner.features
        self.num_features = inner.classifier.in_features

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.features(x))


class AttentionMap(nn.Module):
    """Its channel attention; the spatial and pyramid attention have parameters too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel_attention = nn.ModuleDict(
            {"fc1": nn.Linear(width, width // 2), "fc2": nn.Linear(width // 2, width)}
        )


class Classifier(nn.Module):
    def __init__(self, heads: int = 5) -> None:
        super().__init__()
        self.backbone = Backbone()
        width = 2 * self.backbone.num_features
        for i in range(heads):
            setattr(self, f"fc_{i}", nn.Conv2d(width, 1, kernel_size=1, bias=True))
            setattr(self, f"bn_{i}", nn.BatchNorm2d(width))
        self.heads = heads
        self.attention_map = AttentionMap(self.backbone.num_features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)
        x = torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 1)
        logits = [getattr(self, f"fc_{i}")(x).flatten(1) for i in range(self.heads)]
        return torch.cat(logits, 1)


def save(network: nn.Module, path: Path) -> None:
    torch.save(network.state_dict(), path)
