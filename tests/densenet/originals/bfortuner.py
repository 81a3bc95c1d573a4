"""bfortuner/pytorch_tiramisu, models/tiramisu.py and layers.py: FC-DenseNet for segmentation."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


class DenseLayer(nn.Sequential):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, growth, kernel_size=3, stride=1, padding=1, bias=True)
        self.drop = nn.Dropout2d(0.2)


class DenseBlock(nn.Module):
    def __init__(self, width: int, growth: int, layers: int, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        self.layers = nn.ModuleList(DenseLayer(width + i * growth, growth) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        new = []
        for layer in self.layers:
            out = layer(x)
            x = torch.cat([x, out], 1)
            new.append(out)
        return torch.cat(new, 1) if self.upsample else x


class TransitionDown(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, width, kernel_size=1, stride=1, padding=0, bias=True)
        self.drop = nn.Dropout2d(0.2)
        self.maxpool = nn.MaxPool2d(2)


class TransitionUp(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.convTrans = nn.ConvTranspose2d(
            width, out, kernel_size=3, stride=2, padding=0, bias=True
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out = center_crop(self.convTrans(x), skip.size(2), skip.size(3))
        return torch.cat([out, skip], 1)


class Bottleneck(nn.Sequential):
    def __init__(self, width: int, growth: int, layers: int) -> None:
        super().__init__()
        self.bottleneck = DenseBlock(width, growth, layers, upsample=True)


class FCDenseNet(nn.Module):
    def __init__(
        self,
        in_channels: int = 3,
        down_blocks: tuple[int, ...] = (1, 2, 1, 2, 1),
        up_blocks: tuple[int, ...] = (2, 1, 2, 1, 1),
        bottleneck_layers: int = 2,
        growth_rate: int = 2,
        out_chans_first_conv: int = 5,
        n_classes: int = 4,
    ) -> None:
        super().__init__()
        width, skips = out_chans_first_conv, []
        self.firstconv = nn.Conv2d(in_channels, width, kernel_size=3, stride=1, padding=1)
        self.denseBlocksDown, self.transDownBlocks = nn.ModuleList(), nn.ModuleList()
        for layers in down_blocks:
            self.denseBlocksDown.append(DenseBlock(width, growth_rate, layers))
            width += growth_rate * layers
            skips.insert(0, width)
            self.transDownBlocks.append(TransitionDown(width))
        self.bottleneck = Bottleneck(width, growth_rate, bottleneck_layers)
        fresh = growth_rate * bottleneck_layers
        self.transUpBlocks, self.denseBlocksUp = nn.ModuleList(), nn.ModuleList()
        for i, layers in enumerate(up_blocks):
            self.transUpBlocks.append(TransitionUp(fresh, fresh))
            width, last = fresh + skips[i], i == len(up_blocks) - 1
            self.denseBlocksUp.append(DenseBlock(width, growth_rate, layers, upsample=not last))
            fresh = growth_rate * layers
        self.finalConv = nn.Conv2d(width + fresh, n_classes, kernel_size=1, stride=1, padding=0)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        out, skips = self.firstconv(x), []
        for block, down in zip(self.denseBlocksDown, self.transDownBlocks, strict=True):
            out = block(out)
            skips.append(out)
            out = down(out)
        out = self.bottleneck(out)
        for up, block in zip(self.transUpBlocks, self.denseBlocksUp, strict=True):
            out = block(up(out, skips.pop()))
        return self.softmax(self.finalConv(out))


def center_crop(layer: Tensor, height: int, width: int) -> Tensor:
    x = (layer.size(3) - width) // 2
    y = (layer.size(2) - height) // 2
    return layer[:, :, y : y + height, x : x + width]


def save(network: nn.Module, path: Path) -> None:
    """Its ``weights-{epoch}-{loss}-{error}.pth``."""
    content = {"startEpoch": 7, "loss": 0.31, "error": 0.087}
    torch.save({**content, "state_dict": network.state_dict()}, path)
