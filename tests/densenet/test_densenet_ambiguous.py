"""Files whose keys alone do not tell: deep stems, heads of users' own, prefixes."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loading import load, refused
from nets import images, logits, relative_error, tiny, trained
from torch import Tensor

from edgedense.densenet.checkpoints import LoadOptions, load_model
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError

State = dict[str, Tensor]
EMA = LoadOptions(ema=True)


def deep(blocks: tuple[int, ...], stem: str = "deep") -> DenseNet:
    spec = DenseNetSpec.build(blocks, 1, num_classes=3, stem=stem, stem_width=4, bn_size=1)
    return trained(replace(spec, stem_hidden=(2, 2)))


# the second are those of densenet121d and of densenetblur121d
@pytest.mark.parametrize("blocks", [(1, 2), (6, 12, 24, 16)])
def test_a_deep_stem_is_ambiguous(blocks: tuple[int, ...], tmp_path: Path) -> None:
    state = deep(blocks).state_dict()
    remedy = refused(state, tmp_path, r"fit timm \(.*121d\) or timm-blur \(.*blur121d\), which are")
    command = f"edgedense import {tmp_path / 'w.pth'} -o DIR --scheme"
    assert remedy == f"Say which: {command} timm, or: {command} timm-blur"


def test_what_a_deep_stem_is_asked_to_be(tmp_path: Path) -> None:
    state = deep((1, 2)).state_dict()
    for name, stem in (("timm", "deep"), ("timm-blur", "deep-blur")):
        network = deep((1, 2), stem)
        model = load(state, tmp_path, LoadOptions(scheme=name))
        assert (model.scheme, model.spec) == (name, network.spec)
        x = images(network.spec, (17, 16))
        assert relative_error(logits(network, x), logits(model.network, x)) < 1e-6


def test_densenet264d_is_told_by_its_blocks(tmp_path: Path) -> None:
    model = load(deep((6, 12, 64, 48)).state_dict(), tmp_path)
    assert model.scheme == "timm"
    assert any(
        re.search(r"Taken for timm and not timm-blur, .* blocks 6, 12, 64, 48", note)
        for note in model.notes
    )


@pytest.mark.parametrize("blocks", [(1, 2), (6, 12, 24, 16), (6, 12, 64, 48)])
@pytest.mark.parametrize(
    ("beside", "name"),
    [
        ({"arch": "densenetblur121d"}, "timm-blur"),
        ({"arch": "densenet121d"}, "timm"),
        ({"architecture": "timm/DenseNet121d.in1k"}, "timm"),
        ({"args": Namespace(model="densenetblur121d.ra_in1k")}, "timm-blur"),
        ({"arch": 5, "args": Namespace(arch="densenet264d", model=None)}, "timm"),
    ],
)
def test_a_deep_stem_is_what_the_file_calls_it(
    beside: dict[str, Any], name: str, blocks: tuple[int, ...], tmp_path: Path
) -> None:
    state = deep(blocks).state_dict()
    model = load({"state_dict": state, **beside}, tmp_path)
    assert model.scheme == name
    assert any("the file calls its network" in note for note in model.notes)
    assert load({"state_dict": {}, "ema": state, **beside}, tmp_path, EMA).scheme == name


@pytest.mark.parametrize("call", ["densenet121", "mydensenetblur121d", "densenetblur121dx", ""])
def test_names_that_tell_nothing_of_a_deep_stem(call: str, tmp_path: Path) -> None:
    refused({"net": deep((1, 2)).state_dict(), "arch": call}, tmp_path, "its keys fit timm")


def test_the_metadata_of_safetensors_names_a_deep_stem(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state, path = deep((6, 12, 24, 16)).state_dict(), tmp_path / "w.safetensors"
    save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match="its keys fit timm"):
        load_model(path)
    save_file(state, path, {"format": "pt", "architecture": "densenetblur121d"})
    assert load_model(path).scheme == "timm-blur"


def with_head(*numbers: int) -> State:
    state = trained(tiny(stem="imagenet")).state_dict()
    linear = {part: state.pop(f"classifier.{part}") for part in ("weight", "bias")}
    return state | {
        f"classifier.{number}.{part}": value for number in numbers for part, value in linear.items()
    }


@pytest.mark.parametrize("number", [1, 2, 10])
@pytest.mark.parametrize("stem", ["imagenet", "old", "deep"])
def test_one_linear_layer_behind_a_dropout(stem: str, number: int, tmp_path: Path) -> None:
    network = deep((6, 12, 64, 48)) if stem == "deep" else trained(tiny(stem="imagenet"))
    state = {
        re.sub(r"^classifier", f"module.classifier.{number}", f"{key}")
        if key.startswith("classifier")
        else f"module.{key}": value
        for key, value in network.state_dict().items()
    }
    if stem == "old":
        state = {re.sub(r"(norm|conv)([12]\.)", r"\1.\2", k): v for k, v in state.items()}
    model = load(state, tmp_path)
    assert model.scheme == {"imagenet": "torchvision", "old": "torchvision-old"}.get(stem, "timm")
    x = images(network.spec, (64, 64))
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-6
    assert any(f"classifier.{number} is the classifier; if a softmax" in n for n in model.notes)


def test_a_linear_layer_at_0_is_chexnets(tmp_path: Path) -> None:
    assert load(with_head(0), tmp_path).scheme == "chexnet"


@pytest.mark.parametrize("numbers", [(0, 3), (1, 4), (2, 5, 8)])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_heads_of_several_layers_are_refused(
    numbers: tuple[int, ...], prefix: str, tmp_path: Path
) -> None:
    state = {prefix + key: value for key, value in with_head(*numbers).items()}
    refused(state, tmp_path, rf"its head has {len(numbers)} layers .*classifier\.{numbers[0]} and")


def test_tensors_of_another_network_are_named(tmp_path: Path) -> None:
    own = {f"net.student.{k}": v for k, v in trained(tiny()).state_dict().items()}
    others = {"net.teacher.a": torch.ones(1), "net.z": torch.ones(1)}
    reason = r"beside the tensors of student\.\* it holds teacher.a and 1 more"
    refused({**others, **own}, tmp_path, reason)
    refused({"state_dict": {**own, **others}}, tmp_path, reason)
    assert load(own, tmp_path).notes == ("Taken off the name of every tensor: net.student.",)


def test_features_without_a_classifier_are_no_prefix(tmp_path: Path) -> None:
    state = {
        f"encoder.{key}": value
        for key, value in trained(tiny()).state_dict().items()
        if key.startswith("features.")
    }
    refused(state, tmp_path, "classifier.weight is missing")
