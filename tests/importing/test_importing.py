"""From a checkpoint of another code base to an artifact that every command reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import images, logits, relative_error, tiny, trained
from PIL import Image
from torch import Tensor

from edgedense import artifact
from edgedense.data import PRESETS
from edgedense.densenet.checkpoints import LoadOptions, load_model
from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.family import initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.zoo import imagenet
from edgedense.errors import InputError
from edgedense.importing import import_model

Edgedense = Callable[..., Any]
KEYS = "scheme family task activation num_classes params macs input_size preprocess notes artifact"


def xray(path: Path) -> dict[str, Tensor]:
    network = trained(tiny(stem="imagenet", in_channels=1))
    thresholds = torch.tensor([0.25, float("nan"), 0.5])
    torch.save({**network.state_dict(), "op_threshs": thresholds}, path)
    return network.state_dict()


def chexnet(path: Path, **extra: Any) -> Any:
    network = trained(tiny(stem="imagenet", num_classes=14))
    state = {
        "module.densenet121." + key.replace("classifier.", "classifier.0."): value
        for key, value in network.state_dict().items()
    }
    torch.save({"state_dict": state, **extra}, path)
    return network


def test_facts_survive_the_artifact_and_pruning(tmp_path: Path, edgedense: Edgedense) -> None:
    xray(tmp_path / "x.pt")
    ended = edgedense("import", tmp_path / "x.pt", "-o", tmp_path / "net", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert set(KEYS.split()) <= set(found)
    assert (found["activation"], found["preprocess"]) == ("op_norm", "xray")
    assert found == json.loads((tmp_path / "net" / "manifest.json").read_text())["report"]
    first, model = load_model(tmp_path / "x.pt"), load_model(tmp_path / "net")
    assert model.spec == first.spec
    assert model.spec.thresholds == (0.25, None, 0.5)
    assert model.scheme == "edgedense:import"
    assert model.preprocess == PRESETS["xray"].to_dict()
    x = images(model.spec, (32, 32))
    assert (logits(first.network, x) == logits(model.network, x)).all()
    words = ["prune", tmp_path / "net", "-o", tmp_path / "small", "--macs", 0.9, "--align", 1]
    ended = edgedense(*words, "--keep-bn")
    assert ended.code == 0, ended.err
    small = load_model(tmp_path / "small")
    assert small.spec.thresholds == (0.25, None, 0.5)
    assert small.spec.activation == "op_norm"
    assert small.preprocess == model.preprocess
    assert count_params(small.spec) < count_params(model.spec)


def test_options_are_used_and_recorded(tmp_path: Path, edgedense: Edgedense) -> None:
    other = {k: v * 2 for k, v in chexnet(tmp_path / "a.pth").state_dict().items()}
    chexnet(tmp_path / "a.pth", state_dict_ema=other)
    words = ["import", tmp_path / "a.pth", "-o", tmp_path / "net", "--activation", "none"]
    ended = edgedense(*words, "--eps", 1e-3, "--scheme", "chexnet", "--pool", "max")
    assert (ended.code, ended.out) == (0, ""), ended.err
    assert "EMA weights are in the file too (state_dict_ema)" in ended.err
    source = artifact.read(tmp_path / "net")
    options = {"ema": False, "scheme": "chexnet", "activation": "none", "eps": 1e-3}
    options |= {"pool": "max"}
    assert source.manifest.options == options
    assert source.manifest.parents == {"model": artifact.sha256_file(tmp_path / "a.pth")}
    spec = load_model(tmp_path / "net").spec
    assert (spec.activation, spec.eps, spec.pool) == ("none", 1e-3, "max")
    ended = edgedense("import", tmp_path / "a.pth", "-o", tmp_path / "ema", "--ema", "--json")
    assert ended.code == 0, ended.err
    assert "Weights taken: state_dict_ema" in json.loads(ended.out)["notes"][0]
    weight = load_model(tmp_path / "ema").network.state_dict()["classifier.weight"]
    assert torch.equal(weight, other["classifier.weight"])


def test_the_manifest_says_what_other_stages_say(tmp_path: Path) -> None:
    chexnet(tmp_path / "a.pth")
    model = load_model(tmp_path / "a.pth")
    found = import_model(model, PRESETS["imagenet"], tmp_path / "net", LoadOptions())
    manifest = artifact.read(tmp_path / "net").manifest
    assert manifest.stage == "import"
    assert manifest.model["params"] == found.params == count_params(model.spec)
    assert manifest.model["macs"] == found.macs == count_macs(model.spec, (224, 224))
    assert manifest.interface["input_shape"] == [3, 224, 224]
    assert manifest.interface["output_shape"] == [14]
    with pytest.raises(InputError, match="exists already"):
        import_model(model, None, tmp_path / "net", LoadOptions())
    with pytest.raises(InputError, match="reads 3 channel"):
        import_model(model, PRESETS["xray"], tmp_path / "other", LoadOptions())
    assert not (tmp_path / "other").exists()


def test_unknown_preprocessing_stays_unknown(tmp_path: Path, edgedense: Edgedense) -> None:
    torch.save(trained(tiny()).state_dict(), tmp_path / "w.pth")
    ended = edgedense("import", tmp_path / "w.pth", "-o", tmp_path / "net")
    assert ended.code == 0, ended.err
    assert "later commands need --preprocess" in ended.err
    assert load_model(tmp_path / "net").preprocess is None
    ended = edgedense("prune", tmp_path / "net", "-o", tmp_path / "small", "--keep-bn")
    assert ended.code == 2
    assert "preprocessing is unknown" in ended.error[0]


def test_a_segmentation_network(tmp_path: Path, edgedense: Edgedense) -> None:
    spec = FCDenseNetSpec.build((1, 1), 1, 2, num_classes=11, stem_width=4)
    network = initialised(spec, 0).eval()
    state = {"startEpoch": 3, "loss": 0.1, "error": 0.2, "state_dict": network.state_dict()}
    torch.save(state, tmp_path / "weights.th")
    ended = edgedense("import", tmp_path / "weights.th", "-o", tmp_path / "net", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["task"], found["preprocess"]) == ("segmentation", "camvid")
    assert artifact.read(tmp_path / "net").manifest.interface["output_shape"] == [11, 360, 480]
    model = load_model(tmp_path / "net")
    assert model.spec.activation == "log_softmax"
    x = images(spec, (16, 20))
    assert relative_error(logits(network, x), logits(model.network, x)) < 1e-6
    shown = edgedense("inspect", tmp_path / "weights.th", "--json")
    assert json.loads(shown.out)["task"] == "segmentation"


def test_inspect_tells_what_was_inferred(tmp_path: Path, edgedense: Edgedense) -> None:
    chexnet(tmp_path / "a.pth")
    found = json.loads(edgedense("inspect", tmp_path / "a.pth", "--json").out)
    assert (found["activation"], found["preset"]) == ("sigmoid", "imagenet")
    assert found["input_shape"] == [3, 224, 224]
    assert len(found["notes"]) == 3
    ended = edgedense("inspect", tmp_path / "a.pth")
    assert "The original ends in sigmoid" in ended.err
    assert re.search(r"implied preprocessing +imagenet", ended.err)
    assert "zoo" not in ended.err


def test_inspect_names_the_network_of_the_zoo(tmp_path: Path, edgedense: Edgedense) -> None:
    spec = replace(imagenet(121, num_classes=5), in_channels=1, activation="sigmoid")
    torch.save(initialised(spec, 0).state_dict(), tmp_path / "a.pth")
    assert json.loads(edgedense("inspect", tmp_path / "a.pth", "--json").out)["zoo"] == (
        "densenet121"
    )
    ended = edgedense("inspect", tmp_path / "a.pth")
    assert re.search(r"zoo +densenet121", ended.err)
    assert "preprocessing" not in ended.err


def test_both_twins_of_one_state_dict_are_imported(tmp_path: Path, edgedense: Edgedense) -> None:
    state = trained(tiny()).state_dict()
    twins = {f"model.{key}": value for key, value in state.items()}
    twins |= {f"ema_model.{key}": value * 2 for key, value in state.items()}
    torch.save({"state_dict": twins}, tmp_path / "a.pth")
    words = ["import", tmp_path / "a.pth", "--json", "-o"]
    for name, factor, options in (("plain", 1, []), ("ema", 2, ["--ema"])):
        ended = edgedense(*words, tmp_path / name, *options)
        assert ended.code == 0, ended.err
        assert "EMA" in json.loads(ended.out)["notes"][0]
        weight = load_model(tmp_path / name).network.state_dict()["classifier.weight"]
        assert torch.equal(weight, state["classifier.weight"] * factor)


def test_an_artifact_is_imported_already(tmp_path: Path, edgedense: Edgedense) -> None:
    chexnet(tmp_path / "a.pth")
    assert edgedense("import", tmp_path / "a.pth", "-o", tmp_path / "net").code == 0
    ended = edgedense("import", tmp_path / "net", "-o", tmp_path / "again")
    assert ended.code == 2
    assert "is an artifact already" in ended.error[0]
    with pytest.raises(InputError, match="an artifact, whose structure is recorded"):
        load_model(tmp_path / "net", LoadOptions(ema=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stem_width": -1}, "damaged"),
        ({"stem_width": "wide"}, "damaged"),
        ({"blocks": [[{"growth": 1 << 62, "bottleneck": 1 << 62}], [{"growth": 1}]]}, "damaged"),
        ({"blocks": 5}, "damaged"),
        ({"surprise": 5}, "damaged"),
        ({"num_classes": 1 << 40}, "classifier.weight has shape"),
    ],
)
def test_damaged_specs(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    chexnet(tmp_path / "a.pth")
    import_model(load_model(tmp_path / "a.pth"), None, tmp_path / "net", LoadOptions())
    path = tmp_path / "net" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["model"]["spec"] |= change
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=reason):
        load_model(tmp_path / "net")


# --- what a code base implies


def test_blue_and_red_are_not_swapped_silently(
    tmp_path: Path, edgedense: Edgedense, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.cli import params

    chexnet(tmp_path / "a.pth")
    loaded = replace(load_model(tmp_path / "a.pth"), preset="caffe")
    monkeypatch.setattr(params, "read_model", lambda *_: loaded)
    words = ["import", tmp_path / "a.pth", "-o", tmp_path / "net"]
    ended = edgedense(*words, "--preprocess", "imagenet")
    assert ended.code == 2
    assert (
        "imagenet gives RGB images, and the checkpoint's code base trains on BGR" in ended.error[0]
    )
    assert edgedense(*words).code == 0
    assert load_model(tmp_path / "net").preprocess == PRESETS["caffe"].to_dict()


def test_presets_are_what_the_code_bases_compute() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    resized = PRESETS["caffe"].pixels(image)
    bgr = (resized.astype(np.float64) - (103.94, 116.78, 123.68)) * 0.017
    found = PRESETS["caffe"].normalise(resized[np.newaxis])[0]
    np.testing.assert_allclose(found, bgr.transpose(2, 0, 1), atol=1e-5)
    grey = np.asarray(image.convert("L"), np.float64)
    wanted = (2 * (grey / 255) - 1) * 1024  # torchxrayvision.datasets.normalize
    np.testing.assert_allclose(PRESETS["xray"](image)[0], wanted, atol=1e-3)
    assert PRESETS["camvid"].input_size == (360, 480)
