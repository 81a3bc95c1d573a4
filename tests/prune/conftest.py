from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prune_nets import SIZE, trained

from edgedense.data import ImageSet, Preprocess, load_set
from edgedense.densenet.checkpoints import Model
from edgedense.densenet.spec import DenseNetSpec


@pytest.fixture
def model(tmp_path: Path) -> Model:
    spec = DenseNetSpec.build([2, 2], 8, num_classes=3, in_channels=1, dropout=0.2)
    return Model(trained(spec), "torchvision", "0" * 64, tmp_path / "model.pth")


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess("tiny", SIZE, None, (0.5,), (0.25,), "bilinear", "L")


@pytest.fixture
def image_set(tmp_path: Path) -> Callable[..., ImageSet]:
    """Write grey images to an .npz; without labels where ``labelled`` is False."""

    def write(count: int = 24, labelled: bool = True) -> ImageSet:
        images = np.random.default_rng(0).integers(0, 256, (count, *SIZE), dtype=np.uint8)
        path = tmp_path / f"set{count}{labelled}.npz"
        labels = {"labels": np.arange(count) % 3} if labelled else {}
        np.savez(path, images=images, **labels)
        return load_set(path)

    return write
