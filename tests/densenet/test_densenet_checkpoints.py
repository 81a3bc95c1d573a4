from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import images, logits, relative_error, tiny, trained
from torch import Tensor

from edgedense import artifact
from edgedense.artifact import WEIGHTS_FILE
from edgedense.densenet.checkpoints import (
    LoadOptions,
    check_channels,
    load_model,
    save_weights,
)
from edgedense.densenet.count import describe
from edgedense.densenet.family import network_of
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.network import DenseNet
from edgedense.errors import InputError

State = dict[str, Tensor]
SPECS = {
    "bc": tiny(),
    "plain": tiny((1, 2, 1), 3, bottleneck=False, compression=1.0, stem_width=5),
    "imagenet": tiny((2, 1), 4, stem="imagenet", in_channels=1),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", SPECS)
def test_a_state_dict_with_torchvisions_keys(name: str, zipped: bool, tmp_path: Path) -> None:
    network, path = trained(SPECS[name]), tmp_path / "weights.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
    model = load_model(path)
    assert model.scheme == "torchvision"
    assert model.spec == network.spec
    assert model.sha256 == artifact.sha256_file(path)
    assert (model.source, model.preprocess, model.calibration) == (path, None, ())
    x = images(network.spec, (32, 32))
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-6
    assert not model.network.training


def test_old_torchvision_keys_with_dots(tmp_path: Path) -> None:
    network, path = trained(tiny()), tmp_path / "densenet-old.pth"
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12]\.)")
    state = {
        old.sub(r"\1.\2", key): value
        for key, value in network.state_dict().items()
        if "num_batches" not in key
    }
    assert "features.denseblock1.denselayer2.norm.1.weight" in state
    torch.save(state, path)
    model = load_model(path)
    assert model.scheme == "torchvision-old"
    x = images(network.spec)
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-6


@pytest.mark.parametrize("entry", ["state_dict", "net", "model", "model_state", "model_state_dict"])
def test_wrappers(entry: str, tmp_path: Path) -> None:
    network, path = trained(tiny()), tmp_path / "x.pth"
    torch.save({entry: network.state_dict(), "epoch": 3, "optimizer": {"state": {}}}, path)
    assert load_model(path).spec == network.spec


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    network, path = trained(tiny()), tmp_path / "half.pth"
    torch.save({k: v.half() for k, v in network.state_dict().items()}, path)
    model = load_model(path)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    x = images(network.spec)
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-2


def test_safetensors(tmp_path: Path) -> None:
    network, path = trained(tiny()), tmp_path / "w.safetensors"
    save_weights(network, path)
    model = load_model(path)
    x = images(network.spec)
    assert (logits(network, x) == logits(model.network, x)).all()


def write_artifact(path: Path, network: DenseNet, **files: str) -> None:
    with artifact.create(path, "prune", parents={}, options={}, preprocess={"name": "p"}) as draft:
        draft.model = describe(network.spec, (8, 8))
        save_weights(network, draft.path / WEIGHTS_FILE)
        for name, text in files.items():
            (draft.path / f"{name}.json").write_text(text)


def test_an_artifact_keeps_what_shapes_cannot_tell(tmp_path: Path) -> None:
    network, path = trained(tiny(pool="max", dropout=0.1)), tmp_path / "pruned"
    write_artifact(path, network, calibration='{"content": ["aa", "bb"]}')
    model = load_model(path)
    assert model.scheme == "edgedense:prune"
    assert model.spec == network.spec
    assert model.preprocess == {"name": "p"}
    assert model.calibration == ("aa", "bb")
    assert model.sha256 == artifact.sha256_file(path / "manifest.json")
    x = images(network.spec)
    assert (logits(network, x) == logits(model.network, x)).all()


def test_an_artifact_whose_weights_were_changed_by_one_byte(tmp_path: Path) -> None:
    path = tmp_path / "pruned"
    write_artifact(path, trained(tiny()))
    data = bytearray((path / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (path / WEIGHTS_FILE).write_bytes(data)
    refused(path, "contents differ from the manifest")


def test_an_artifact_without_weights(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "q", "quantize", parents={}, options={}):
        pass
    refused(tmp_path / "q", "a quantize artifact holds no weights")


def refused(path: Path, reason: str) -> InputError:
    """Loading ends in an InputError of one line and a remedy of one line, which name the file."""
    with pytest.raises(InputError) as caught:
        load_model(path)
    error = caught.value
    assert error.exit_code == 2
    assert str(path) in error.what
    # the path holds the test's name, and with it most words that a reason may have
    assert re.search(reason, error.what.replace(str(path), ""))
    assert "\n" not in error.what + error.remedy
    assert error.remedy
    return error


def without(state: State, key: str) -> State:
    return {k: v for k, v in state.items() if k != key}


def with_nan(state: State) -> State:
    state["features.denseblock1.denselayer1.conv1.weight"][0, 0] = float("nan")
    state["features.norm5.running_var"][1] = float("inf")
    return state


def negative(state: State) -> State:
    state["features.norm5.running_var"][1] = -1e-3
    return state


LAYER = "features.denseblock1.denselayer1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_nan, rf"NaN or infinity in {LAYER}.conv1.weight and 1 more"),
        (negative, "features.norm5.running_var holds a negative variance"),
        (
            lambda s: {**s, "classifier.bias": torch.ones(3, dtype=torch.int8)},
            "classifier.bias holds torch.int8, no floating point numbers",
        ),
        (
            lambda s: without(s, "classifier.bias"),
            r"classifier.bias is missing, where .* asks for \(3,\)",
        ),
        (lambda s: without(s, "classifier.weight"), r"classifier.weight is missing"),
        (lambda s: without(s, "features.conv0.weight"), r"features.conv0.weight is missing"),
        (
            lambda s: without(s, f"{LAYER}.norm1.running_var"),
            r"norm1.running_var is missing, where",
        ),
        (lambda s: without(s, f"{LAYER}.conv2.weight"), r"conv1.weight has shape \(16, 8, 1, 1\)"),
        (lambda s: without(s, "features.transition1.conv.weight"), r"transition1.conv.weight is m"),
        (
            lambda s: {k: v for k, v in s.items() if "denselayer1." not in k},
            r"denseblock1.denselayer has the numbers \[2\]",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "denseblock" not in k},
            r"features.denseblock1\.\* is missing",
        ),
        (
            lambda s: {**s, "features.norm0.weight": torch.ones(8)},
            "features.norm0.weight has no place",
        ),
        (lambda s: {**s, "features.extra.weight": torch.ones(8)}, "which has no 'features.extra"),
        (
            lambda s: {**s, f"{LAYER}.conv2.weight": torch.ones(4, 9, 3, 3)},
            r"conv2.weight has shape \(4, 9, 3, 3\), where .* asks for \(4, 16, 3, 3\)",
        ),
        (
            lambda s: {**s, "features.conv0.weight": torch.ones(8, 3, 5, 5)},
            r"a stem with a 5x5 kernel is unknown",
        ),
        (
            lambda s: {**s, "classifier.weight": torch.ones(3, 12, 1, 1)},
            r"classifier.weight has shape \(3, 12, 1, 1\), where \(outputs, inputs\) is",
        ),
        (
            lambda s: {**s, f"{LAYER}.conv2.weight": torch.ones(0, 16, 3, 3)},
            r"conv2.weight has shape \(0, 16, 3, 3\), where \(outputs, inputs, h",
        ),
        (
            lambda s: {**s, f"{LAYER}.norm.1.bias": torch.ones(8)},
            rf"{LAYER}.norm.1.bias and another tensor are both",
        ),
    ],
)
def test_state_dicts_that_are_no_whole_densenet(
    change: Callable[[State], State], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    torch.save(change(trained(tiny()).state_dict()), path)
    refused(path, reason)


def test_a_resnet_is_named_as_what_it_is_not(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.ones(64, 3, 7, 7), "fc.weight": torch.ones(10, 8)}
    for part in ("weight", "bias", "running_mean", "running_var"):
        state[f"bn1.{part}"] = torch.ones(64)
        state[f"layer1.0.bn1.{part}"] = torch.ones(64)
    state["layer1.0.conv1.weight"] = torch.ones(64, 64, 3, 3)
    torch.save(state, tmp_path / "resnet.pth")
    error = refused(tmp_path / "resnet.pth", "not a DenseNet that edgedense knows")
    assert "andreasveit, which has no 'layer1.0." in error.what


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, 2], "no state dict inside"),
        ({}, "no state dict inside"),
        ({"epoch": 3, "state_dict": {}}, "no state dict inside"),
        (torch.ones(3), "no state dict inside"),
    ],
)
def test_files_that_hold_something_else(value: Any, reason: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", reason)


def test_a_missing_path_and_a_directory(tmp_path: Path) -> None:
    refused(tmp_path / "absent.pth", "no such checkpoint")
    (tmp_path / "photos").mkdir()
    refused(tmp_path / "photos", "a directory, but no edgedense artifact")


def test_channels_of_the_images_must_be_those_of_the_stem() -> None:
    check_channels(tiny(), 3)
    with pytest.raises(InputError, match=r"reads 3 channel\(s\), the preprocessing gives 1"):
        check_channels(tiny(), 1)


def test_a_pool_that_no_file_tells(tmp_path: Path) -> None:
    network, path = trained(tiny(pool="max")), tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    x = images(network.spec)
    told = load_model(path, LoadOptions(pool="max"))
    assert (logits(network, x) == logits(told.network, x)).all()
    assert not np.allclose(logits(network, x), logits(load_model(path).network, x))


def test_a_tiramisu_has_max_pools(tmp_path: Path) -> None:
    spec = FCDenseNetSpec.build((1,), 1, 2, num_classes=3, stem_width=4)
    torch.save(network_of(spec).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="an FC-DenseNet always has max pools"):
        load_model(tmp_path / "w.pth", LoadOptions(pool="avg"))


def test_the_suffix_of_safetensors_in_capitals(tmp_path: Path) -> None:
    network = trained(tiny())
    save_weights(network, tmp_path / "W.SAFETENSORS")
    x = images(network.spec)
    found = load_model(tmp_path / "W.SAFETENSORS").network
    assert (logits(network, x) == logits(found, x)).all()
