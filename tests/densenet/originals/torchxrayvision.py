"""mlmed/torchxrayvision, models.py: one channel in, outputs scaled around operating points."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from originals import torchvision


class DenseNet(torchvision.DenseNet):
    def __init__(self, op_threshs: Tensor | None = None, classes: int = 6) -> None:
        super().__init__(num_classes=classes, in_channels=1)
        self.register_buffer("op_threshs", op_threshs)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.op_threshs is not None:
            out = op_norm(torch.sigmoid(out), self.op_threshs)
        return out


def op_norm(outputs: Tensor, op_threshs: Tensor) -> Tensor:
    """0.5 at each class's operating point, and where there is none (NaN)."""
    threshs = op_threshs.expand(outputs.shape[0], -1)
    scaled = torch.full_like(outputs, 0.5)
    below = (outputs < threshs) & ~torch.isnan(threshs)
    above = ~(outputs < threshs) & ~torch.isnan(threshs)
    scaled[below] = outputs[below] / (threshs[below] * 2)
    scaled[above] = 1.0 - (1.0 - outputs[above]) / ((1 - threshs[above]) * 2)
    return scaled


def save(network: nn.Module, path: Path) -> None:
    """The files of its releases: the pickled module."""
    torch.save(network, path)


def save_state(network: nn.Module, path: Path) -> None:
    """What its user saves once told to."""
    torch.save(network.state_dict(), path)
