from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import images, logits, relative_error, specs, tiny, trained
from torch import Tensor, nn

from edgedense.densenet.checkpoints import LoadOptions, load_model
from edgedense.densenet.checkpoints.keras import recognise_npz
from edgedense.densenet.checkpoints.order import recognise_order
from edgedense.densenet.spec import DenseLayer, DenseNetSpec
from edgedense.errors import InputError

State = dict[str, Tensor]
PATH = Path("net.npz")


def nameless(state: State) -> State:
    """Tensors in the order of a state dict, which is that of the data, without BN's counters."""
    kept = [value for key, value in state.items() if "num_batches" not in key]
    return {f"arr_{number}": value for number, value in enumerate(kept)}


def same_tensors(state: State, found: State) -> None:
    wanted = {key: value for key, value in state.items() if "num_batches" not in key}
    assert list(wanted) == list(found)
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())


@st.composite
def pruned(draw: st.DrawFn) -> DenseNetSpec:
    """Every layer and transition has widths of its own."""
    bottleneck = draw(st.booleans())
    some = st.integers(1, 9)
    layers = st.builds(DenseLayer, growth=some, bottleneck=some if bottleneck else st.none())
    blocks = draw(st.lists(st.lists(layers, min_size=1, max_size=3), min_size=1, max_size=3))
    return DenseNetSpec(
        stem=draw(st.sampled_from(("cifar", "imagenet"))),
        in_channels=draw(st.sampled_from((1, 3))),
        stem_width=draw(some),
        blocks=tuple(map(tuple, blocks)),
        transitions=tuple(draw(some) for _ in blocks[1:]),
        num_classes=draw(st.integers(1, 4)),
    )


@given(specs().filter(lambda spec: spec.stem in ("cifar", "imagenet")) | pruned())
@settings(max_examples=150, deadline=None)
def test_every_network_is_read_back_from_its_nameless_tensors(spec: DenseNetSpec) -> None:
    state = trained(spec).state_dict()
    found = recognise_order(nameless(state), PATH)
    same_tensors(state, dict(found.state))
    assert found.scheme == "order"
    assert "[input, new features]" in found.facts.notes[0]


def test_plain_networks_whose_transitions_keep_the_width() -> None:
    """DenseNet-40 of the paper: its transitions could pass for bottlenecks, by widths."""
    spec = tiny((3, 3, 3), 12, bottleneck=False, compression=1.0, stem_width=16)
    state = trained(spec).state_dict()
    same_tensors(state, dict(recognise_order(nameless(state), PATH).state))


def test_a_network_of_a_thousand_layers() -> None:
    spec = tiny((1000, 2), 1, bottleneck=False, stem_width=1)
    state = {key: torch.zeros(value.shape) for key, value in trained(spec).state_dict().items()}
    same_tensors(state, dict(recognise_order(nameless(state), PATH).state))


class Hinge(nn.Module):
    """ofsoundof/group_sparsity, model/densenet.py: all modules are called after their places."""

    def __init__(self, layers: int, growth: int, bottleneck: bool, reduction: float) -> None:
        super().__init__()
        width = 2 * growth
        modules: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
        for block in range(3):
            dense = [HingeLayer(width + i * growth, growth, bottleneck) for i in range(layers)]
            modules.append(nn.Sequential(*dense))
            width += layers * growth
            if block < 2:
                out = int(reduction * width)
                conv = nn.Conv2d(width, out, 1, bias=False)
                modules.append(
                    nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), conv, nn.AvgPool2d(2))
                )
                width = out
        modules += [nn.BatchNorm2d(width), nn.ReLU(), nn.AvgPool2d(8)]
        self.features = nn.Sequential(*modules)
        self.classifier = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class HingeLayer(nn.Module):
    def __init__(self, width: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU()]
        if bottleneck:
            body += [nn.Conv2d(width, 4 * growth, 1, bias=False)]
            body += [nn.BatchNorm2d(4 * growth), nn.ReLU()]
        inner = 4 * growth if bottleneck else width
        self.body = nn.Sequential(*body, nn.Conv2d(inner, growth, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.body(x)), 1)


def shaken(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    return network.eval()


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("reduction", [0.5, 1.0])
def test_hinge(bottleneck: bool, reduction: float, tmp_path: Path) -> None:
    network, path = shaken(Hinge(2, 4, bottleneck, reduction)), tmp_path / "model.pt"
    torch.save(network.state_dict(), path)
    assert "features.1.0.body.0.weight" in network.state_dict()
    model = load_model(path, LoadOptions(scheme="order"))
    assert model.scheme == "order"
    x = images(model.spec, (32, 32))
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-5


def test_arrays_of_a_lua_file(tmp_path: Path) -> None:
    state = trained(tiny(stem="imagenet")).state_dict()
    path = tmp_path / "lua.npz"
    np.savez(path, *(value.numpy() for value in nameless(state).values()))
    with pytest.raises(InputError, match="--scheme order"):
        recognise_npz(path)
    found = recognise_npz(path, by_order=True)
    assert found.scheme == "order"
    same_tensors(state, dict(found.state))
    arrays = {key: value.numpy() for key, value in nameless(state).items() if key != "arr_7"}
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="arr_7 is missing"):
        recognise_npz(path)


@pytest.mark.parametrize("parts", [("weight", "running_var"), ("gamma", "moving_variance")])
def test_names_tell_the_order_within_a_bn(parts: tuple[str, str]) -> None:
    gamma, variance = parts
    words = {"weight": gamma, "bias": "beta" if gamma == "gamma" else "bias"}
    words |= {"running_var": variance, "running_mean": variance.replace("variance", "mean")}
    words["running_mean"] = words["running_mean"].replace("var", "mean")
    state = trained(tiny()).state_dict()
    backwards: State = {}
    for module in dict.fromkeys(key.rpartition(".")[0] for key in state):
        own = {key: value for key, value in state.items() if key.rpartition(".")[0] == module}
        if len(own) == 5:
            for key in ("running_var", "bias", "running_mean", "weight"):
                backwards[f"{module}/{words[key]}"] = own[f"{module}.{key}"]
        else:
            backwards |= own
    same_tensors(state, dict(recognise_order(backwards, PATH).state))


def chain(*convs: tuple[int, int, int], last: int) -> State:
    """A 3x3 stem of 4 channels, then (kernel, in, out) with the BNs in front, and a classifier."""
    tensors = [torch.zeros(4, 3, 3, 3)]
    for kernel, fan_in, out in convs:
        tensors += [torch.ones(fan_in)] * 4 + [torch.zeros(out, fan_in, kernel, kernel)]
    tensors += [torch.ones(last)] * 4 + [torch.zeros(2, last), torch.zeros(2)]
    return {f"arr_{number}": value for number, value in enumerate(tensors)}


def test_two_readings_are_both_told() -> None:
    state = chain((1, 4, 8), (3, 8, 2), (3, 6, 2), (1, 8, 8), (3, 8, 2), last=10)
    with pytest.raises(InputError) as caught:
        recognise_order(state, PATH)
    assert "1 bottleneck, 1 plain, transition, 1 plain" in caught.value.what
    assert "1 bottleneck, 1 plain, 1 bottleneck" in caught.value.what


def test_mixed_layers_with_one_reading() -> None:
    state = chain((1, 4, 8), (3, 8, 2), (3, 6, 2), (1, 8, 5), (3, 5, 2), last=10)
    found = recognise_order(state, PATH)
    assert "mixed: 1 bottleneck, 1 plain, 1 bottleneck" in found.facts.notes[-1]
    assert "features.denseblock1.denselayer3.conv2.weight" in found.state


FINE = ((1, 4, 8), (3, 8, 2), (1, 6, 3), (1, 3, 8), (3, 8, 2))


def with_bias(state: State) -> State:
    return {**{"arr_0": state["arr_0"], "bias": torch.zeros(4)}, **state}


def shape_of(key: str, *shape: int) -> Callable[[State], State]:
    return lambda state: {**state, key: torch.zeros(shape)}


def without(*keys: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key not in keys}


def negative(state: State) -> State:
    return {**state, "arr_4": -state["arr_4"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without(*chain(*FINE, last=5)), "found nothing"),
        (without("arr_3"), "arr_1 .* does not start the four vectors of a BN"),
        (with_bias, "the BN that starts at bias is not gamma, beta, mean and variance"),
        (negative, "arr_1 would have a negative variance"),
        (shape_of("arr_0", 4, 3, 5, 5), "a stem with a 5x5 kernel"),
        (shape_of("arr_0", 4, 3, 7, 7), r"arr_5 is a conv, where a norm|arr_5"),
        (shape_of("arr_5", 8, 2, 1, 1), "arr_5 .* does not read the 4 channels of arr_1"),
        (shape_of("arr_5", 8, 4, 5, 5), "arr_5 .* does not read the 4 channels"),
        (shape_of("arr_5", 8, 4, 1), r"arr_5 \(8, 4, 1\) does not start"),
        (shape_of("arr_0", 5, 3, 3, 3), "4 channels follow a stem of 5"),
        (shape_of("arr_10", 3, 8, 3, 3), r"arr_5 \(1x1 from 4 to 8 channels\) precedes"),
        (without("arr_31"), "no bias of 2 follows the classifier's weight arr_30"),
        (without("arr_30", "arr_31"), "found conv, norm, …, conv, norm"),
        (lambda s: {"x": torch.zeros(3, 3), "y": torch.zeros(3), **s}, "found linear, conv"),
    ],
)
def test_what_is_no_chain_of_a_densenet(change: Callable[[State], State], reason: str) -> None:
    state = chain(*FINE, last=5)
    recognise_order(state, PATH)
    with pytest.raises(InputError, match=reason) as caught:
        recognise_order(change(state), PATH)
    assert "\n" not in caught.value.what + caught.value.remedy
    assert str(PATH) in caught.value.what


@given(st.integers(0, 30), st.data())
@settings(max_examples=60, deadline=None)
def test_cut_and_shuffled_tensors_are_bad_input(start: int, data: st.DataObject) -> None:
    keys = list(chain(*FINE, last=5))
    kept = data.draw(st.permutations(keys[start : start + 12]) | st.just(keys[: start + 1]))
    state = chain(*FINE, last=5)
    with pytest.raises(InputError):
        recognise_order({key: state[key] for key in kept if kept != keys}, PATH)


def test_a_deep_stem_is_not_mistaken_for_layers() -> None:
    state = trained(tiny(stem="deep")).state_dict()
    with pytest.raises(InputError, match="is a norm, where a conv would come"):
        recognise_order(nameless(state), PATH)
