"""FC-DenseNet in PyTorch, built from an :class:`FCDenseNetSpec`.

Module names are those of bfortuner/pytorch_tiramisu, whose state dicts are the usual ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.recompute import recomputed


class PlainLayer(nn.Module):
    """BN-ReLU-conv3x3 with bias, then dropout of whole channels."""

    def __init__(self, width: int, growth: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.recompute = False
        self.norm = nn.BatchNorm2d(width, eps=eps)
        self.conv = nn.Conv2d(width, growth, 3, padding=1)

    def forward(self, *features: Tensor) -> Tensor:
        """New features (N, growth, H, W) of the concat of ``features``."""
        if self.recompute and torch.is_grad_enabled():
            return self._drop(recomputed(self._new, self.norm, features))
        return self._drop(self._new(*features))

    def _new(self, *features: Tensor) -> Tensor:
        x = torch.cat(features, 1) if len(features) > 1 else features[0]
        y: Tensor = self.conv(F.relu(self.norm(x), inplace=True))
        return y

    def _drop(self, y: Tensor) -> Tensor:
        return F.dropout2d(y, self.dropout, self.training) if self.dropout else y


class PlainBlock(nn.Module):
    """Plain layers, each of which reads the concat of the block's input and all before it."""

    def __init__(self, width: int, growths: tuple[int, ...], spec: FCDenseNetSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for growth in growths:
            self.layers.append(PlainLayer(width, growth, eps=spec.eps, dropout=spec.dropout))
            width += growth

    def forward(self, x: Tensor) -> list[Tensor]:
        """The block's input and what each layer added, not yet concatenated."""
        features = [x]
        for layer in self.layers:
            features.append(layer(*features))
        return features


class TransitionDown(nn.Module):
    """BN-ReLU-conv1x1-dropout-max pool."""

    def __init__(self, width: int, out: int, spec: FCDenseNetSpec) -> None:
        super().__init__()
        self.dropout = spec.dropout
        self.norm = nn.BatchNorm2d(width, eps=spec.eps)
        self.conv = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, out, H/2, W/2), rounded down."""
        y = self.conv(F.relu(self.norm(x), inplace=True))
        if self.dropout:
            y = F.dropout2d(y, self.dropout, self.training)
        return F.max_pool2d(y, 2)


class TransitionUp(nn.Module):
    """Transposed conv3x3/2, cropped to the skip's size, then the concat with the skip."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.convTrans = nn.ConvTranspose2d(width, out, 3, stride=2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, width, H, W) and the skip (N, C, H', W') to (N, out + C, H', W')."""
        y = self.convTrans(x)
        top, left = ((y.shape[axis] - skip.shape[axis]) // 2 for axis in (2, 3))
        y = y[:, :, top : top + skip.shape[2], left : left + skip.shape[3]]
        return torch.cat([y, skip], 1)


class FCDenseNet(nn.Module):
    """Images (N, C, H, W) to logits (N, num_classes, H, W)."""

    def __init__(self, spec: FCDenseNetSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs, depth = spec.block_inputs(), len(spec.down)
        self.firstconv = nn.Conv2d(spec.in_channels, spec.stem_width, 3, padding=1)
        self.denseBlocksDown = nn.ModuleList(
            PlainBlock(width, block, spec) for width, block in zip(inputs, spec.down, strict=False)
        )
        self.transDownBlocks = nn.ModuleList(
            TransitionDown(width, out, spec)
            for width, out in zip(spec.skips(), spec.transitions_down, strict=True)
        )
        self.bottleneck = nn.ModuleDict(
            {"bottleneck": PlainBlock(inputs[depth], spec.middle, spec)}
        )
        fresh = (sum(spec.middle), *(sum(block) for block in spec.up[:-1]))
        self.transUpBlocks = nn.ModuleList(
            TransitionUp(width, out) for width, out in zip(fresh, spec.transitions_up, strict=True)
        )
        self.denseBlocksUp = nn.ModuleList(
            PlainBlock(width, block, spec)
            for width, block in zip(inputs[depth + 1 :], spec.up, strict=True)
        )
        self.finalConv = nn.Conv2d(spec.block_widths()[-1], spec.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, before any softmax."""
        x = self.firstconv(x)
        skips = []
        for block, down in zip(self.denseBlocksDown, self.transDownBlocks, strict=True):
            skips.append(torch.cat(block(x), 1))
            x = down(skips[-1])
        features = self.bottleneck["bottleneck"](x)
        for up, block in zip(self.transUpBlocks, self.denseBlocksUp, strict=True):
            # only what the last block added goes up; the rest comes back through the skips
            features = block(up(torch.cat(features[1:], 1), skips.pop()))
        logits: Tensor = self.finalConv(torch.cat(features, 1))
        return logits
