"""The whole job for a segmentation network, through the command line, on images with masks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgedense import artifact
from edgedense.densenet.family import initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.environment import installed

SIZE = 16
Call = Callable[..., Any]
TOML = f"""\
input_size = {SIZE}
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
interpolation = "bilinear"
colour = "RGB"
"""


def draw(folder: Path, count: int, seed: int) -> None:
    """A bright rectangle (class 1) on noise (class 0); one border row is void."""
    random = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("noise\nbox\n")
    for k in range(count):
        pixels = random.integers(0, 120, (SIZE, SIZE, 3))
        mask = np.zeros((SIZE, SIZE), np.uint8)
        top, left = random.integers(0, SIZE // 2, 2)
        box = slice(top, top + 8), slice(left, left + 8)
        pixels[box] += 100
        mask[box] = 1
        mask[0] = 255
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{k:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k:03}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, preprocessing and a checkpoint as bfortuner's code saves one."""
    root = tmp_path_factory.mktemp("segmentation")
    draw(root / "train", 40, seed=0)
    draw(root / "test", 30, seed=1)
    (root / "pre.toml").write_text(TOML)
    torch.save(
        {"startEpoch": 9, "loss": 0.1, "error": 0.01, "state_dict": learned(root)},
        root / "weights-9-0.100-0.010.pth",
    )
    return root


def learned(root: Path) -> dict[str, torch.Tensor]:
    from edgedense.data import batches, load_preprocess, load_set

    spec = FCDenseNetSpec.build([2, 2], 2, 6, num_classes=2, stem_width=12, dropout=0.0)
    network = initialised(spec, 0).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    images, preprocess = load_set(root / "train"), load_preprocess(str(root / "pre.toml"))
    for epoch in range(6):
        for batch in batches(images.sample(len(images), epoch), preprocess, 10, mask_classes=2):
            assert batch.masks is not None
            target = torch.from_numpy(batch.masks).long()
            loss = torch.nn.functional.cross_entropy(
                network(torch.from_numpy(batch.images)), target, ignore_index=255
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.state_dict()


@pytest.fixture
def checkpoint(place: Path) -> Path:
    return place / "weights-9-0.100-0.010.pth"


def test_inspect_says_what_it_is(checkpoint: Path, edgedense: Call) -> None:
    ended = edgedense("inspect", checkpoint, "--json")
    found = json.loads(ended.out)
    assert (found["family"], found["scheme"]) == ("FC-DenseNet-16", "bfortuner")
    assert (found["task"], found["activation"]) == ("segmentation", "log_softmax")


def test_the_stages_one_by_one(
    place: Path, checkpoint: Path, tmp_path: Path, edgedense: Call
) -> None:
    pruned, int8, engine = (tmp_path / name for name in ("pruned", "int8", "engine"))
    train, test = place / "train", place / "test"
    asked = ("--preprocess", place / "pre.toml", "--align", "2")
    ended = edgedense("prune", checkpoint, "-o", pruned, "--calib", train, "--macs", "0.8", *asked)
    assert ended.code == 0, ended.err
    ended = edgedense(
        *("quantize", pruned, "-o", int8, "--calib", train),
        *("--eval", test, "--reference", checkpoint),
    )
    assert ended.code == 0, ended.err
    made = artifact.read(int8)
    assert made.manifest.interface["output_shape"] == [2, SIZE, SIZE]
    assert made.manifest.interface["activation"] == "log_softmax"
    with np.load(int8 / "golden.npz") as golden:
        assert golden["logits"].shape == (2, 2, SIZE, SIZE)
    assert edgedense("build-engine", int8, "-o", engine, "--target", "cpu").code == 0
    ended = edgedense("validate", engine, "--data", test, "--max-drop", "10", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["task"] == "segmentation"
    assert found["reference"]["miou"] > 90
    assert found["engine"]["miou"] > 80
    assert set(found["engine"]["iou"]) == {"noise", "box"}
    assert found["agreement"] > 95
    live = edgedense(
        *("validate", engine, "--data", test, "--reference", checkpoint, "--max-drop", "10"),
        "--json",
    )
    again = json.loads(live.out)
    assert {**again, "logit_sqnr_db": None, "reference_name": ""} == {**found, "reference_name": ""}
    assert again["logit_sqnr_db"] > 5


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_deploy_does_all_of_it(
    place: Path, checkpoint: Path, tmp_path: Path, edgedense: Call
) -> None:
    run = tmp_path / "run"
    ended = edgedense(
        *("deploy", checkpoint, "--calib", place / "train", "--eval", place / "test", "-o", run),
        *("--preprocess", place / "pre.toml", "--target", "rtx-ada", "--max-drop", "5"),
    )
    assert ended.code == 0, ended.err
    assert "mean IoU" in ended.err
    assert (run / "engine-rtx-ada" / "model.engine").stat().st_size > 0
    report = (run / "report.md").read_text()
    assert "FP32 mIoU %" in report
    assert "verdict: PASS" in ended.err


def test_two_processes_count_as_one_does(place: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Calibration, recorded classes and mean IoU under torchrun."""
    made = {}
    for name, launcher in (
        ("one", [sys.executable, "-m", "edgedense"]),
        ("two", [*TORCHRUN, "--nproc_per_node", "2", "-m", "edgedense"]),
    ):
        int8, engine = tmp_path / f"int8-{name}", tmp_path / f"engine-{name}"
        call(launcher, "quantize", checkpoint, "-o", int8, "--calib", place / "train",
             "--eval", place / "test", "--preprocess", place / "pre.toml",
             "--placement", "block")  # fmt: skip
        call([sys.executable, "-m", "edgedense"], "build-engine", int8, "-o", engine,
             "--target", "cpu")  # fmt: skip
        ended = call(launcher, "validate", engine, "--data", place / "test", "--json",
                     "--max-drop", "20")  # fmt: skip
        with np.load(int8 / "reference.npz") as reference:
            recorded = {key: reference[key] for key in ("content", "labels", "classes_map")}
        made[name] = (json.loads(ended.stdout), recorded, (int8 / "int8.fp32.onnx").read_bytes())
    assert made["one"][0] == made["two"][0]
    assert made["one"][2] == made["two"][2]
    for key, values in made["one"][1].items():
        np.testing.assert_array_equal(values, made["two"][1][key])


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def call(launcher: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [*launcher, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    return ended
