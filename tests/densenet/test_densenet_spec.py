from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import sizes, specs, tiny
from torch import nn

from edgedense.densenet import zoo
from edgedense.densenet.checkpoints.infer import infer_spec
from edgedense.densenet.checkpoints.recognised import Facts
from edgedense.densenet.count import count_macs, count_params, describe, usual_input_size
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseLayer, DenseNetSpec
from edgedense.errors import InputError


# torchvision's parameter counts; multiply-accumulates at 224x224 from its convolutions and Linear
@pytest.mark.parametrize(
    ("depth", "params", "gmacs", "width"),
    [
        (121, 7_978_856, 2.834, 1024),
        (169, 14_149_480, 3.360, 1664),
        (201, 20_013_928, 4.291, 1920),
        (161, 28_681_000, 7.728, 2208),
    ],
)
def test_imagenet_networks_have_the_published_counts(
    depth: int, params: int, gmacs: float, width: int
) -> None:
    spec = zoo.imagenet(depth)
    assert count_params(spec) == params
    assert round(count_macs(spec, (224, 224)) / 1e9, 3) == gmacs
    assert spec.block_widths()[-1] == width
    assert spec.depth == depth
    assert spec.family == f"DenseNet-BC-{depth}"
    assert usual_input_size(spec) == (224, 224)


def plain(layers: int, growth: int, stem_width: int) -> DenseNetSpec:
    return DenseNetSpec.build(
        (layers,) * 3,
        growth,
        num_classes=10,
        stem_width=stem_width,
        bottleneck=False,
        compression=1.0,
    )


@pytest.mark.parametrize(
    ("spec", "params", "mmacs", "family"),
    [
        (plain(12, 12, 16), 1_019_722, 264.8, "DenseNet-40"),
        (plain(12, 12, 24), 1_059_298, 282.9, "DenseNet-40"),
        (plain(32, 12, 16), 6_979_642, 1769.5, "DenseNet-100"),
        (plain(32, 24, 16), 27_249_082, 6889, "DenseNet-100"),
        (zoo.cifar_bc(100, 12), 769_162, 287.9, "DenseNet-BC-100"),
        (zoo.cifar_bc(250, 24), 15_324_406, 5418.8, "DenseNet-BC-250"),
        (zoo.cifar_bc(190, 40), 25_624_430, 9301.9, "DenseNet-BC-190"),
        (zoo.cifar_bc(40, 48), 2_733_130, 1150, "DenseNet-BC-40"),
        (zoo.cifar_bc(40, 12), 176_122, 72.4, "DenseNet-BC-40"),
        # kuangliu/pytorch-cifar densenet_cifar
        (DenseNetSpec.build((6, 12, 24, 16), 12, num_classes=10), 1_000_618, 125.3, None),
    ],
)
def test_cifar_networks_have_the_published_counts(
    spec: DenseNetSpec, params: int, mmacs: float, family: str | None
) -> None:
    assert count_params(spec) == params
    assert count_macs(spec, (32, 32)) / 1e6 == pytest.approx(mmacs, abs=0.5 if mmacs > 999 else 0.1)
    assert spec.family == (family or spec.family)
    assert usual_input_size(spec) == (32, 32)


def test_b_and_c_are_named_alone() -> None:
    assert tiny(compression=1.0).family == "DenseNet-B-11"
    assert tiny(bottleneck=False).family == "DenseNet-C-7"


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_counts_are_those_of_the_network(data: st.DataObject) -> None:
    spec = data.draw(specs())
    size = data.draw(sizes(spec))
    network = DenseNet(spec).eval()
    assert count_params(spec) == sum(p.numel() for p in network.parameters())

    macs = 0

    def count(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal macs
        macs += out.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(1, spec.in_channels, *size))
    assert count_macs(spec, size) == macs


@settings(deadline=None, max_examples=40)
@given(specs())
def test_a_spec_survives_json(spec: DenseNetSpec) -> None:
    again = DenseNetSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert DenseNetSpec.from_dict(spec.to_dict()) == spec


@settings(deadline=None, max_examples=30)
@given(specs(), st.randoms(use_true_random=False))
def test_structure_is_read_off_the_weights(
    tmp_path_factory: pytest.TempPathFactory, spec: DenseNetSpec, random: object
) -> None:
    state = list(DenseNet(spec).state_dict().items())
    random.shuffle(state)  # the order of the keys says nothing
    # what shapes cannot tell comes from the code base, or gets the usual value
    told = {key: getattr(spec, key) for key in ("eps", "pool", "padding", "transition_relu")}
    facts = Facts(**told, blur=spec.stem == "deep-blur")
    found = infer_spec(dict(state), facts, tmp_path_factory.getbasetemp())
    assert found.to_dict() == {**spec.to_dict(), "dropout": 0.0}


def test_every_layer_may_have_its_own_widths() -> None:
    blocks = ((DenseLayer(3, 5), DenseLayer(2, 7)), (DenseLayer(1, None), DenseLayer(4, 2)))
    spec = DenseNetSpec("cifar", 1, 6, blocks, (5,), 2)
    assert spec.growth_rate == [[3, 2], [1, 4]]
    assert spec.block_inputs() == (6, 5)
    assert spec.block_widths() == (11, 10)
    network = DenseNet(spec)
    assert count_params(spec) == sum(p.numel() for p in network.parameters())
    assert network(torch.zeros(2, 1, 4, 4)).shape == (2, 2)


def test_growth_rate_is_said_as_shortly_as_possible() -> None:
    assert tiny((2, 2), 4).growth_rate == 4
    assert DenseNetSpec.build((2, 1), (4, 6), num_classes=2).growth_rate == [4, 6]


def test_description_is_json_with_the_counts() -> None:
    spec = tiny()
    said = json.loads(json.dumps(describe(spec, (8, 8))))
    assert DenseNetSpec.from_dict(said["spec"]) == spec
    assert said["params"] == count_params(spec)
    assert said["macs"] == count_macs(spec, (8, 8))
    assert said["num_classes"] == 3


@pytest.mark.parametrize(("stem", "least"), [("cifar", 4), ("imagenet", 13)])
def test_an_input_that_the_transitions_halve_to_nothing(stem: str, least: int) -> None:
    spec = tiny((1, 1, 1), stem=stem)
    DenseNet(spec).eval()(torch.zeros(1, 3, 64, least))
    assert count_macs(spec, (64, least)) > 0
    for size in ((64, least - 1), (least - 1, 64)):
        with pytest.raises(InputError, match="too small"):
            count_macs(spec, size)
    with pytest.raises(RuntimeError, match="too small"):
        DenseNet(spec).eval()(torch.zeros(1, 3, 64, least - 1))


def test_transitions_that_do_not_fit_the_blocks() -> None:
    with pytest.raises(InputError, match="2 dense blocks need 1 transitions, not 0"):
        DenseNetSpec("cifar", 3, 4, ((DenseLayer(1, 1),),) * 2, (), 2)
