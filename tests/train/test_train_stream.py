from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgedense.data import ImageSet, Preprocess, load_preprocess, load_set
from edgedense.data.decode import batches
from edgedense.distributed import World
from edgedense.errors import InputError
from edgedense.train import images as images_module
from edgedense.train.images import Source, open_source
from edgedense.train.stream import Drawn, stream


@pytest.fixture
def images(tiny: Any) -> ImageSet:
    return load_set(tiny.train).sample(23, 0)


@pytest.fixture
def preprocess(tiny: Any) -> Preprocess:
    return load_preprocess(str(tiny.toml))


def drawn(source: Source, *, epoch: int = 0, world: World | None = None, **how: Any) -> list[Drawn]:
    return list(stream(source, 8, world or World(), **how).epoch(epoch))


def same(left: list[Drawn], right: list[Drawn]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b)
        for one, two in zip(left, right, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_evaluation_takes_every_image_as_data_gives_it(
    images: ImageSet, preprocess: Preprocess
) -> None:
    wanted = next(batches(images, preprocess, 23))
    for source in (Source(images, preprocess), open_source(images, preprocess, None)):
        found = drawn(source)
        assert [len(batch.targets) for batch in found] == [8, 8, 7]
        np.testing.assert_array_equal(torch.cat([d.images for d in found]), wanted.images)
        np.testing.assert_array_equal(torch.cat([d.targets for d in found]), wanted.labels)
    assert source.content == wanted.content


def test_training_draws_a_new_order_each_epoch_and_full_batches(
    images: ImageSet, preprocess: Preprocess
) -> None:
    training = stream(open_source(images, preprocess, None), 8, World(), seed=3)
    assert len(training) == 2
    orders = []
    for epoch in (0, 1, 0):
        training.order.epoch = epoch
        orders.append([index for draw in training.order for index in draw.indices])
    assert orders[0] == orders[2] != orders[1]
    assert all(len(set(order)) == 16 for order in orders)


@pytest.mark.parametrize("augmentation", ["crop-flip", "resized-crop-flip"])
def test_neither_workers_nor_cache_nor_ranks_change_what_is_drawn(
    images: ImageSet, preprocess: Preprocess, augmentation: Any
) -> None:
    how = {"seed": 5, "augmentation": augmentation, "epoch": 2}
    source = Source(images, preprocess)
    wanted = drawn(source, **how)
    assert same(wanted, drawn(source, workers=2, **how))
    assert same(wanted, drawn(open_source(images, preprocess, None), **how))
    ranks = [drawn(source, world=World(rank, 2), **how) for rank in (0, 1)]
    joined = [
        Drawn(*(torch.cat(halves) for halves in zip(*pair, strict=True)))
        for pair in zip(*ranks, strict=True)
    ]
    assert same(wanted, joined)
    plain = drawn(source, seed=5, epoch=2)
    assert not torch.equal(plain[0].images, wanted[0].images)
    assert torch.equal(plain[0].targets, wanted[0].targets)


def test_ranks_share_the_evaluation_images(images: ImageSet, preprocess: Preprocess) -> None:
    source = open_source(images, preprocess, None)
    shares = [drawn(source, world=World(rank, 4)) for rank in range(4)]
    assert [sum(len(d.targets) for d in share) for share in shares] == [6, 6, 6, 5]


def test_masks_move_with_their_images(tmp_path: Path, preprocess: Preprocess) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(8):
        mask = random.integers(0, 2, (8, 8)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{k}.png")
        Image.fromarray(np.stack([mask * 255] * 3, -1)).save(tmp_path / "images" / f"{k}.png")
    images = load_set(tmp_path)
    for source in (Source(images, preprocess, 2), open_source(images, preprocess, 2)):
        (batch,) = drawn(source, seed=1, augmentation="crop-flip")
        bright = batch.images[:, 0] > 0.5
        judged = batch.targets != 255
        assert torch.equal(batch.targets[judged] == 1, bright[judged])
        assert 0 < (~judged).sum() < judged.sum()  # what was shifted in is void


def test_sets_beyond_the_limit_are_read_again(
    images: ImageSet, preprocess: Preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "CACHE_BYTES", 23 * 8 * 8 * 3)
    assert open_source(images, preprocess, None).pixels is not None
    monkeypatch.setattr(images_module, "CACHE_BYTES", 23 * 8 * 8 * 3 - 1)
    assert open_source(images, preprocess, None).pixels is None


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(
    images: ImageSet, preprocess: Preprocess, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = replace(images.items[3], where=tmp_path / "bad.png")
    broken = replace(images, items=(*images.items[:3], bad, *images.items[4:]))
    with pytest.raises(InputError) as caught:
        drawn(Source(broken, preprocess), workers=workers)
    assert "bad.png" in caught.value.what
    assert "\n" not in caught.value.what
