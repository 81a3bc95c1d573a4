"""Checkpoints of other code bases against the networks that they were saved from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import logits, relative_error
from originals import (
    bamos,
    bfortuner,
    chexnet,
    condensenet,
    jfhealthcare,
    kuangliu,
    timm,
    torchvision,
    torchxrayvision,
)
from originals.cases import CASES, PLAIN, difference, photos, shaken, xray
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.checkpoints import LoadOptions, load_model
from edgedense.densenet.family import network_of
from edgedense.densenet.fc_network import FCDenseNet
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.stem import stem_modules
from edgedense.errors import InputError

State = dict[str, Tensor]


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    original, path = shaken(case.make()), tmp_path / "checkpoint.pth"
    case.save(original, path)
    model = load_model(path, case.options)
    assert model.scheme == case.scheme
    found = {key: getattr(model.spec, key) for key in case.wanted()}
    assert found == case.wanted()
    assert difference(original, model, case.size) < 1e-5


# the tensors have the same shapes with the wrong fact: only answers tell it
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weiaicunzai", {"transition_relu": True}),
        ("timm-blur-filter-in-file", {"stem": "deep"}),
    ],
)
def test_the_facts_of_a_code_base_matter(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    case, path = CASES[name], tmp_path / "checkpoint.pth"
    original = shaken(case.make())
    case.save(original, path)
    model = load_model(path, case.options)
    other = network_of(replace(model.spec, **change))
    other.load_state_dict(model.network.state_dict())
    assert difference(original, replace(model, network=other.eval()), case.size) > 1e-2


def test_reversed_concats_are_put_in_order(tmp_path: Path) -> None:
    """The same numbers under the names of a code base that appends would be another network."""
    original, path = shaken(kuangliu.DenseNet()), tmp_path / "ckpt.pth"
    kuangliu.save(original, path)
    state = load_model(path).network.state_dict()
    norm = original.dense1[1].bn1
    assert not torch.equal(state["features.denseblock1.denselayer2.norm1.weight"], norm.weight)
    wanted = torch.cat([norm.weight[3:], norm.weight[:3]])
    assert torch.equal(state["features.denseblock1.denselayer2.norm1.weight"], wanted)


@pytest.mark.parametrize("blur", [False, True])
def test_a_deep_stem_that_may_have_blur_or_not_is_ambiguous(blur: bool, tmp_path: Path) -> None:
    timm.save(shaken(timm.DenseNet(blur=blur)), tmp_path / "densenet.pth")
    error = refused(tmp_path / "densenet.pth", "its keys fit timm (a max pool of stride 2")
    assert "or timm-blur (a max pool of stride 1 and a blur" in error.what
    assert f"{tmp_path / 'densenet.pth'} -o DIR --scheme timm-blur" in error.remedy


def test_another_filter_than_the_binomial_is_refused(tmp_path: Path) -> None:
    network = shaken(timm.DenseNet(blur=True, filter_in_file=True))
    network.features.pool0[1].filt[:, :, 1, 1] += 0.1
    timm.save(network, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "not the binomial")


@pytest.mark.parametrize("size", [(32, 32), (33, 30), (7, 11)])
@pytest.mark.parametrize(
    ("stem_type", "hidden", "blur"),
    [
        ("", (), False),
        ("deep", (4, 4), False),
        ("deep", (4, 4), True),
        ("deep_tiered", (3, 6), False),
        ("deep_tiered", (3, 6), True),
        ("deep_tiered_narrow", (3, 8), False),
        ("deep_tiered_narrow", (3, 8), True),
    ],
)
def test_stems_are_timms(
    stem_type: str, hidden: tuple[int, ...], blur: bool, size: tuple[int, int]
) -> None:
    original = shaken(timm.DenseNet(stem_type=stem_type, blur=blur)).features
    spec = replace(
        DenseNetSpec.build((2, 1, 2), 4, num_classes=5, bn_size=2),
        stem=("deep-blur" if blur else "deep") if stem_type else "imagenet",
        stem_hidden=hidden,
    )
    ours = nn.Sequential(stem_modules(spec)).eval()
    ours.load_state_dict({k: v for k, v in original.state_dict().items() if k in ours.state_dict()})
    theirs = original[: list(dict(original.named_children())).index("denseblock1")]
    x = photos(3, size)
    assert relative_error(logits(theirs, x), logits(ours, x)) < 1e-6


@pytest.mark.parametrize("size", [(32, 64), (47, 61), (33, 40)])
def test_a_tiramisu_is_bfortuners(size: tuple[int, int]) -> None:
    down = (1, 2, 1, 2, 1)
    original = shaken(bfortuner.FCDenseNet(3, down, down[::-1], growth_rate=3))
    spec = FCDenseNetSpec.build(down, 2, 3, num_classes=4, stem_width=5)
    ours = FCDenseNet(spec)
    ours.load_state_dict(original.state_dict())
    x = photos(3, size)
    found = F.log_softmax(torch.from_numpy(logits(ours, x)), dim=1).numpy()
    assert found.shape == (3, 4, *size)
    assert relative_error(logits(original, x), found) < 1e-6


def refused(path: Path, reason: str, options: LoadOptions = PLAIN) -> InputError:
    """Loading ends in an InputError that names the file, the reason and what mends it."""
    with pytest.raises(InputError) as caught:
        load_model(path, options)
    error = caught.value
    assert error.exit_code == 2
    assert str(path) in error.what
    # the path holds the test's name, and with it most words that a reason may have
    assert reason in error.what.replace(str(path), "")
    assert error.remedy
    assert "\n" not in error.what + error.remedy
    return error


@pytest.mark.parametrize(
    ("network", "save", "name"),
    [
        (bamos.DenseNet, bamos.save, "originals.bamos.DenseNet"),
        (xray, torchxrayvision.save, "originals.torchxrayvision.DenseNet"),
        (chexnet.reproduced, chexnet.save_reproduced, "originals.torchvision.DenseNet"),
    ],
)
def test_pickled_modules_are_refused_unread(
    network: Callable[[], nn.Module],
    save: Callable[[nn.Module, Path], None],
    name: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "latest.pth"
    save(shaken(network()), path)
    error = refused(path, "pickle")
    assert name in error.what
    assert "state_dict()" in error.remedy


@pytest.mark.parametrize("kind", ["densenet", "condensenet", "converted"])
def test_condensenet_is_refused_with_the_reason(kind: str, tmp_path: Path) -> None:
    network = shaken(condensenet.CondenseNet(kind))
    assert np.isfinite(logits(network, photos(3, (32, 32)))).all()
    condensenet.save(network, tmp_path / "model_best.pth.tar")
    error = refused(tmp_path / "model_best.pth.tar", "CondenseNet")
    assert "group" in error.what


def test_jfhealthcares_five_heads_are_refused_with_the_reason(tmp_path: Path) -> None:
    network = shaken(jfhealthcare.Classifier())
    assert logits(network, photos(3, (32, 32))).shape == (3, 5)
    jfhealthcare.save(network, tmp_path / "pre_train.pth")
    refused(tmp_path / "pre_train.pth", "several heads")


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


LIGHTNING = {"epoch": 9, "global_step": 99, "pytorch-lightning_version": "2.4.0", "callbacks": {}}
WRAPPERS: dict[str, Callable[[State], Any]] = {
    "lightning-model": lambda s: {**LIGHTNING, "state_dict": prefixed("model.", s)},
    "lightning-net": lambda s: {**LIGHTNING, "state_dict": prefixed("net.", s)},
    "lightning-backbone": lambda s: {**LIGHTNING, "state_dict": prefixed("backbone.", s)},
    "ddp": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled-ddp": lambda s: {"model": prefixed("module._orig_mod.", s), "epoch": 1},
    "ddp-compiled": lambda s: {"model": prefixed("_orig_mod.module.", s), "epoch": 1},
    # what else Lightning modules keep in their state dicts
    "lightning-loss": lambda s: {
        **LIGHTNING,
        "state_dict": {
            "criterion.weight": torch.ones(5),
            "val_acc.tp": torch.tensor(3),
            **prefixed("model.", s),
        },
    },
    "own-module": lambda s: prefixed("encoder.densenet.", s),
    "lightning-compiled": lambda s: {"state_dict": prefixed("model._orig_mod.", s)},
}
# one whose names look like a prefix, and one for each kind of head
WRAPPED = ("torchvision", "andreasveit", "kuangliu", "bfortuner")


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_around_a_scheme(name: str, wrapper: str, tmp_path: Path) -> None:
    case, path = CASES[name], tmp_path / "last.ckpt"
    original = shaken(case.make())
    torch.save(WRAPPERS[wrapper](original.state_dict()), path)
    model = load_model(path)
    assert model.scheme == case.scheme
    assert difference(original, model, case.size) < 1e-5


@pytest.mark.parametrize("name", WRAPPED)
def test_safetensors_of_a_scheme(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    case, path = CASES[name], tmp_path / "model.safetensors"
    original = shaken(case.make())
    save_file(original.state_dict(), path)
    model = load_model(path)
    assert model.scheme == case.scheme
    assert difference(original, model, case.size) < 1e-5


@pytest.mark.parametrize("twin", ["state_dict_ema", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_ema_twins_are_taken_only_when_asked_for(twin: str, prefix: str, tmp_path: Path) -> None:
    last, mean = shaken(torchvision.DenseNet(), 0), shaken(torchvision.DenseNet(), 1)
    path, entry = tmp_path / "last.pth.tar", twin.removesuffix("_ema")
    content = {twin: prefixed(prefix, mean.state_dict()), entry: last.state_dict(), "epoch": 1}
    torch.save(content, path)
    assert difference(last, load_model(path), (32, 32)) < 1e-5
    assert difference(mean, load_model(path, LoadOptions(ema=True)), (32, 32)) < 1e-5
    assert difference(mean, load_model(path), (32, 32)) > 1e-2


def test_ema_weights_that_the_file_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "last.pth.tar"
    torch.save({"state_dict": torchvision.DenseNet().state_dict()}, path)
    refused(path, "no EMA weights inside", LoadOptions(ema=True))
