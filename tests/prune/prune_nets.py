"""Small networks of every kind and images for them, as tensors."""

from __future__ import annotations

import torch
from nets import specs, tiramisus, trained
from torch import nn

from edgedense.densenet.family import Spec

SIZE = (16, 16)
any_specs = specs() | tiramisus()

__all__ = ["SIZE", "any_specs", "images", "logits", "specs", "tiramisus", "trained"]


def images(spec: Spec, count: int = 2) -> torch.Tensor:
    side = 32 if spec.task == "classification" and spec.stem != "cifar" else 8
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, spec.in_channels, side, side, generator=generator)


@torch.no_grad()
def logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return network(x)
