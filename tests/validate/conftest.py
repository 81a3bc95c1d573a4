"""Engines that look their logits up: an image is the number of its row, spelled in its pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgedense.data import ImageSet, Preprocess, load_set
from edgedense.engines.runner import Interface

SHAPE = (1, 2, 2)


class TableRunner:
    def __init__(self, logits: np.ndarray, name: str, batch: tuple[int, int, int] | None = None):
        self.logits = logits.astype(np.float32)
        self.name = name
        self.interface = Interface("input", SHAPE, "logits", (logits.shape[1],), batch)
        self.calls: list[int] = []
        self._buffer = np.zeros((256, logits.shape[1]), np.float32)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32
        assert images.shape[1:] == SHAPE
        digits = np.rint(images.reshape(len(images), 4) * 255).astype(np.int64)
        rows = digits @ np.array([1, 256, 65536, 0])
        self.calls.append(len(images))
        out = self._buffer[: len(images)]
        out[:] = self.logits[rows]
        return out

    def close(self) -> None:
        pass


@pytest.fixture
def preprocess() -> Preprocess:
    return Preprocess("tiny", (2, 2), None, (0.0,), (1.0,), "nearest", "L")


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., ImageSet]:
    def make(labels: np.ndarray | None, n: int | None = None, first: int = 0) -> ImageSet:
        n = len(labels) if labels is not None else n
        rows = np.arange(first, first + n)
        pixels = np.stack([rows % 256, rows // 256 % 256, rows // 65536, rows * 0], axis=1)
        arrays = {"images": pixels.astype(np.uint8).reshape(n, 2, 2)}
        if labels is not None:
            arrays["labels"] = np.asarray(labels, np.int64)
        path = tmp_path / f"set-{first}-{n}.npz"
        np.savez(path, **arrays)
        return load_set(path)

    return make


def one_hot(answers: np.ndarray, classes: int = 10) -> np.ndarray:
    return 5 * np.eye(classes, dtype=np.float32)[answers]


def pair(n: int, lost: int, gained: int, right: int | None = None) -> tuple[np.ndarray, ...]:
    """Labels, reference and engine logits with exactly so many lost and gained answers."""
    right = n - gained if right is None else right
    labels = np.arange(n) % 10
    reference, engine = labels.copy(), labels.copy()
    reference[right:] = (labels[right:] + 1) % 10
    engine[right:] = (labels[right:] + 1) % 10
    engine[:lost] = (labels[:lost] + 2) % 10
    engine[right : right + gained] = labels[right : right + gained]
    return labels, one_hot(reference), one_hot(engine)


@pytest.fixture
def table_runner() -> type[TableRunner]:
    return TableRunner


@pytest.fixture
def paired_logits() -> Callable[..., tuple[np.ndarray, ...]]:
    return pair
