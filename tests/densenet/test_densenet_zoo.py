"""The zoo against published counts, and all counting against the networks themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import sizes, specs, tiramisus
from torch import nn

from edgedense.densenet import zoo
from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.family import network_of
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.specs import Spec
from edgedense.errors import InputError

# parameters, and MACs in millions at the usual size to the digits that are published: torchvision's
# and timm's own figures, the tables of the papers, and counts of the authors' code
PUBLISHED = {
    "densenet121": (7_978_856, "2834"),
    "densenet161": (28_681_000, "7728"),
    "densenet169": (14_149_480, "3360"),
    "densenet201": (20_013_928, "4291"),
    "densenet264": (33_337_704, "5752"),
    "densenet264-k48": (72_686_632, "12851"),
    "densenet-40-12": (1_019_722, "264.8"),
    "densenet-40-12-2k": (1_059_298, "282.9"),
    "densenet-100-12": (6_979_642, "1769.5"),
    "densenet-100-24": (27_249_082, "6889"),
    "densenet-bc-40-12": (176_122, "72.4"),
    "densenet-bc-40-36": (1_542_682, "647"),
    "densenet-bc-40-48": (2_733_130, "1150"),
    "densenet-bc-40-60": (4_261_690, "1796"),
    "densenet-bc-100-12": (769_162, "287.9"),
    "densenet-bc-190-40": (25_624_430, "9301.9"),
    "densenet-bc-250-24": (15_324_406, "5418.8"),
    "fc-densenet56": (1_376_795, "8917"),
    "fc-densenet67": (3_463_243, "20902"),
    "fc-densenet103": (9_322_091, "20073"),
}
# three 3x3 convolutions 3-k-k-2k and their BNs for one 7x7 of 3-2k and its BN
DEEP = {"densenetblur121d": ("densenet121", 32), "densenet264d": ("densenet264-k48", 48)}
LARGE = 3_000_000  # parameters from which a network is built without memory for its tensors
NETWORKS = [entry for entry in zoo.ENTRIES if entry.spec is not None]
BY_NAME = {entry.name: entry for entry in zoo.ENTRIES}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name: str) -> None:
    params, mmacs = PUBLISHED[name]
    entry = BY_NAME[name]
    assert entry.params == params
    assert f"{entry.macs / 1e6:.{len(mmacs.partition('.')[2])}f}" == mmacs


@pytest.mark.parametrize("name", DEEP)
def test_deep_stems_cost_what_their_convolutions_do(name: str) -> None:
    plain, k = BY_NAME[DEEP[name][0]], DEEP[name][1]
    convs = 9 * (3 * k + k * k + k * 2 * k)
    seven = 49 * 3 * 2 * k
    assert BY_NAME[name].params - plain.params == convs + 4 * k - seven
    assert BY_NAME[name].macs - plain.macs == 112 * 112 * (convs - seven)


def test_every_network_is_held_to_a_published_count() -> None:
    assert {entry.name for entry in NETWORKS} == {*PUBLISHED, *DEEP}


def counted(spec: Spec, size: tuple[int, int], device: str) -> tuple[int, int]:
    """Parameters and MACs of the network itself, the latter seen by hooks in one forward."""
    with torch.device(device):
        network = network_of(spec).eval()
        image = torch.zeros(1, spec.in_channels, *size)
    macs = 0

    def count(module: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> None:
        nonlocal macs
        # a transposed convolution applies its kernels at every place of its input
        places = given[0] if isinstance(module, nn.ConvTranspose2d) else out
        macs += places.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(image)
    return sum(parameter.numel() for parameter in network.parameters()), macs


@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: entry.name)
def test_counts_are_those_of_the_network_itself(entry: zoo.Entry) -> None:
    assert entry.spec is not None
    device = "cpu" if entry.group == "cifar" and entry.params < LARGE else "meta"
    assert counted(entry.spec, entry.input_size, device) == (entry.params, entry.macs)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_counting_follows_any_structure(data: st.DataObject) -> None:
    spec = data.draw(st.one_of(specs(), tiramisus()))
    size = data.draw(sizes(spec))
    assert counted(spec, size, "cpu") == (count_params(spec), count_macs(spec, size))


def test_references_are_numbers_of_resnets() -> None:
    for name, blocks in (("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3))):
        assert (BY_NAME[name].params, BY_NAME[name].macs) == resnet(blocks)
        assert BY_NAME[name].spec is None
    # the paper's claim: as good as ResNet-101 with less than half of its parameters
    assert BY_NAME["densenet201"].params / BY_NAME["resnet101"].params < 0.5


def resnet(blocks: tuple[int, ...]) -> tuple[int, int]:
    """Bottleneck ResNet at 224x224 as torchvision has it: stride in the 3x3."""
    params = macs = 0

    def conv(channels: int, out: int, kernel: int, side: int) -> None:
        nonlocal params, macs
        params += channels * out * kernel**2 + 2 * out
        macs += channels * out * kernel**2 * side**2

    conv(3, 64, 7, 112)
    side, channels = 56, 64
    for stage, layers in enumerate(blocks):
        width = 64 * 2**stage
        for layer in range(layers):
            conv(channels, width, 1, side)
            side //= 2 if stage and layer == 0 else 1
            conv(width, width, 3, side)
            conv(width, 4 * width, 1, side)
            if layer == 0:
                conv(channels, 4 * width, 1, side)
            channels = 4 * width
    return params + 2049 * 1000, macs + 2048 * 1000


def test_published_results() -> None:
    assert BY_NAME["densenet201"].value("ImageNet", "error") == 22.58
    assert BY_NAME["densenet201"].value("ImageNet", "top5_error_10crop") == 5.54
    assert BY_NAME["densenet121"].value("ImageNet", "top1") == 74.434
    assert BY_NAME["densenet-bc-190-40"].value("C10+", "error") == 3.46
    assert BY_NAME["densenet-bc-190-40"].value("SVHN", "error") is None
    assert BY_NAME["densenet-40-12"].value("SVHN", "error") == 1.79
    assert BY_NAME["fc-densenet103"].value("CamVid", "mean_iou") == 66.9
    for entry in zoo.ENTRIES:
        assert all(0 < result.value < 100 and result.source for result in entry.results)
        errors = [entry.value("ImageNet", m) for m in ("error", "top5_error", "top5_error_10crop")]
        known = [error for error in errors if error is not None]
        assert known == sorted(known, reverse=True)


@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: entry.name)
def test_every_name_is_found_in_any_spelling(entry: zoo.Entry) -> None:
    assert entry.spec is not None
    assert zoo.find(entry.name) == entry.spec
    assert zoo.find(entry.name.upper().replace("-", "_")) == entry.spec
    assert zoo.find(entry.name, 7, 1) == replace(entry.spec, num_classes=7, in_channels=1)


def test_names_stay_apart_without_their_punctuation() -> None:
    plain = [re.sub("[^a-z0-9]", "", entry.name) for entry in zoo.ENTRIES]
    assert len(set(plain)) == len(plain)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="no network 'densenet-bc-100-21'") as caught:
        zoo.find("densenet-bc-100-21")
    assert "densenet-bc-100-12" in caught.value.remedy
    with pytest.raises(InputError) as caught:
        zoo.find("banana")
    assert caught.value.remedy == "See: edgedense models"
    with pytest.raises(InputError, match="numbers only"):
        zoo.find("ResNet-50")


@pytest.mark.parametrize("depth", [121, 161, 169, 201])
def test_depths_are_those_of_the_names(depth: int) -> None:
    assert zoo.imagenet(depth).depth == depth
    assert zoo.imagenet(264).depth == 265  # the paper's own name is one short


def test_the_four_variants_of_the_paper() -> None:
    """Naive, B, C and BC (section 3), each with the widths that it is defined by."""
    for letters in ("", "B", "C", "BC"):
        spec = DenseNetSpec.build(
            (3, 2),
            6,
            num_classes=4,
            bottleneck="B" in letters,
            compression=0.5 if "C" in letters else 1.0,
        )
        name = f"DenseNet-{letters}-{spec.depth}" if letters else f"DenseNet-{spec.depth}"
        assert spec.family == name
        layers = [layer for block in spec.blocks for layer in block]
        assert {layer.bottleneck for layer in layers} == {24 if "B" in letters else None}
        assert spec.transitions == ((12 + 18) // (2 if "C" in letters else 1),)


def test_growth_of_each_block_pool_and_dropout_are_free() -> None:
    spec = DenseNetSpec.build((2, 1), (4, 8), num_classes=2, pool="max", dropout=0.2)
    assert [[layer.growth for layer in block] for block in spec.blocks] == [[4, 4], [8]]
    network = network_of(spec)
    kinds = {type(module) for module in network.modules()}
    assert nn.MaxPool2d in kinds
    assert nn.AvgPool2d not in kinds
    x = torch.randn(2, 3, 8, 8)
    network.train()
    assert not torch.equal(network(x), network(x))


def test_the_way_up_of_a_tiramisu_mirrors_the_way_down() -> None:
    spec = zoo.tiramisu(103)
    assert isinstance(spec, FCDenseNetSpec)
    assert spec.block_config == (4, 5, 7, 10, 12, 15, 12, 10, 7, 5, 4)
    # table 2 of the paper, with the 16 that its misprint lacks (SimJeg's README)
    assert spec.block_widths()[5:] == (896, 1088, 816, 576, 384, 256)


def test_the_zoo_needs_no_pytorch() -> None:
    script = "import sys, edgedense.densenet.zoo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: entry.name)
def test_a_structure_has_its_name_back(entry: zoo.Entry) -> None:
    assert entry.spec is not None
    other = replace(entry.spec, num_classes=7, in_channels=1, eps=1e-3, dropout=0.5)
    assert zoo.name_of(other) == entry.name
    assert zoo.name_of(replace(other, stem_width=other.stem_width + 1)) is None
