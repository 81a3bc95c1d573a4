import copy

import numpy as np
import pytest
import torch
from prune_nets import images, trained
from torch import nn

from edgedense.data import Batch
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.prune.batchnorm import reestimate_bn
from edgedense.prune.groups import prunable
from edgedense.prune.remove import remove

SPEC = DenseNetSpec.build([2, 2], 8, num_classes=3, stem="imagenet", dropout=0.5)
GROUPS = prunable(SPEC, "all")


def batches() -> list[Batch]:
    x = images(SPEC, 33).numpy()
    rows = (slice(0, 16), slice(16, 32), slice(32, 33))
    return [Batch(x[r], np.zeros(len(x[r]), np.int64), (), tuple("i" * len(x[r]))) for r in rows]


def averages(network: DenseNet) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and variance of each BN's input, averaged over batches normalised on their own."""
    network = copy.deepcopy(network)
    seen: dict[str, list[torch.Tensor]] = {}

    def hook(name: str) -> object:
        def pre(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            values = inputs[0].transpose(0, 1).flatten(1)
            seen.setdefault(name, []).append(torch.stack([values.mean(1), values.var(1)]))

        return pre

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.register_forward_pre_hook(hook(name))
    with torch.no_grad():
        for batch in batches()[:2]:
            network(torch.from_numpy(batch.images))
    return {name: tuple(torch.stack(values).mean(0)) for name, values in seen.items()}


def test_where_nothing_was_removed_nothing_changes() -> None:
    network = trained(SPEC)
    kept = {g.name: np.arange(g.width) for g in GROUPS}
    same = remove(network, GROUPS, kept)
    reestimate_bn(same, network, GROUPS, kept, batches())
    for key, value in network.state_dict().items():
        assert torch.equal(same.state_dict()[key], value), key


def test_statistics_move_as_far_as_pruning_moved_them() -> None:
    network = trained(SPEC)
    random = np.random.default_rng(0)
    kept = {g.name: np.sort(random.permutation(g.width)[: max(2, g.width // 2)]) for g in GROUPS}
    pruned = remove(network, GROUPS, kept)
    old = copy.deepcopy(pruned.state_dict())
    before = averages(network)
    after = averages(pruned)
    reestimate_bn(pruned, network, GROUPS, kept, batches())
    rows = {
        "features.norm0": kept["features.conv0"],
        "features.denseblock1.denselayer1.norm2": kept["features.denseblock1.denselayer1.conv1"],
        "features.denseblock1.denselayer2.norm1": np.concatenate(
            [kept["features.conv0"], 16 + kept["features.denseblock1.denselayer1.conv2"]]
        ),
    }
    new = pruned.state_dict()
    for name, stays in rows.items():
        shift = after[name][0] - before[name][0][stays]
        factor = (after[name][1] + SPEC.eps) / (before[name][1][stays] + SPEC.eps)
        key = f"{name}.running_mean"
        torch.testing.assert_close(new[key], old[key] + shift, rtol=1e-4, atol=1e-4)
        key = f"{name}.running_var"
        torch.testing.assert_close(new[key], old[key] * factor, rtol=1e-4, atol=1e-4)


def test_only_statistics_change_and_both_networks_stay_in_eval_mode() -> None:
    network = trained(SPEC)
    original = copy.deepcopy(network.state_dict())
    kept = {"features.conv0": np.arange(3)}
    pruned = remove(network, GROUPS, kept)
    before = copy.deepcopy(pruned.state_dict())
    reestimate_bn(pruned, network, GROUPS, kept, batches())
    changed = {k for k, v in pruned.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(key.endswith(("running_mean", "running_var")) for key in changed)
    assert all(torch.equal(original[k], v) for k, v in network.state_dict().items())
    assert not any(m.training for net in (network, pruned) for m in net.modules())


@pytest.mark.parametrize("seed", [0, 1])
def test_dropout_and_the_random_state_play_no_part(seed: int) -> None:
    network = trained(SPEC)
    kept = {"features.conv0": np.arange(3)}
    results = []
    for attempt in range(2):
        torch.manual_seed(seed + 10 * attempt)
        pruned = remove(network, GROUPS, kept)
        reestimate_bn(pruned, network, GROUPS, kept, batches())
        results.append(pruned.features.norm5.running_var)
    assert torch.equal(*results)
