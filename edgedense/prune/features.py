"""One convolution at a time: what each reads and gives, for all calibration images.

The outputs that later convolutions still read are held, so that no layer is computed twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.family import Network
from edgedense.densenet.network import DenseNet
from edgedense.densenet.wiring import Grid, Wire, grids, wires
from edgedense.prune.gram import columns
from edgedense.prune.spool import Spool


class Features:
    """Outputs of ``network``'s convolutions as their readers see them, batch by batch.

    The network may change between two convolutions: what is computed later follows it.
    """

    def __init__(self, network: Network, input_size: Grid, spool: Spool) -> None:
        self._network = network
        self._modules = dict(network.named_modules())
        self._grids = grids(network.spec, input_size)
        self._spool = spool
        self._readers = Counter(name for wire in wires(network.spec) for name in wire.reads)
        self._held: defaultdict[str, list[Tensor]] = defaultdict(list)

    def columns(self, wire: Wire, batch: int, positions: Tensor) -> Tensor:
        """Rows (N * P, D) that ``wire``'s layer multiplies at flat ``positions`` (N, P)."""
        if wire.grid is None:
            return self.read(wire, batch)
        if wire.kernel > 1:
            return columns(self.read(wire, batch), self._modules[wire.name], positions)
        return self.channels(wire, batch, positions)

    def channels(self, wire: Wire, batch: int, positions: Tensor) -> Tensor:
        """Rows (N * P, C) that ``wire`` reads at flat ``positions`` (N, P) of its input."""
        parts = []
        for name in wire.reads:
            flat = self._held[name][batch].flatten(2)
            parts.append(flat.gather(2, positions[:, None].expand(-1, flat.shape[1], -1)))
        x = self._normed(wire, torch.cat(parts, 1)[..., None])
        return x[..., 0].transpose(1, 2).flatten(0, 1)

    def read(self, wire: Wire, batch: int) -> Tensor:
        """What ``wire``'s layer is applied to: (N, C, H, W), or (N, C) for the classifier."""
        parts = [self._held[name][batch] for name in wire.reads]
        x = self._normed(wire, torch.cat(parts, 1) if len(parts) > 1 else parts[0])
        return x if wire.grid is not None else F.adaptive_avg_pool2d(x, 1).flatten(1)

    def write(self, wire: Wire, x: Tensor) -> None:
        """Compute ``wire``'s output from ``x``, its input, for its next batch, and hold it."""
        y = self._after(wire, self._modules[wire.name](x))
        self._held[wire.name].append(self._spool.put(y))

    def finish(self, wire: Wire) -> None:
        """Let go of what ``wire`` was the last to read."""
        for name in wire.reads:
            self._readers[name] -= 1
            if not self._readers[name]:
                for part in self._held.pop(name):
                    self._spool.release(part)

    def inputs(self, wire: Wire, batch: int) -> tuple[int, int]:
        """Images, and positions of one image, of ``wire``'s input."""
        first = self._held[wire.reads[0]][batch]
        return len(first), first.shape[2] * first.shape[3]

    def outputs(self, wire: Wire, batch: int) -> tuple[int, int]:
        """Images, and positions of one image, of ``wire``'s output."""
        first = self._held[wire.reads[0]][batch]
        if isinstance(self._modules[wire.name], nn.ConvTranspose2d):
            return len(first), (2 * first.shape[2] + 1) * (2 * first.shape[3] + 1)
        return self.inputs(wire, batch)

    def _normed(self, wire: Wire, x: Tensor) -> Tensor:
        if wire.norm is None:
            return x
        x = self._modules[wire.norm](x)
        return F.relu(x, inplace=True) if self._rectified(wire) else x

    def _rectified(self, wire: Wire) -> bool:
        bare = isinstance(self._network, DenseNet) and not self._network.spec.transition_relu
        return not (bare and wire.name.startswith("features.transition"))

    def _after(self, wire: Wire, y: Tensor) -> Tensor:
        """From a convolution's output to what its readers see: own BN, pools, crops."""
        if isinstance(self._network, DenseNet):
            return self._pooled(self._network, wire, y)
        if wire.name.startswith("transDownBlocks"):
            return F.max_pool2d(y, 2)
        if wire.name.startswith("transUpBlocks") and wire.grid is not None:
            height, width = self._grids[wire.grid - 1]
            top, left = (y.shape[2] - height) // 2, (y.shape[3] - width) // 2
            return y[:, :, top : top + height, left : left + width]
        return y

    def _pooled(self, network: DenseNet, wire: Wire, y: Tensor) -> Tensor:
        names = list(dict(network.features.named_children()))
        if wire.name == f"features.conv{len(network.spec.stem_hidden)}":
            for name in names[names.index(wire.name.partition(".")[2]) + 1 :]:
                if name.startswith("denseblock"):
                    break
                y = self._modules[f"features.{name}"](y)
        if wire.name.startswith("features.transition"):
            y = self._modules[wire.name.removesuffix("conv") + "pool"](y)
        return y
