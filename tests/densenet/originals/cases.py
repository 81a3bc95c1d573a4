"""One file or more of each code base, what its spec must say, and how answers are compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import Floats, logits, relative_error
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.checkpoints import LoadOptions, Model
from edgedense.densenet.family import Spec
from originals import (
    andreasveit,
    bamos,
    bearpaw,
    bfortuner,
    chexnet,
    gpleiss,
    hrankplus,
    kuangliu,
    network_slimming,
    timm,
    torchvision,
    torchxrayvision,
    weiaicunzai,
)

THRESHOLDS = (0.1, 0.5, 0.9, 0.45, 0.55, 0.3)
SOME = (None, 0.5, 0.9, None, 0.55, None)  # classes without an operating point
SLIM = (3, 9, 1, 10, 16, 20, 12, 2, 19)
THIN = (0.0, 0.5, 0.2, 0.3, 0.6, 0.0, 0.4, 0.25, 0.75)


@dataclass(frozen=True)
class Case:
    """One file of one code base; ``facts`` are what the spec must say of the network."""

    scheme: str
    make: Callable[[], nn.Module]
    save: Callable[[Any, Path], None]
    facts: dict[str, Any] = field(default_factory=dict)
    options: LoadOptions = field(default_factory=LoadOptions)
    size: tuple[int, int] = (32, 32)

    def wanted(self) -> dict[str, Any]:
        """Facts that a checkpoint has unless its case says otherwise."""
        usual = {"in_channels": 3, "eps": 1e-5, "activation": "none"}
        if self.scheme != "bfortuner":
            usual |= {"transition_relu": True, "padding": "symmetric", "pool": "avg"}
            usual |= {"stem": "cifar", "thresholds": ()}
        return usual | self.facts


IMAGENET = {"stem": "imagenet", "block_config": (2, 1, 2), "growth_rate": 4, "stem_width": 8}
DEEP = {**IMAGENET, "stem": "deep", "stem_hidden": (4, 4)}
BLUR = {**DEEP, "stem": "deep-blur"}
LOG = {"activation": "log_softmax"}
SIGMOID = {**IMAGENET, "activation": "sigmoid", "num_classes": 14}
TIRAMISU = {**LOG, "stem_width": 5, "block_config": (1, 2, 1, 2, 1, 2, 2, 1, 2, 1, 1)}
XRAY = {**IMAGENET, "in_channels": 1, "num_classes": 6}

# a deep stem has the same keys with blur and without: of small networks the user must tell
TIMM, BLURRED = LoadOptions(scheme="timm"), LoadOptions(scheme="timm-blur")
PLAIN = LoadOptions()


def xray(*thresholds: float) -> torchxrayvision.DenseNet:
    return torchxrayvision.DenseNet(torch.tensor(thresholds) if thresholds else None)


CASES = {
    "torchvision": Case("torchvision", torchvision.DenseNet, torchvision.save, IMAGENET),
    "torchvision-old": Case(
        "torchvision-old", torchvision.DenseNet, torchvision.save_old, IMAGENET
    ),
    "timm-plain": Case("torchvision", lambda: timm.DenseNet(stem_type=""), timm.save, IMAGENET),
    "timm-deep": Case("timm", timm.DenseNet, timm.save, DEEP, TIMM),
    "timm-deep-odd-size": Case("timm", timm.DenseNet, timm.save, DEEP, TIMM, (45, 39)),
    "timm-tiered": Case(
        "timm",
        lambda: timm.DenseNet(stem_type="deep_tiered"),
        timm.save,
        {**DEEP, "stem_hidden": (3, 6)},
        TIMM,
    ),
    "timm-tiered-narrow": Case(
        "timm",
        lambda: timm.DenseNet(stem_type="deep_tiered_narrow"),
        timm.save,
        {**DEEP, "stem_hidden": (3, 8)},
        TIMM,
    ),
    "timm-264d": Case(
        "timm",
        lambda: timm.DenseNet(2, (6, 12, 64, 48), bn_size=1),
        timm.save,
        {"stem": "deep", "stem_hidden": (2, 2), "block_config": (6, 12, 64, 48)},
        size=(33, 33),
    ),
    "timm-blur121d": Case(
        "timm-blur",
        lambda: timm.DenseNet(2, (6, 12, 24, 16), bn_size=1, blur=True),
        timm.save_in_training("densenetblur121d.ra_in1k"),
        {"stem": "deep-blur", "stem_hidden": (2, 2), "block_config": (6, 12, 24, 16)},
    ),
    "timm-121d": Case(
        "timm",
        lambda: timm.DenseNet(2, (6, 12, 24, 16), bn_size=1),
        timm.save_in_training("densenet121d"),
        {"stem": "deep", "stem_hidden": (2, 2), "block_config": (6, 12, 24, 16)},
    ),
    "timm-blur-asked": Case(
        "timm-blur", lambda: timm.DenseNet(blur=True), timm.save, BLUR, BLURRED, (38, 33)
    ),
    "timm-blur-filter-in-file": Case(
        "timm-blur", lambda: timm.DenseNet(blur=True, filter_in_file=True), timm.save, BLUR
    ),
    "gpleiss-small": Case(
        "gpleiss", gpleiss.DenseNet, gpleiss.save, {"block_config": (2, 2, 1), "growth_rate": 3}
    ),
    "gpleiss-large": Case(
        "gpleiss", lambda: gpleiss.DenseNet(small_inputs=False), gpleiss.save, {"stem": "imagenet"}
    ),
    "gpleiss-before-0.4": Case("gpleiss", gpleiss.DenseNet, gpleiss.save_old),
    "gpleiss-no-compression": Case(
        "gpleiss", lambda: gpleiss.DenseNet(compression=1), gpleiss.save, {"transitions": (12, 18)}
    ),
    "andreasveit": Case(
        "andreasveit", andreasveit.DenseNet3, andreasveit.save, {"block_config": (2, 2, 2)}
    ),
    "andreasveit-basic": Case(
        "andreasveit",
        lambda: andreasveit.DenseNet3(bottleneck=False),
        andreasveit.save,
        {"block_config": (4, 4, 4), "growth_rate": 3},
    ),
    "bamos": Case("bamos", bamos.DenseNet, bamos.save_state, LOG),
    "bamos-single": Case("bamos", lambda: bamos.DenseNet(bottleneck=False), bamos.save_state, LOG),
    "bearpaw": Case("bearpaw", bearpaw.DenseNet, bearpaw.save, {"transitions": (6, 6)}),
    "bearpaw-theta-0.7": Case(
        "bearpaw",
        lambda: bearpaw.DenseNet(compression_rate=1 / 0.7, expansion=3),
        bearpaw.save,
        {"transitions": (8, 9)},
    ),
    "bearpaw-basic": Case(
        "bearpaw",
        lambda: bearpaw.DenseNet(10, bearpaw.BasicBlock, compression_rate=1),
        bearpaw.save,
        {"block_config": (2, 2, 2), "transitions": (12, 18)},
    ),
    "hrankplus": Case(
        "bearpaw",
        lambda: hrankplus.DenseNet(THIN),
        hrankplus.save,
        {"growth_rate": [[4, 6], [3, 8], [6, 2]], "transitions": (18, 17)},
    ),
    "network-slimming": Case(
        "network-slimming",
        lambda: network_slimming.DenseNet(cfg=SLIM),
        network_slimming.save,
        {"block_config": (2, 2, 2), "growth_rate": 4, "transitions": (16, 24)},
    ),
    "network-slimming-unpruned": Case(
        "network-slimming", network_slimming.DenseNet, network_slimming.save_unpruned
    ),
    "kuangliu": Case(
        "kuangliu",
        kuangliu.DenseNet,
        kuangliu.save,
        {"block_config": (2, 3, 2, 3), "growth_rate": 3},
    ),
    "weiaicunzai": Case(
        "weiaicunzai",
        weiaicunzai.DenseNet,
        weiaicunzai.save,
        {"block_config": (2, 1, 3, 2), "transition_relu": False},
    ),
    "weiaicunzai-3-blocks": Case(
        "weiaicunzai",
        lambda: weiaicunzai.DenseNet((1, 2, 1)),
        weiaicunzai.save,
        {"transition_relu": False},
    ),
    "chexnet-arnoweng": Case("chexnet", chexnet.CheXNet, chexnet.save_arnoweng, SIGMOID),
    "chexnet-zoogzog": Case("chexnet", chexnet.CheXNet, chexnet.save_zoogzog, SIGMOID),
    "chexnet-zoogzog-169": Case(
        "chexnet", lambda: chexnet.CheXNet(169), chexnet.save_zoogzog, SIGMOID
    ),
    "chexnet-reproduced": Case("chexnet", chexnet.reproduced, torchvision.save, SIGMOID),
    "torchxrayvision": Case(
        "torchxrayvision",
        lambda: xray(*THRESHOLDS),
        torchxrayvision.save_state,
        {**XRAY, "activation": "op_norm", "thresholds": pytest.approx(THRESHOLDS)},
    ),
    "torchxrayvision-some-classes": Case(
        "torchxrayvision",
        lambda: xray(*(math.nan if value is None else value for value in SOME)),
        torchxrayvision.save_state,
        {**XRAY, "activation": "op_norm", "thresholds": pytest.approx(SOME)},
    ),
    "torchxrayvision-no-thresholds": Case("torchvision", xray, torchxrayvision.save_state, XRAY),
    "bfortuner": Case("bfortuner", bfortuner.FCDenseNet, bfortuner.save, TIRAMISU),
    "bfortuner-odd-size": Case(
        "bfortuner", bfortuner.FCDenseNet, bfortuner.save, TIRAMISU, size=(47, 61)
    ),
    "bfortuner-2-levels-1-channel": Case(
        "bfortuner",
        lambda: bfortuner.FCDenseNet(1, (2, 1), (1, 2)),
        bfortuner.save,
        {**LOG, "in_channels": 1, "down": ((2, 2), (2,)), "up": ((2,), (2, 2))},
        size=(13, 10),
    ),
}


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """Every BN gets its own scale (some negative), shift and statistics; biases are not zero."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.data = low + (high - low) * torch.rand(tensor.shape, generator=generator)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            reach = math.sqrt(6 / module.weight[0].numel())
            uniform(module.weight, -reach, reach)
            if module.bias is not None:
                uniform(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            uniform(module.weight, 0.5, 1.5)
            module.weight.data[torch.rand(module.weight.shape, generator=generator) < 0.2] *= -1
            uniform(module.bias, -0.5, 0.5)
            uniform(module.running_mean, -0.5, 0.5)
            uniform(module.running_var, 0.5, 1.5)
    return network.eval()


def photos(channels: int, size: tuple[int, int], count: int = 3) -> Floats:
    """Smooth images, each of another brightness: they must not look alike to a network."""
    random = np.random.default_rng(7)
    coarse = random.normal(size=(count, channels, *(math.ceil(side / 4) for side in size)))
    x = coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, : size[0], : size[1]]
    x = x + random.normal(size=x.shape) / 2 + np.arange(count).reshape(count, 1, 1, 1) / 2
    return x.astype(np.float32)


def activated(found: Floats, spec: Spec) -> Floats:
    """What the original network applies to its logits."""
    x = torch.from_numpy(found)
    if spec.activation == "log_softmax":
        x = F.log_softmax(x, dim=1)
    elif spec.activation in ("sigmoid", "op_norm"):
        x = torch.sigmoid(x)
    if spec.activation == "op_norm":
        thresholds = [math.nan if value is None else value for value in spec.thresholds]
        x = torchxrayvision.op_norm(x, torch.tensor(thresholds))
    return x.numpy()


def difference(original: nn.Module, model: Model, size: tuple[int, int]) -> float:
    """Relative error of the loaded network's answers, on images that the original tells apart."""
    x = photos(model.spec.in_channels, size)
    wanted = logits(original, x)
    assert np.ptp(wanted, axis=0).max() > 0.02 * np.abs(wanted).max()
    return relative_error(wanted, activated(logits(model.network, x), model.spec))
