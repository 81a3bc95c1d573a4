"""Small networks and images under the names that documents and examples use for real ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("red", "green", "blue")
TOML = """\
input_size = {size}
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
interpolation = "bilinear"
colour = "RGB"
"""


def write_images(folder: Path, count: int, size: int, seed: int) -> Path:
    """A folder a class: noise in which one colour is brighter."""
    random = np.random.default_rng(seed)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            pixels = random.integers(0, 120, (size, size, 3))
            pixels[..., channel] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{k:03}.png")
    return folder


def write_masks(folder: Path, count: int, size: int, seed: int) -> Path:
    """Images with masks: a bright box (class 1) on noise (class 0)."""
    random = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("noise\nbox\n")
    half = size // 2
    for k in range(count):
        pixels, mask = random.integers(0, 120, (size, size, 3)), np.zeros((size, size), np.uint8)
        top, left = random.integers(0, half, 2)
        box = slice(top, top + half), slice(left, left + half)
        pixels[box] += 100
        mask[box] = 1
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{k:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k:03}.png")
    return folder


def trained(spec: Any, train: Path, preprocess: str, epochs: int) -> dict[str, Any]:
    """Weights that tell the classes of ``train`` apart."""
    import torch

    from edgedense.data import batches, load_preprocess, load_set
    from edgedense.densenet.family import initialised

    network, images = initialised(spec, 0).train(), load_set(train)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    steps, prepared = images.has_masks, load_preprocess(preprocess)
    for epoch in range(epochs):
        drawn = images.sample(len(images), epoch)
        for batch in batches(drawn, prepared, 20, mask_classes=2 if steps else None):
            wanted = torch.from_numpy(batch.masks if steps else batch.labels).long()
            loss = torch.nn.functional.cross_entropy(
                network(torch.from_numpy(batch.images)), wanted
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found: dict[str, Any] = network.state_dict()
    return found


def write_classifier(path: Path, train: Path, preprocess: str, **spec: Any) -> Path:
    """A DenseNet-BC in a checkpoint with the keys of torchvision's files (their old spelling)."""
    import torch

    from edgedense.densenet.spec import DenseNetSpec

    asked = {"blocks": [2, 2], "growth": 4, "num_classes": len(CLASSES), **spec}
    made = DenseNetSpec.build(asked.pop("blocks"), asked.pop("growth"), **asked)
    weights = trained(made, train, preprocess, 4)
    old = {re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", name): w for name, w in weights.items()}
    torch.save(old, path)
    return path


def write_segmenter(path: Path, train: Path, preprocess: str) -> Path:
    """An FC-DenseNet in a checkpoint as bfortuner's code writes it."""
    import torch

    from edgedense.densenet.fc_spec import FCDenseNetSpec

    spec = FCDenseNetSpec.build([2, 2], 2, 6, num_classes=2, stem_width=12, dropout=0.0)
    weights = trained(spec, train, preprocess, 6)
    torch.save({"startEpoch": 9, "loss": 0.1, "error": 0.01, "state_dict": weights}, path)
    return path
