from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write a class-per-folder tree of random RGB PNG files; each image's pixels are unique."""

    def write(classes: dict[str, int], size: tuple[int, int] = (8, 8), name: str = "tree") -> Path:
        random = np.random.default_rng(0)
        root = tmp_path / name
        for label, count in classes.items():
            (root / label).mkdir(parents=True)
            for k in range(count):
                pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / label / f"{k:03}.png")
        return root

    return write
