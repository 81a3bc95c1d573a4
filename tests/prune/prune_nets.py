"""Small DenseNets of every kind, with weights and statistics that leave no channel idle."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import nn

from edgedense.densenet.family import initialised
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec

SIZE = (16, 16)


@st.composite
def specs(draw: st.DrawFn, bottleneck: bool | None = None) -> DenseNetSpec:
    blocks = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    rates = draw(st.lists(st.integers(1, 12), min_size=len(blocks), max_size=len(blocks)))
    return DenseNetSpec.build(
        blocks,
        rates,
        num_classes=draw(st.integers(2, 5)),
        stem=draw(st.sampled_from(("cifar", "imagenet"))),
        in_channels=draw(st.sampled_from((1, 3))),
        stem_width=draw(st.integers(2, 20)),
        bottleneck=draw(st.booleans()) if bottleneck is None else bottleneck,
        bn_size=draw(st.integers(1, 4)),
        compression=draw(st.sampled_from((0.5, 1.0))),
        pool=draw(st.sampled_from(("avg", "max"))),
        dropout=draw(st.sampled_from((0.0, 0.2))),
    )


def trained(spec: DenseNetSpec, seed: int = 0) -> DenseNet:
    """Stands in for a trained network: every BN has its own scale, shift and statistics."""
    network = initialised(spec, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            module.weight.data = torch.rand(shape, generator=generator) + 0.5
            module.bias.data = torch.randn(shape, generator=generator)
            module.running_mean = torch.randn(shape, generator=generator)
            module.running_var = torch.rand(shape, generator=generator) + 0.5
    return network.eval()


def images(spec: DenseNetSpec, count: int = 2) -> torch.Tensor:
    side = 32 if spec.stem == "imagenet" else 8
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, spec.in_channels, side, side, generator=generator)


@torch.no_grad()
def logits(network: DenseNet, x: torch.Tensor) -> torch.Tensor:
    return network(x)
