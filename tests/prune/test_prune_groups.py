import pytest
from hypothesis import given, settings
from prune_nets import specs, trained
from torch import nn

from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.prune.groups import aligned_convs, count_convs, prunable, with_widths


@given(specs())
def test_groups_are_the_outputs_of_all_convolutions_and_fill_every_bn(spec: DenseNetSpec) -> None:
    network = trained(spec)
    groups = prunable(spec, "all")
    convs = {n: m.out_channels for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    assert {g.name: g.width for g in groups} == convs
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            seen = [
                range(offset, offset + g.width)
                for g in groups
                for norm, offset in g.norms()
                if norm == name
            ]
            assert sorted(c for part in seen for c in part) == list(range(module.num_features))


@given(specs(bottleneck=True))
def test_scope_bottleneck_leaves_every_concat_alone(spec: DenseNetSpec) -> None:
    narrow = with_widths(spec, {g.name: 1 for g in prunable(spec, "bottleneck")})
    assert narrow.block_widths() == spec.block_widths()
    assert all(layer.bottleneck == 1 for block in narrow.blocks for layer in block)


def test_scope_bottleneck_without_bottlenecks_names_the_other_scope() -> None:
    with pytest.raises(InputError, match="--scope all"):
        prunable(DenseNetSpec.build([2], 4, num_classes=2, bottleneck=False), "bottleneck")


@settings(max_examples=30)
@given(specs())
def test_aligned_convolutions_are_counted_as_the_modules_say(spec: DenseNetSpec) -> None:
    convs = [m for m in DenseNet(spec).modules() if isinstance(m, nn.Conv2d)]
    fan_in = [0, *(conv.in_channels for conv in convs[1:])]
    wanted = sum(i % 4 == 0 and c.out_channels % 4 == 0 for i, c in zip(fan_in, convs, strict=True))
    assert aligned_convs(spec, 4) == wanted
    assert count_convs(spec) == len(convs)
