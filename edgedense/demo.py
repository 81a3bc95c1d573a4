"""The main job on embedded real data: scikit-learn's handwritten digits, no download.

A small DenseNet-BC is trained for a minute, so that everything after it has a real network to
work on. Data: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from edgedense import artifact
from edgedense.data import Batch, ImageSet, Preprocess, batches, load_set
from edgedense.densenet.family import initialised
from edgedense.densenet.network import DenseNet
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

TRAIN_IMAGES = 1000  # the other 797 digits are for evaluation
CALIBRATION = "digits.json"


@dataclass(frozen=True)
class Digits:
    """Where the demo's data and network lie; ``calibration`` is a part of ``train``."""

    train: ImageSet
    calibration: ImageSet
    evaluation: ImageSet
    checkpoint: Path


def prepare(directory: Path, preprocess: Preprocess, progress: Progress = SILENT) -> Digits:
    """Write the digits as PNG files and train the network; what is there already is kept."""
    images, checkpoint = directory / "digits", directory / "densenet_bc_digits.pth"
    with artifact.disk_errors(directory):
        images.parent.mkdir(parents=True, exist_ok=True)
        _write_images(images)
    train, evaluation = load_set(images / "train"), load_set(images / "test")
    calibration = load_set(calibration_manifest(), root=images / "train")
    if not checkpoint.exists():
        network = train_network(train, preprocess, progress=progress)
        with artifact.disk_errors(checkpoint):
            _save(network, checkpoint)
    return Digits(train, calibration, evaluation, checkpoint)


def calibration_manifest() -> Path:
    """The embedded calibration set: in the wheel, or beside the package in a checkout."""
    here = Path(__file__).parent
    for folder in (here / "calibration", here.parent / "calibration"):
        if (folder / CALIBRATION).is_file():
            return folder / CALIBRATION
    raise InputError("calibration/digits.json is missing", "Install edgedense again.")


def small_densenet() -> DenseNetSpec:
    """DenseNet-BC with three blocks of four layers, k = 12, for 8x8 grey images."""
    return DenseNetSpec.build((4, 4, 4), 12, num_classes=10, in_channels=1)


def train_network(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    epochs: int = 12,
    seed: int = 0,
    progress: Progress = SILENT,
) -> DenseNet:
    """Train with Nesterov SGD, weight decay 1e-4 and a cosine schedule (paper, section 4.2)."""
    network = initialised(small_densenet(), seed).train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network only waits for a second thread
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    steps = epochs * math.ceil(len(images) / _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    stream = _epochs(images, preprocess, epochs, seed)
    for batch in progress.track(stream, "training a small DenseNet", steps):
        logits = network(torch.from_numpy(batch.images))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    return network.eval()


_BATCH = 50


def _epochs(images: ImageSet, preprocess: Preprocess, epochs: int, seed: int) -> Iterator[Batch]:
    for epoch in range(epochs):
        yield from batches(images.sample(len(images), seed + epoch), preprocess, _BATCH)


def _write_images(directory: Path) -> None:
    from sklearn.datasets import load_digits

    if directory.is_dir():
        return
    digits = load_digits()
    partial = directory.parent / f".{directory.name}.partial-{os.getpid()}"
    try:
        for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            split = "train" if number < TRAIN_IMAGES else "test"
            folder = partial / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            grey = np.rint(pixels * (255 / 16)).astype(np.uint8)
            Image.fromarray(grey).save(folder / f"{number:04d}.png")
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save(network: DenseNet, path: Path) -> None:
    data = io.BytesIO()  # on a full disk PyTorch's own writer raises RuntimeError
    torch.save(network.state_dict(), data)
    artifact.write_whole(path, data.getvalue())
