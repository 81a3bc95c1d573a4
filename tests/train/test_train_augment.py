from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgedense.densenet import zoo
from edgedense.train import recipe
from edgedense.train.augment import crop_flip, draws, pad_of, resized_crop_flip
from edgedense.train.schedule import learning_rate


def shift_of(moved: np.ndarray, side: int) -> tuple[int, int, bool]:
    """How far an image whose pixels are their own numbers (from 1) was moved, and if mirrored."""
    rows, columns = np.divmod(moved - 1, side)
    inside = moved > 0
    step = np.diff(columns, axis=1)[inside[:, 1:] & inside[:, :-1]]
    assert len(set(step)) == 1
    mirrored = bool(step[0] == -1)
    place = np.arange(side)[:, None], np.arange(side)[None, :: -1 if mirrored else 1]
    down, right = (rows - place[0])[inside], (columns - place[1])[inside]
    assert len(set(down)) == len(set(right)) == 1  # moved as a whole
    return int(down[0]), int(right[0]), mirrored


def test_crops_move_by_up_to_the_padding_and_every_second_is_mirrored() -> None:
    for side, pad in ((32, 4), (8, 1)):
        numbered = np.arange(1, side * side + 1).reshape(side, side)
        found = [shift_of(crop_flip(numbered, draws(0, 0, k), 0), side) for k in range(600)]
        assert {down for down, _, _ in found} == set(range(-pad, pad + 1))
        assert {right for _, right, _ in found} == set(range(-pad, pad + 1))
        assert 240 < sum(mirrored for _, _, mirrored in found) < 360
        assert pad_of(side) == pad


def test_draws_are_those_of_seed_epoch_and_index() -> None:
    keys = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in (0, 1, 2)]
    first = [draws(*key).random() for key in keys]
    assert first == [draws(*key).random() for key in keys]
    assert len(set(first)) == len(keys)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9999))
def test_resized_crops_show_a_part_of_the_image(width: int, height: int, seed: int) -> None:
    ramp = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    cut = resized_crop_flip(
        Image.fromarray(ramp), (6, 5), Image.Resampling.BILINEAR, np.random.default_rng(seed)
    )
    assert cut.size == (5, 6)
    values = np.asarray(cut)
    assert values.max() <= ramp.max()


def test_resized_crops_cover_8_to_100_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[tuple[int, int, int, int]] = []

    def resize(self: Image.Image, size: object, resample: object, box: tuple) -> Image.Image:
        boxes.append(box)
        return self

    monkeypatch.setattr(Image.Image, "resize", resize)
    image = Image.new("L", (400, 300))
    for seed in range(400):
        random = np.random.default_rng(seed)
        resized_crop_flip(image, (6, 5), Image.Resampling.BILINEAR, random)
    left, top, right, bottom = np.array(boxes).T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 400
    assert bottom.max() <= 300
    share = (right - left) * (bottom - top) / (400 * 300)
    ratio = (right - left) / (bottom - top)
    assert 0.079 < share.min() < 0.12
    assert share.max() > 0.9
    assert 0.74 < ratio.min() < 0.78
    assert 1.28 < ratio.max() < 1.35


def test_the_recipes_are_the_papers() -> None:
    cifar = recipe(zoo.cifar_bc(100, 12))
    assert (cifar.epochs, cifar.batch, cifar.lr) == (300, 64, 0.1)
    assert (cifar.momentum, cifar.weight_decay, cifar.augmentation) == (0.9, 1e-4, "crop-flip")
    large = recipe(zoo.imagenet(121))
    assert (large.epochs, large.batch, large.augmentation) == (90, 256, "resized-crop-flip")

    masks = recipe(zoo.find("fc-densenet56", 11))
    assert (masks.epochs, masks.batch, masks.optimizer, masks.lr) == (200, 4, "rmsprop", 1e-3)
    assert (masks.schedule, masks.weight_decay, masks.momentum) == ("exponential", 1e-4, 0.0)
    by_sgd = recipe(zoo.find("fc-densenet56", 11), "sgd")
    assert (by_sgd.lr, by_sgd.schedule, by_sgd.momentum, by_sgd.epochs) == (0.1, "step", 0.9, 200)

    def rates(o: object, epochs: list[float]) -> list[float]:
        return [learning_rate(o.schedule, o.lr, o.milestones, e, o.epochs) for e in epochs]

    steps = [0.1, 0.1, 0.01, 0.01, 0.001]
    assert rates(cifar, [0, 149.9, 150, 224.9, 225]) == pytest.approx(steps)
    assert rates(large, [0, 29.9, 30, 59.9, 60]) == pytest.approx(steps)


def test_cosine_is_pytorchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for step in range(40):
        assert learning_rate("cosine", 0.3, (), step / 4, 10) == pytest.approx(
            theirs.get_last_lr()[0]
        )
        optimizer.step()
        theirs.step()


def test_exponential_falls_with_each_epoch_alone() -> None:
    optimizer = torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.995)
    for epoch in range(5):
        for part in (0.0, 0.9):
            assert learning_rate("exponential", 1e-3, (), epoch + part, 5) == pytest.approx(
                theirs.get_last_lr()[0]
            )
        optimizer.step()
        theirs.step()
