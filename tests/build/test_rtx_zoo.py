"""Every network of the zoo through TensorRT for RTX, in every precision: for the night."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgedense import artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.data import Preprocess, load_set
from edgedense.densenet.checkpoints import Model
from edgedense.densenet.family import Spec, initialised
from edgedense.densenet.zoo import ENTRIES, Entry
from edgedense.environment import installed
from edgedense.quantize import QuantizeOptions, quantize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.rtx,
    pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed"),
]
# the graph is the same for every size, and a small one is soon calibrated; two pixels a side are
# left behind the transitions
SIDES = {"imagenet": 64, "cifar": 32, "segmentation": 64}
LADDER = ("int8", "fp16", "fp32")


def settled(spec: Spec, noise: np.ndarray) -> torch.nn.Module:
    """Random weights, and the BN statistics that they have: deep networks overflow without."""
    network = initialised(spec, 0).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.from_numpy(noise).permute(0, 3, 1, 2) / 64 - 2)
    return network.eval()


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.spec], ids=lambda entry: entry.name)
def test_every_network_builds_in_every_precision(entry: Entry, tmp_path: Path) -> None:
    assert entry.spec is not None
    side = SIDES[entry.group]
    noise = np.random.default_rng(0).integers(0, 256, (16, side, side, 3), np.uint8)
    (tmp_path / "images" / "noise").mkdir(parents=True)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "images" / "noise" / f"{number}.png")
    preprocess = Preprocess("zoo", (side, side), None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
    model = Model(settled(entry.spec, noise), "random", "0" * 64, tmp_path / "net.pth")
    options = QuantizeOptions(calibrator="max", effort="fast", images=16)
    quantize(model, load_set(tmp_path / "images"), preprocess, tmp_path / "q", options)
    source = artifact.read(tmp_path / "q")
    weights = {}
    for precision in LADDER:
        report = build_engine(source, tmp_path / precision, BuildOptions("rtx-ampere", precision))
        weights[precision] = report.weights_bytes or 0
    assert 0 < weights["int8"] < weights["fp16"] < weights["fp32"]
    several = BuildOptions("rtx-any", sms=(86, 89, 120))
    assert build_engine(source, tmp_path / "several", several).sms == (86, 89, 120)
