import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from prune_nets import logits, trained

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, content_hashes, set_sha256
from edgedense.densenet.checkpoints import Model, load_model
from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.prune.options import METHODS, PruneOptions
from edgedense.prune.stage import prune

MakeSet = Callable[..., ImageSet]
KEYS = {"macs_before", "macs_after", "params_before", "params_after", "seconds", "artifact"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", ["bottleneck", "all"])
def test_the_artifact_is_the_pruned_network(
    model: Model,
    preprocess: Preprocess,
    image_set: MakeSet,
    tmp_path: Path,
    method: str,
    scope: str,
) -> None:
    options = PruneOptions(macs=0.7, scope=scope, method=method, align=4, images=20)
    images = image_set()
    report = prune(model, images, preprocess, tmp_path / "pruned", options)
    read = artifact.read(tmp_path / "pruned")
    loaded = load_model(tmp_path / "pruned")
    golden = np.load(read.file("golden.npz"))
    found = logits(loaded.network, torch.from_numpy(golden["images"]))
    np.testing.assert_array_equal(found.numpy(), golden["logits"])
    assert golden["images"].shape == (8, 1, 16, 16)
    assert report.macs_before == count_macs(model.spec, (16, 16))
    assert report.macs_after == count_macs(loaded.spec, (16, 16)) <= 0.7 * report.macs_before
    assert report.params_after == count_params(loaded.spec) < report.params_before
    assert report.share == report.macs_after / report.macs_before
    assert (report.asked, report.images) == (0.7, 20)
    assert all(g.after % 4 == 0 or g.after == g.before for g in report.groups)
    assert any(g.after < g.before for g in report.groups)
    assert set(report.to_dict()) >= KEYS
    manifest = read.manifest
    assert manifest.stage == "prune"
    assert manifest.report == json.loads(json.dumps(report.to_dict()))
    assert manifest.interface["output_shape"] == [manifest.model["num_classes"]]
    assert manifest.preprocess == preprocess.to_dict()
    assert manifest.options == asdict(options)
    sample = images.sample(20, 0)
    assert manifest.parents == {"model": model.sha256, "calibration": set_sha256(sample)}
    recorded = json.loads(read.file("calibration.json").read_text())
    assert recorded["content"] == list(content_hashes(sample, preprocess))
    assert recorded["source"] == images.source


def test_pruning_twice_gives_the_same_bytes_and_leaves_the_model_alone(
    model: Model, preprocess: Preprocess, image_set: MakeSet, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    files = []
    for name in ("a", "b"):
        options = PruneOptions(method="taylor", scope="all", align=2)
        prune(model, image_set(), preprocess, tmp_path / name, options)
        files.append(artifact.read(tmp_path / name).manifest.files)
    assert files[0]["weights.safetensors"] == files[1]["weights.safetensors"]
    assert all(torch.equal(before[k], v) for k, v in model.network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.network.parameters())


def test_without_images(model: Model, preprocess: Preprocess, tmp_path: Path) -> None:
    options = PruneOptions(reestimate_bn=False)
    report = prune(model, None, preprocess, tmp_path / "pruned", options)
    assert report.images == 0
    assert set(artifact.read(tmp_path / "pruned").manifest.files) == {"weights.safetensors"}
    assert load_model(tmp_path / "pruned").network.spec != model.spec


def test_images_that_are_not_needed_are_only_golden(
    model: Model, preprocess: Preprocess, image_set: MakeSet, tmp_path: Path
) -> None:
    options = PruneOptions(method="magnitude", reestimate_bn=False)
    report = prune(model, image_set(), preprocess, tmp_path / "pruned", options)
    recorded = json.loads((tmp_path / "pruned" / "calibration.json").read_text())
    assert report.images == 0
    assert len(recorded["content"]) == 8


def test_all_of_the_macs_is_the_same_network(
    model: Model, preprocess: Preprocess, image_set: MakeSet, tmp_path: Path
) -> None:
    report = prune(model, image_set(), preprocess, tmp_path / "p", PruneOptions(macs=1.0))
    pruned = load_model(tmp_path / "p").network.state_dict()
    assert report.share == 1.0
    assert not report.reestimated_bn
    assert all(torch.equal(pruned[k], v) for k, v in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"macs": 0.0}, "--macs 0"),
        ({"macs": 1.01}, "--macs 1.01"),
        ({"macs": float("nan")}, "--macs nan"),
        ({"params": 2.0}, "--params 2 is no share of the parameters"),
        ({"iterations": 0}, "--iterations 0"),
        ({"align": 0}, "--align 0"),
        ({"scope": "some"}, "auto, bottleneck, all"),
        ({"method": "luck"}, "reconstruct, magnitude, bn-scale"),
        ({"batch_size": 1}, "2 or more"),
        ({"images": 0}, "1 or more"),
    ],
)
def test_options_that_cannot_work(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PruneOptions(**wrong)


def _refused(tmp_path: Path, said: str, *args: object) -> None:
    with pytest.raises(InputError, match=said):
        prune(args[0], args[1], args[2], tmp_path / "p", *args[3:])
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_bad_input_leaves_nothing_behind(
    model: Model, preprocess: Preprocess, image_set: MakeSet, tmp_path: Path
) -> None:
    unlabelled = image_set(labelled=False)
    taylor = PruneOptions(method="taylor", reestimate_bn=False)
    rgb = Preprocess("rgb", (16, 16), None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
    _refused(tmp_path, "no label", model, unlabelled, preprocess, taylor)
    _refused(tmp_path, "taylor needs calibration images", model, None, preprocess, taylor)
    _refused(tmp_path, "--reestimate-bn needs calibration images", model, None, preprocess)
    _refused(tmp_path, "3 calibration images", model, image_set(3), preprocess)
    _refused(tmp_path, "reads 1 channel", model, image_set(), rgb)
    out_of_reach = PruneOptions(macs=0.05)
    _refused(tmp_path, "of the MACs is the least", model, image_set(), preprocess, out_of_reach)


def test_a_network_without_bottlenecks(
    preprocess: Preprocess, image_set: MakeSet, tmp_path: Path
) -> None:
    spec = DenseNetSpec.build([3, 3], 16, num_classes=3, in_channels=1, bottleneck=False)
    plain = Model(trained(spec), "torchvision", "0" * 64, tmp_path / "plain.pth")
    options = PruneOptions(scope="bottleneck")
    _refused(tmp_path, "--scope all", plain, image_set(), preprocess, options)
    assert prune(plain, image_set(), preprocess, tmp_path / "p").share <= 0.7


def test_an_existing_destination_is_refused(
    model: Model, preprocess: Preprocess, image_set: MakeSet, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="exists already"):
        prune(model, image_set(), preprocess, tmp_path)
