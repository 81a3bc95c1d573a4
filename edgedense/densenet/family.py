"""Both branches of the family, classification and segmentation, behind one pair of names."""

from __future__ import annotations

from typing import TypeAlias, overload

import torch
from torch import nn

from edgedense.densenet.fc_network import FCDenseNet
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.specs import Spec, spec_from_dict

__all__ = ["Network", "Spec", "initialised", "network_of", "spec_from_dict"]

Network: TypeAlias = DenseNet | FCDenseNet


def network_of(spec: Spec) -> Network:
    """A network of this structure, its weights as PyTorch leaves them."""
    return DenseNet(spec) if isinstance(spec, DenseNetSpec) else FCDenseNet(spec)


_BIASED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@overload
def initialised(spec: DenseNetSpec, seed: int) -> DenseNet: ...
@overload
def initialised(spec: FCDenseNetSpec, seed: int) -> FCDenseNet: ...
def initialised(spec: Spec, seed: int) -> Network:
    """A network with He-normal convolutions by their fan-out, as the authors' code has it.

    Source: He et al., arXiv 1502.01852, section 2.2; liuzhuang13/DenseNet models/densenet.lua.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = network_of(spec)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if isinstance(module, _BIASED) and module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
