import pytest
from hypothesis import given, settings
from prune_nets import any_specs, specs, trained
from torch import nn

from edgedense.densenet.family import Spec, network_of
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.prune.groups import aligned_convs, count_convs, prunable, with_widths

CONVS = nn.Conv2d | nn.ConvTranspose2d


@settings(deadline=None)
@given(any_specs)
def test_groups_are_the_outputs_of_all_convolutions_and_fill_every_bn(spec: Spec) -> None:
    network = trained(spec)
    groups = prunable(spec, "all")
    convs = {n: m.out_channels for n, m in network.named_modules() if isinstance(m, CONVS)}
    convs.pop("finalConv", None)  # its outputs are the classes
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
        bare = [r for g in groups for r in g.readers if r.norm is None and r.layer == name]
        if bare:
            widths = {(r.layer, r.offset): g.width for g in groups for r in g.readers}
            filled = [c for r in bare for c in range(r.offset, r.offset + widths[name, r.offset])]
            assert sorted(filled) == list(range(module.in_channels))


@given(specs(bottleneck=True))
def test_scope_bottleneck_leaves_every_concat_alone(spec: DenseNetSpec) -> None:
    narrow = with_widths(spec, {g.name: 1 for g in prunable(spec, "bottleneck")})
    assert narrow.block_widths() == spec.block_widths()
    assert all(layer.bottleneck == 1 for block in narrow.blocks for layer in block)
    assert narrow.stem_width == spec.stem_width


def test_scope_bottleneck_without_bottlenecks_names_the_other_scope() -> None:
    plain = DenseNetSpec.build([2], 4, num_classes=2, bottleneck=False)
    with pytest.raises(InputError, match="--scope all"):
        prunable(plain, "bottleneck")
    assert prunable(plain, "auto") == prunable(plain, "all")


@given(specs(bottleneck=True))
def test_scope_auto_is_bottleneck_where_there_is_one(spec: DenseNetSpec) -> None:
    assert prunable(spec, "auto") == prunable(spec, "bottleneck")


@settings(max_examples=30)
@given(any_specs)
def test_aligned_convolutions_are_counted_as_the_modules_say(spec: Spec) -> None:
    network = network_of(spec)
    convs = [m for m in network.modules() if isinstance(m, CONVS)]
    first = "firstconv" if spec.task == "segmentation" else "features.conv0"
    stem = network.get_submodule(first)
    fan_in = [0 if conv is stem else conv.in_channels for conv in convs]
    wanted = sum(i % 4 == 0 and c.out_channels % 4 == 0 for i, c in zip(fan_in, convs, strict=True))
    assert aligned_convs(spec, 4) == wanted
    assert count_convs(spec) == len(convs)
