"""Telling schemes apart, and bringing what they mean into our form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import load, refused
from nets import Floats, images, logits, relative_error, tiny, trained
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.checkpoints import LoadOptions, load_model
from edgedense.densenet.checkpoints.recognise import NAMES
from edgedense.densenet.checkpoints.reorder import ours_from_reversed
from edgedense.densenet.checkpoints.schemes import SCHEMES
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseLayer, DenseNetSpec
from edgedense.errors import InputError

State = dict[str, Tensor]


# --- which scheme


def test_every_scheme_has_its_own_name_and_order_is_none_of_them() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(SCHEMES) + 1


def test_a_scheme_that_does_not_fit_or_does_not_exist(tmp_path: Path) -> None:
    state = trained(tiny()).state_dict()
    refused(
        state,
        tmp_path,
        r"not of the scheme kuangliu, which has no 'features.conv0.weight' nor \d+ others; dense",
        LoadOptions(scheme="kuangliu"),
    )
    with pytest.raises(InputError, match="unknown scheme 'kuang'") as caught:
        load(state, tmp_path, LoadOptions(scheme="kuang"))
    assert all(name in caught.value.remedy for name in NAMES)
    with pytest.raises(InputError, match="unknown scheme 'keras'") as caught:
        load(state, tmp_path, LoadOptions(scheme="keras"))
    assert "leave --scheme away for Keras (.h5" in caught.value.remedy


def test_the_nearest_scheme_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    state = {key: torch.ones(1) for key in ("conv1.weight", "dense1.0.conv1.weight", "fc.weight")}
    refused(
        state, tmp_path, r"tried torchvision, .*; nearest is bamos, whose bn1.weight is missing"
    )


def test_a_3x3_stem_with_a_bn_says_why_it_is_not_read(tmp_path: Path) -> None:
    state = trained(tiny(stem="imagenet")).state_dict()
    state["features.conv0.weight"] = torch.ones(8, 3, 3, 3)
    refused(state, tmp_path, "a 3x3 stem with a BN behind it")


@pytest.mark.parametrize("name", ["module.fc_0.weight", "attention_map.conv.weight"])
def test_jfhealthcare_is_not_taken_for_a_backbone(name: str, tmp_path: Path) -> None:
    state = {f"module.backbone.{k}": v for k, v in trained(tiny()).state_dict().items()}
    refused({**state, name: torch.ones(1, 4, 1, 1)}, tmp_path, "jfhealthcare.* several heads")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("features.init_conv.weight", "DenseNet of the CondenseNet code base: .* grouped"),
        ("features.denseblock_1.denselayer_1.conv_1._mask", "CondenseNet in training: .* group"),
        ("features.denseblock_1.denselayer_1.conv_1.index", "converted CondenseNet: .* shuffles"),
        ("classifier.index", "converted CondenseNet"),
    ],
)
def test_condensenets_are_refused_with_the_reason(key: str, reason: str, tmp_path: Path) -> None:
    refused({key: torch.ones(1), "features.norm_last.weight": torch.ones(3)}, tmp_path, reason)


# --- by order, and files of others


def test_a_state_dict_by_order(tmp_path: Path) -> None:
    network = trained(tiny())
    state = {f"t{i}": v for i, v in enumerate(network.state_dict().values())}
    refused(state, tmp_path, "not a DenseNet that edgedense knows")
    model = load({"state_dict": state}, tmp_path, LoadOptions(scheme="order"))
    assert (model.scheme, model.spec) == ("order", network.spec)
    x = images(network.spec)
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-6


def test_safetensors_have_no_order(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(trained(tiny()).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="do not keep the order"):
        load_model(tmp_path / "w.safetensors", LoadOptions(scheme="order"))


def test_lua_files_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "densenet-121.t7").write_bytes(b"\x04\0\0\0")
    with pytest.raises(InputError, match="Lua Torch") as caught:
        load_model(tmp_path / "densenet-121.t7")
    assert "edgedense import densenet-121.npz -o DIR --scheme order" in caught.value.remedy


def test_a_foreign_file_asked_to_be_what_it_is_not(tmp_path: Path) -> None:
    arrays = {k: v.numpy() for k, v in trained(tiny()).state_dict().items() if v.ndim}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(InputError, match="not kuangliu"):
        load_model(tmp_path / "w.npz", LoadOptions(scheme="kuangliu"))
    with pytest.raises(InputError, match="no EMA"):
        load_model(tmp_path / "w.npz", LoadOptions(ema=True))


# --- facts


def test_what_the_user_knows_better(tmp_path: Path) -> None:
    state = trained(tiny()).state_dict()
    model = load(state, tmp_path, LoadOptions(activation="sigmoid", eps=1e-3))
    assert (model.spec.activation, model.spec.eps) == ("sigmoid", 1e-3)
    x = images(model.spec)
    plain = load(state, tmp_path)
    assert relative_error(logits(plain.network, x), logits(model.network, x)) > 1e-5
    assert any("ends in sigmoid" in note for note in model.notes)
    assert plain.notes == ()


@pytest.mark.parametrize("eps", [0.0, -1e-5, float("nan"), 1.0])
def test_an_eps_that_is_none(eps: float) -> None:
    with pytest.raises(InputError, match="eps is"):
        LoadOptions(eps=eps)


def chexnet(classes: int, channels: int = 3) -> State:
    network = trained(tiny(num_classes=classes, stem="imagenet", in_channels=channels))
    return {
        "module.densenet121." + key.replace("classifier.", "classifier.0."): value
        for key, value in network.state_dict().items()
    }


def test_a_preset_only_where_classes_and_channels_are_the_code_bases(tmp_path: Path) -> None:
    assert load(chexnet(14), tmp_path).preset == "imagenet"
    assert load(chexnet(5), tmp_path).preset is None
    assert load(chexnet(14, channels=1), tmp_path).preset is None
    assert load(trained(tiny()).state_dict(), tmp_path).preset is None


def xray(*thresholds: float) -> State:
    network = trained(tiny(stem="imagenet", in_channels=1))
    return {**network.state_dict(), "op_threshs": torch.tensor(thresholds)}


def test_thresholds_of_classes_that_were_never_trained(tmp_path: Path) -> None:
    model = load(xray(0.25, float("nan"), 0.5), tmp_path)
    assert isinstance(model.spec, DenseNetSpec)
    assert model.spec.thresholds == (0.25, None, 0.5)
    assert (model.spec.activation, model.preset) == ("op_norm", "xray")


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.5, 0.5, float("inf")), (0.5, 0.5, 1.5)])
def test_thresholds_that_are_none(wrong: tuple[float, ...], tmp_path: Path) -> None:
    refused(xray(*wrong), tmp_path, f"op_threshs holds {len(wrong)} thresholds for 3 classes")


# --- reworked tensors


@st.composite
def uneven(draw: st.DrawFn, bottleneck: bool | None = None) -> DenseNetSpec:
    """Every layer with widths of its own."""
    widths = st.integers(1, 5)
    kind = draw(st.booleans()) if bottleneck is None else bottleneck
    layer = st.builds(DenseLayer, widths, widths if kind else st.none())
    blocks = draw(st.lists(st.lists(layer, min_size=1, max_size=4), min_size=1, max_size=3))
    return DenseNetSpec(
        stem="cifar",
        in_channels=3,
        stem_width=draw(widths),
        blocks=tuple(map(tuple, blocks)),
        transitions=tuple(draw(widths) for _ in blocks[1:]),
        num_classes=4,
    )


@torch.no_grad()
def run_reversed(network: DenseNet, x: Floats) -> Floats:
    """The same modules, with new features in front of the old."""
    y = network.features.conv0(torch.from_numpy(x))
    for name, module in network.features.named_children():
        if name.startswith("denseblock"):
            for layer in module.values():
                y = torch.cat([layer(y), y], 1)
        elif name.startswith("transition"):
            y = module(y)
    y = F.relu(network.features.norm5(y)).mean((2, 3))
    return network.classifier(y).numpy()


def kuangliu_names(state: State) -> State:
    rows = (
        (r"features\.conv0", "conv1"),
        (r"features\.denseblock(\d+)\.denselayer(\d+)", lambda m: f"dense{m[1]}.{int(m[2]) - 1}"),
        (r"features\.transition(\d+)\.norm", r"trans\1.bn"),
        (r"features\.transition(\d+)", r"trans\1"),
        (r"features\.norm5", "bn"),
        (r"\.norm([12])\.", r".bn\1."),
        (r"classifier", "linear"),
    )
    found = {}
    for key, value in state.items():
        name = key
        for pattern, new in rows:
            name = re.sub(pattern, new, name)
        found[name] = value
    return found


@settings(deadline=None, max_examples=40)
@given(spec=uneven())
def test_reversed_concats_of_any_widths(
    spec: DenseNetSpec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    network = trained(spec)
    model = load(kuangliu_names(network.state_dict()), tmp_path_factory.getbasetemp())
    assert (model.scheme, model.spec) == ("kuangliu", spec)
    x = images(spec, (8, 8))
    assert relative_error(run_reversed(network, x), logits(model.network, x)) < 1e-5


@given(st.integers(1, 9), st.lists(st.integers(1, 5), max_size=6))
def test_order_of_a_reversed_concat(width: int, growths: list[int]) -> None:
    parts, start = [], 0
    for size in (width, *growths):
        parts.append(list(range(start, start + size)))
        start += size
    theirs = torch.tensor([channel for part in reversed(parts) for channel in part])
    assert torch.equal(theirs[ours_from_reversed(width, growths)], torch.arange(start))


def test_a_reversed_concat_of_the_wrong_width(tmp_path: Path) -> None:
    state = kuangliu_names(trained(tiny()).state_dict())
    state["dense1.1.bn1.weight"] = torch.ones(3)
    refused(state, tmp_path, r"denselayer2.norm1.weight has shape \(3,\), where 12 channels")


class Gathered(nn.Module):
    """A layer whose first BN is followed by a choice of its channels."""

    def __init__(self, norm: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.norm, self.mask = norm, mask

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)[:, self.mask.bool()]


def bearpaw_names(state: State) -> State:
    found = kuangliu_names(state)
    renamed = {k.replace("linear.", "fc."): v for k, v in found.items()}
    return {re.sub(r"(trans\d+\.(?:bn|conv))\.", r"\g<1>1.", k): v for k, v in renamed.items()}


def slimmed(spec: DenseNetSpec, masks: list[Tensor]) -> tuple[DenseNet, State, list[int]]:
    """A network that gathers after its BNs, its state dict as network-slimming's, its cfg."""
    network = trained(spec)
    whole = network.state_dict()
    state: State = {}
    waiting = iter(masks)
    for name in (k.removesuffix(".weight") for k in whole if re.search(r"norm\d?\.weight$", k)):
        parent, _, own = name.rpartition(".")
        module = network.get_submodule(parent)
        mask = next(waiting)[: len(whole[f"{name}.weight"])]
        reader = (
            "classifier" if own == "norm5" else f"{parent}.{'conv1' if own == 'norm1' else 'conv'}"
        )
        conv = network.get_submodule(reader)
        conv.weight.data = conv.weight.data[:, mask.bool()]
        select = "select.indexes" if own == "norm5" else f"{parent}.select.indexes"
        state[select] = mask
        setattr(module, own, Gathered(getattr(module, own), mask))
    kept = {key: network.state_dict().get(key, value) for key, value in whole.items()}
    return network, bearpaw_names({**kept, **state}), [int(mask.sum()) for mask in state.values()]


@settings(deadline=None, max_examples=30)
@given(spec=uneven(bottleneck=False), data=st.data())
def test_channel_selections_of_any_kind(
    spec: DenseNetSpec, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count = sum(spec.block_config) + len(spec.blocks)
    drawn = st.lists(st.sampled_from([0.0, 1.0]), min_size=40, max_size=40)
    masks = [torch.tensor([1.0, *data.draw(drawn)]) for _ in range(count)]
    network, state, cfg = slimmed(spec, masks)
    model = load({"cfg": cfg, "state_dict": state}, tmp_path_factory.getbasetemp())
    assert (model.scheme, model.spec) == ("network-slimming", spec)
    x = images(spec, (8, 8))
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-5
    assert f"zero weights: {sum(cfg)} of " in " ".join(model.notes)


def plain_slimmed() -> tuple[State, list[int]]:
    spec = tiny(bottleneck=False)
    masks = [(torch.arange(40) % 3 > 0).float() for _ in range(6)]
    _, state, cfg = slimmed(spec, masks)
    return state, cfg


def test_a_cfg_that_contradicts_the_selections(tmp_path: Path) -> None:
    state, cfg = plain_slimmed()
    assert load({"state_dict": state}, tmp_path).scheme == "network-slimming"
    wrong = [*cfg[:2], cfg[2] + 1, *cfg[3:]]
    refused({"cfg": wrong, "state_dict": state}, tmp_path, r"its cfg has 6 .* from place 2 on")
    refused({"cfg": cfg[:-1], "state_dict": state}, tmp_path, r"its cfg has 5 .* from place 5 on")


def test_a_selection_that_contradicts_its_convolution(tmp_path: Path) -> None:
    state, _ = plain_slimmed()
    state["dense1.1.select.indexes"] = torch.ones(12)
    refused(state, tmp_path, r"denselayer2.conv1.weight has shape .* takes 12 of 12 channels")


def test_a_selection_that_takes_nothing(tmp_path: Path) -> None:
    """The layer then adds a constant zero; the file's convolution has no input at all."""
    state, _ = plain_slimmed()
    state["dense1.1.select.indexes"] = torch.zeros(12)
    state["dense1.1.conv1.weight"] = torch.ones(4, 0, 3, 3)
    weight = load(state, tmp_path).network.state_dict()[
        "features.denseblock1.denselayer2.conv1.weight"
    ]
    assert weight.shape == (4, 12, 3, 3)
    assert not weight.any()
