import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from prune_nets import images, logits, specs, trained
from torch.nn import ConvTranspose2d
from torch.nn import functional as F

from edgedense.data import Batch
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.prune.groups import Group, prunable
from edgedense.prune.importance import bn_scale, fpgm, lamp, magnitude, random_scores, taylor

SPEC = DenseNetSpec.build([2, 2], 4, num_classes=3, stem="imagenet")


def batch_of(x: torch.Tensor, labels: list[int]) -> Batch:
    names = tuple(map(str, labels))
    return Batch(x.numpy(), np.array(labels, np.int64), names, names)


def gated(network: DenseNet, group: Group, channel: int, gate: float) -> DenseNet:
    """A copy in float64 in which all readers see ``gate`` times the channel."""
    network = copy.deepcopy(network).double()
    for reader in group.readers:
        modules = dict(network.named_modules())
        if reader.norm is not None:
            norm = modules[reader.norm]
            norm.weight.data[reader.offset + channel] *= gate
            norm.bias.data[reader.offset + channel] *= gate
        else:
            axis = 0 if isinstance(modules[reader.layer], ConvTranspose2d) else 1
            modules[reader.layer].weight.data.movedim(axis, 0)[reader.offset + channel] *= gate
    return network


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_taylor_is_the_squared_slope_of_the_loss_along_the_channels_gate(stem: str) -> None:
    spec = DenseNetSpec.build([2, 1], 3, num_classes=3, stem=stem, stem_width=4)
    network, x, labels = trained(spec), images(spec), [0, 2]
    groups = prunable(spec, "all")
    found = taylor(network, groups, [batch_of(x[:1], labels[:1]), batch_of(x[1:], labels[1:])])
    step = 1e-5
    for group in groups:
        for channel in range(group.width):
            slopes = []
            for image, label in zip(x.double(), labels, strict=True):
                low, high = (
                    F.cross_entropy(
                        logits(gated(network, group, channel, gate), image[None]),
                        torch.tensor([label]),
                    )
                    for gate in (1 - step, 1 + step)
                )
                slopes.append(float(high - low) / (2 * step))
            wanted = float(np.mean(np.square(slopes)))
            assert found[group.name][channel] == pytest.approx(wanted, rel=1e-2, abs=1e-9)


def test_taylor_of_a_segmentation_network_goes_by_its_masks() -> None:
    spec = FCDenseNetSpec.build([1, 2], 2, 3, num_classes=3, stem_width=4)
    network, x = trained(spec), images(spec, 1)
    masks = np.random.default_rng(0).integers(0, 3, (1, 8, 8)).astype(np.uint8)
    masks[0, :2] = 255
    batch = replace(batch_of(x, [-1]), masks=masks)
    groups = prunable(spec, "all")
    found = taylor(network, groups, [batch])
    target, step = torch.from_numpy(masks).long(), 1e-5
    for group in groups:
        low, high = (
            F.cross_entropy(
                logits(gated(network, group, 0, gate), x.double()),
                target,
                reduction="sum",
                ignore_index=255,
            )
            for gate in (1 - step, 1 + step)
        )
        wanted = float((high - low) / (2 * step)) ** 2
        assert found[group.name][0] == pytest.approx(wanted, rel=1e-2, abs=1e-6)


def test_taylor_leaves_the_network_as_it_was_even_frozen_and_without_autograd() -> None:
    network, x = trained(SPEC), images(SPEC)
    groups = prunable(SPEC, "all")
    wanted = taylor(network, groups, [batch_of(x, [0, 1])])
    network.requires_grad_(False)
    with torch.no_grad():
        found = taylor(network, groups, [batch_of(x, [0, 1])])
    for name, score in wanted.items():
        np.testing.assert_array_equal(found[name], score)
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_taylor_refuses_gradients_that_are_not_finite() -> None:
    x = images(SPEC) * float("inf")
    with pytest.raises(InputError, match="not finite"):
        taylor(trained(SPEC), prunable(SPEC, "all"), [batch_of(x, [0, 1])])


@settings(max_examples=30, deadline=None)
@given(specs())
def test_a_channel_that_nothing_reads_scores_zero_and_each_reader_shares_out_one(
    spec: DenseNetSpec,
) -> None:
    network, groups = trained(spec), prunable(spec, "all")
    modules = dict(network.named_modules())
    idle = {group.name for group in groups if group.width > 1}
    for group in groups:
        for reader in group.readers if group.name in idle else ():
            modules[reader.norm].weight.data[reader.offset] = 0
    for rate in (magnitude, bn_scale):
        scores = rate(network, groups)
        for group in groups:
            assert scores[group.name].shape == (group.width,)
            assert (scores[group.name][0] == 0) == (group.name in idle)
            assert np.all(scores[group.name][1:] > 0)
        readers = {reader.norm for group in groups for reader in group.readers}
        assert sum(float(s.sum()) for s in scores.values()) == pytest.approx(len(readers))


def test_magnitude_of_a_bottleneck_is_the_product_along_its_path() -> None:
    network = trained(SPEC).requires_grad_(False)
    layer = network.features.denseblock1.denselayer2
    path = np.array(
        [
            float(layer.norm2.weight[c].abs() * layer.conv1.weight[c].norm())
            * float(layer.conv2.weight[:, c].norm())
            for c in range(16)
        ]
    )
    found = magnitude(network, prunable(SPEC, "bottleneck"))
    np.testing.assert_allclose(
        found["features.denseblock1.denselayer2.conv1"], path / path.sum(), rtol=1e-5
    )


def test_magnitude_of_a_stem_channel_adds_up_its_share_in_each_reader() -> None:
    spec = DenseNetSpec.build([1], 2, num_classes=3, stem="imagenet", stem_width=3)
    network = trained(spec).requires_grad_(False)
    parts, layer = network.features, network.features.denseblock1.denselayer1
    stem = parts.conv0.weight.flatten(1).norm(dim=1) * parts.norm0.weight.abs()
    new = layer.conv2.weight.flatten(1).norm(dim=1)
    first = stem * layer.norm1.weight.abs() * layer.conv1.weight.flatten(2).norm(dim=(0, 2))
    last = torch.cat([stem, new]) * parts.norm5.weight.abs() * network.classifier.weight.norm(dim=0)
    wanted = first / first.sum() + last[:3] / last.sum()
    found = magnitude(network, prunable(spec, "all"))["features.conv0"]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)


def test_bn_scale_of_a_concat_channel_adds_up_its_share_in_each_reader() -> None:
    network = trained(SPEC)
    block, first = network.features.denseblock2, SPEC.transitions[0]
    scales = [m.weight.detach().abs() for m in (block.denselayer2.norm1, network.features.norm5)]
    wanted = sum((s / s.sum())[first : first + 4] for s in scales)
    found = bn_scale(network, prunable(SPEC, "all"))
    np.testing.assert_allclose(
        found["features.denseblock2.denselayer1.conv2"], wanted.numpy(), rtol=1e-5
    )


def test_fpgm_is_the_share_in_the_distances_between_filters() -> None:
    network = trained(SPEC).requires_grad_(False)
    filters = network.features.denseblock1.denselayer2.conv1.weight.flatten(1).numpy()
    sums = np.array([sum(np.linalg.norm(a - b) for b in filters) for a in filters])
    found = fpgm(network, prunable(SPEC, "bottleneck"))
    np.testing.assert_allclose(
        found["features.denseblock1.denselayer2.conv1"], sums / sums.sum(), rtol=1e-5
    )


def test_lamp_is_the_square_over_those_that_are_not_smaller() -> None:
    network, groups = trained(SPEC), prunable(SPEC, "all")
    weights = magnitude(network, groups)
    for name, found in lamp(network, groups).items():
        squares = weights[name] ** 2
        wanted = [s / squares[squares >= s].sum() for s in squares]
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert found.max() == pytest.approx(1.0)


def test_chance_hangs_on_the_seed_alone() -> None:
    groups = prunable(SPEC, "all")
    first, again, other = (random_scores(groups, seed) for seed in (0, 0, 1))
    for name, scores in first.items():
        np.testing.assert_array_equal(scores, again[name])
        assert not np.array_equal(scores, other[name])
