"""What a checkpoint's code base did otherwise, from the file through every stage to the engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from nets import logits, relative_error, tiny, trained
from PIL import Image

from edgedense import artifact
from edgedense.data import load_preprocess

MEANS, STDS = [0.3, 0.5, 0.7], [0.2, 0.25, 0.3]
EPS = 1e-2  # large enough that the usual one gives other logits


def preprocessing(path: Path, colour: str, channels: int) -> Path:
    path.write_text(
        f"input_size = 8\nresize = 8\nmean = {MEANS[:channels]}\nstd = {STDS[:channels]}\n"
        f'interpolation = "bilinear"\ncolour = "{colour}"\n'
    )
    return path


def photographs(root: Path, classes: int) -> Path:
    """A folder a class; no two channels alike, so that their order shows."""
    random = np.random.default_rng(0)
    for number in range(classes * 8):
        folder = root / str(number % classes)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 80, (8, 8, 3)) + np.array([0, 80, 160])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("colour", "channels", "activation"),
    [("BGR", 3, "softmax"), ("RGB", 3, "log_softmax"), ("L", 1, "op_norm")],
)
def test_facts_reach_the_engine(
    colour: str,
    channels: int,
    activation: str,
    tmp_path: Path,
    edgedense: Callable[..., Any],
) -> None:
    network = trained(replace(tiny(in_channels=channels), eps=EPS))
    state = network.state_dict()
    known: dict[str, Any] = {"activation": activation, "thresholds": []}
    said = ["--activation", activation]
    if activation == "op_norm":  # told by the file itself
        state["op_threshs"] = torch.tensor([0.25, float("nan"), 0.5])
        known["thresholds"], said = [0.25, None, 0.5], []
    torch.save(state, tmp_path / "net.pth")
    toml = preprocessing(tmp_path / "own.toml", colour, channels)
    calib = photographs(tmp_path / "calib", network.spec.num_classes)
    stages = {
        "import": ["--eps", EPS, "--preprocess", toml, *said],
        "prune": ["--macs", 1, "--keep-bn"],
        "quantize": ["--calib", calib],
        "build-engine": ["--target", "cpu", "--precision", "fp32"],
    }
    before: Path = tmp_path / "net.pth"
    for stage, words in stages.items():
        ended = edgedense(stage, before, "-o", tmp_path / stage, *words)
        assert ended.code == 0, ended.err
        before = tmp_path / stage
        check_manifest(before, {**known, "eps": EPS, "in_channels": channels}, toml)
    check_engine(before, network, toml)


def check_manifest(stage: Path, known: dict[str, Any], toml: Path) -> None:
    manifest = artifact.read(stage).manifest
    found = {key: manifest.model["spec"][key] for key in known}
    assert found == known
    assert manifest.preprocess == load_preprocess(str(toml)).to_dict()
    if manifest.interface:
        assert manifest.interface["input_shape"] == [known["in_channels"], 8, 8]
    if manifest.stage in ("quantize", "build-engine"):
        assert manifest.interface["activation"] == known["activation"]
        for path in stage.glob("*.onnx"):
            told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
            assert told["edgedense.activation"] == known["activation"]
            assert json.loads(told["edgedense.preprocess"]) == manifest.preprocess


def check_engine(engine: Path, network: Any, toml: Path) -> None:
    """The images that travel along are in the checkpoint's colours, the logits of its network."""
    import onnxruntime

    with np.load(engine / artifact.GOLDEN_FILE) as golden:
        images, wanted = golden["images"], golden["logits"]
    assert relative_error(wanted, logits(network, images)) < 1e-5
    usual = trained(replace(network.spec, eps=1e-5))
    assert relative_error(wanted, logits(usual, images)) > 1e-4
    session = onnxruntime.InferenceSession(engine / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    assert relative_error(wanted, found) < 1e-4
    preprocess = load_preprocess(str(toml))
    if preprocess.colour != "L":
        std, mean = (np.reshape(value, (3, 1, 1)) for value in (preprocess.std, preprocess.mean))
        pixels = images * std + mean
        blue_first = pixels[:, 0].mean() > pixels[:, 2].mean()
        assert blue_first == (preprocess.colour == "BGR")
