"""Chest X-ray nets around torchvision's: arnoweng/CheXNet, zoogzog/chexnet, reproduce-chexnet."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from originals import torchvision


class CheXNet(nn.Module):
    """arnoweng's and zoogzog's DenseNet121, 169 and 201: a Sigmoid inside the classifier."""

    def __init__(self, depth: int = 121, out_size: int = 14) -> None:
        super().__init__()
        self.name = f"densenet{depth}"
        inner = torchvision.DenseNet()
        head = nn.Sequential(nn.Linear(inner.classifier.in_features, out_size), nn.Sigmoid())
        inner.classifier = head
        setattr(self, self.name, inner)

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.name)(x)


def reproduced() -> torchvision.DenseNet:
    """jrzech/reproduce-chexnet: the same head on torchvision's module itself."""
    network = torchvision.DenseNet()
    head = nn.Sequential(nn.Linear(network.classifier.in_features, 14), nn.Sigmoid())
    network.classifier = head
    return network


def save_arnoweng(network: nn.Module, path: Path) -> None:
    """Its ``model.pth.tar``: old names, under DataParallel, in the old container."""
    state = {f"module.{k}": v for k, v in torchvision.old_keys(network.state_dict()).items()}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)


def save_zoogzog(network: nn.Module, path: Path) -> None:
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    optimizer = {"state": {}, "param_groups": [{"lr": 0.0001, "params": [0]}]}
    content = {"epoch": 6, "state_dict": state, "best_loss": 0.15, "optimizer": optimizer}
    torch.save(content, path)


def save_reproduced(network: nn.Module, path: Path) -> None:
    """Its ``checkpoint``: the pickled module in a dict."""
    torch.save({"model": network, "best_loss": 0.15, "epoch": 6, "LR": 0.01}, path)
