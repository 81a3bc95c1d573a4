import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prune_nets import any_specs, images, logits, trained
from torch import nn

from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.family import Spec
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.prune.groups import Group, prunable, with_widths
from edgedense.prune.remove import remove
from edgedense.prune.select import Selection


def masked(network: DenseNet, groups: tuple[Group, ...], kept: Selection) -> DenseNet:
    """The oracle: removed channels are zero in each BN, or else each layer, that reads them."""
    network = copy.deepcopy(network)
    modules = dict(network.named_modules())
    for group in groups:
        gone = np.setdiff1d(np.arange(group.width), kept[group.name])
        for reader in group.readers:
            if reader.norm is not None:
                norm = modules[reader.norm]
                norm.weight.data[gone + reader.offset] = 0
                norm.bias.data[gone + reader.offset] = 0
            else:
                axis = 0 if isinstance(modules[reader.layer], nn.ConvTranspose2d) else 1
                weight = modules[reader.layer].weight.data
                weight.movedim(axis, 0)[gone + reader.offset] = 0
    return network


def counted_macs(network: DenseNet, x: torch.Tensor) -> int:
    macs = []

    def hook(module: nn.Module, _: object, out: torch.Tensor) -> None:
        macs.append(module.weight[0].numel() * out[0].numel())

    def up(module: nn.Module, inputs: tuple[torch.Tensor], _: object) -> None:
        macs.append(module.weight[0].numel() * inputs[0][0].numel())

    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(up)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(hook)
    logits(network, x[:1])
    return sum(macs)


@settings(max_examples=40, deadline=None)
@given(any_specs, st.data())
def test_removal_is_masking_and_the_network_is_what_its_spec_says(
    spec: Spec, data: st.DataObject
) -> None:
    network, x = trained(spec), images(spec)
    groups = prunable(spec, "all")
    if data.draw(st.booleans()):
        groups = tuple(g for g in groups if g.private)
    kept = {
        g.name: np.array(sorted(data.draw(st.sets(st.integers(0, g.width - 1), min_size=1))))
        for g in groups
    }
    before = copy.deepcopy(network.state_dict())
    pruned = remove(network, groups, kept)
    torch.testing.assert_close(
        logits(pruned, x), logits(masked(network, groups, kept), x), rtol=1e-4, atol=1e-4
    )
    assert pruned.spec == with_widths(spec, {name: len(k) for name, k in kept.items()})
    assert counted_macs(pruned, x) == count_macs(pruned.spec, tuple(x.shape[2:]))
    assert sum(p.numel() for p in pruned.parameters()) == count_params(pruned.spec)
    assert not pruned.training
    assert network.spec == spec
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_removal_works_without_autograd_and_on_frozen_networks(guard: type) -> None:
    spec = DenseNetSpec.build([2, 2], 4, num_classes=3)
    network = trained(spec)
    network.classifier.requires_grad_(False)
    groups = prunable(spec, "all")
    with guard():
        pruned = remove(network, groups, {g.name: np.arange(2) for g in groups})
    assert pruned.spec.block_widths() == (6, 6)
    assert not pruned.classifier.weight.requires_grad
    assert pruned.features.conv0.weight.requires_grad
    assert network.features.conv0.weight.requires_grad
    assert not network.classifier.weight.requires_grad


def test_groups_that_are_not_named_stay_whole() -> None:
    spec = DenseNetSpec.build([2, 2], 4, num_classes=3)
    network, groups = trained(spec), prunable(spec, "all")
    x = images(spec)
    assert torch.equal(logits(remove(network, groups, {}), x), logits(network, x))
    one = remove(network, groups, {"features.conv0": np.array([0, 3])})
    assert one.spec == with_widths(spec, {"features.conv0": 2})
