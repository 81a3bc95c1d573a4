"""The recording of a segmentation reference: one class a pixel instead of logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedense.data import ImageSet, Item, Preprocess, load_set
from edgedense.engines.reference import (
    check_classes,
    images_at_once,
    infer,
    load_reference,
    record_reference,
    require_labels,
    save_reference,
)
from edgedense.engines.runner import Interface
from edgedense.errors import InputError

SHAPE = (3, 4, 6)
PREPROCESS = Preprocess("p", (4, 6), None, (0.0,) * 3, (1.0,) * 3, "bilinear", "RGB")


class Colours:
    """Three classes: which colour of a pixel is brightest."""

    name = "colours"

    def __init__(self, batch: tuple[int, int, int] | None = None, poison: float = 0.0) -> None:
        self.interface = Interface("images", SHAPE, "logits", SHAPE, batch)
        self.seen: list[int] = []
        self._poison = poison

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.seen.append(len(images))
        out = images.copy()
        out[:, 1, 2, 3] += self._poison
        return out

    def close(self) -> None: ...


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    random = np.random.default_rng(0)
    for kind, shape in (("images", (4, 6, 3)), ("masks", (4, 6))):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for k in range(7):
            values = random.integers(0, 256 if kind == "images" else 3, shape, dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "set" / kind / f"{k}.png")
    return load_set(tmp_path / "set")


def expected(images: ImageSet) -> np.ndarray:
    pixels = [np.asarray(Image.open(str(item.where))) for item in images.items]
    return np.stack(pixels).argmax(axis=3)


def test_the_class_of_each_pixel_is_kept_and_no_logit(images: ImageSet, tmp_path: Path) -> None:
    recorded = record_reference(Colours(), images, PREPROCESS, batch_size=3)
    assert recorded.classes_map is not None
    assert recorded.classes_map.dtype == np.uint8
    np.testing.assert_array_equal(recorded.classes_map, expected(images))
    assert recorded.logits.shape == (0, 3)
    assert (recorded.classes, recorded.output_shape) == (3, SHAPE)
    save_reference(tmp_path / "reference.npz", recorded)
    found = load_reference(tmp_path / "reference.npz")
    np.testing.assert_array_equal(found.classes_map, recorded.classes_map)  # type: ignore[arg-type]
    assert (found.content, found.name, found.output_shape) == (recorded.content, "colours", SHAPE)
    backwards = found.classes_for(found.content[::-1], [""] * 7)
    np.testing.assert_array_equal(backwards, expected(images)[::-1])
    with pytest.raises(InputError, match=r"x\.png: no reference logits"):
        found.classes_for(["0" * 64], ["x.png"])


def test_a_classifier_recorded_no_classes_of_pixels(tmp_path: Path, images: ImageSet) -> None:
    recorded = record_reference(Colours(), images, PREPROCESS)
    whole = replace(recorded, classes_map=None, logits=np.zeros((7, 3), np.float32))
    assert whole.output_shape == (3,)
    with pytest.raises(InputError, match="no class of each pixel"):
        whole.classes_for(whole.content[:1], ["a"])


def test_masks_are_checked_while_recording(images: ImageSet) -> None:
    mask = images.items[5].mask
    assert mask is not None
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(mask)
    with pytest.raises(InputError, match="the class 9"):
        record_reference(Colours(), images, PREPROCESS)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(images: ImageSet, poison: float) -> None:
    with pytest.raises(InputError, match=r"colours: its logits for images/0.png are not finite"):
        record_reference(Colours(poison=poison), images, PREPROCESS)


@pytest.mark.parametrize(
    ("batch", "calls"), [(None, [5]), ((1, 2, 2), [2, 2, 1]), ((4, 4, 4), [4, 4])]
)
def test_inference_of_maps_keeps_to_the_batch_range(batch: Any, calls: list[int]) -> None:
    pixels = np.random.default_rng(1).random((5, *SHAPE), dtype=np.float32)
    runner = Colours(batch)
    np.testing.assert_array_equal(infer(runner, pixels), pixels)
    assert runner.seen == calls


def test_fewer_images_at_once_where_logits_are_large() -> None:
    large = Interface("images", (3, 512, 1024), "logits", (19, 512, 1024))
    assert images_at_once(large, 32) == 1
    assert images_at_once(replace(large, batch=(4, 4, 8)), 32) == 4
    assert images_at_once(Interface("images", SHAPE, "logits", SHAPE), 32) == 32
    assert images_at_once(Interface("images", SHAPE, "logits", (1000,)), 32) == 32


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: {**a, "classes_map": a["classes_map"].astype(np.int64)},
        lambda a: {**a, "classes_map": a["classes_map"][:6]},
        lambda a: {**a, "classes_map": a["classes_map"][..., 0]},
        lambda a: {**a, "classes_map": a["classes_map"] + np.uint8(1)},
        lambda a: {**a, "classes_map": np.array([None] * 7)},
        lambda a: {**a, "logits": np.zeros((7, 3), np.float32)},
        lambda a: {**a, "labels": a["labels"][:2]},
        lambda a: {k: v for k, v in a.items() if k != "classes_map"},
    ],
)
def test_damaged_recordings_are_named(tmp_path: Path, images: ImageSet, spoil: Any) -> None:
    path = tmp_path / "reference.npz"
    save_reference(path, record_reference(Colours(), images, PREPROCESS))
    with np.load(path) as arrays:
        whole = dict(arrays)
    np.savez(path, **spoil(whole))
    with pytest.raises(InputError, match=r"reference\.npz"):
        load_reference(path)


def test_a_recording_cut_at_any_place_is_refused(tmp_path: Path, images: ImageSet) -> None:
    path = tmp_path / "reference.npz"
    save_reference(path, record_reference(Colours(), images, PREPROCESS))
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"reference\.npz"):
            load_reference(path)


def test_a_set_and_a_network_of_another_task(images: ImageSet, tmp_path: Path) -> None:
    dense = Interface("images", SHAPE, "logits", SHAPE)
    whole = Interface("images", SHAPE, "logits", (3,))
    check_classes(dense, images)
    require_labels(images)
    labelled = ImageSet("labels", (Item(tmp_path / "a.png", 1, "a.png"),))
    check_classes(whole, labelled)
    with pytest.raises(InputError, match="has masks, but the model classifies"):
        check_classes(whole, images)
    with pytest.raises(InputError, match="has no masks, but the model is for segmentation"):
        check_classes(dense, labelled)
    for shape in ((3, 2, 3), (1, 4, 6), (256, 4, 6)):
        with pytest.raises(InputError, match="cannot be judged by masks"):
            check_classes(replace(dense, output_shape=shape), images)


@pytest.mark.parametrize(
    ("names", "void", "classes", "fits"),
    [
        ("abc", (255,), 3, True),
        ("abcv", (3, 255), 3, True),  # trained without void
        ("abcv", (3, 255), 4, True),  # trained with an output for it
        ("vabc", (0, 255), 4, True),
        ("vabc", (0, 255), 3, False),
        ("ab", (255,), 3, False),
        ("abcd", (255,), 3, False),
    ],
)
def test_void_may_or_may_not_have_an_output(
    images: ImageSet, names: str, void: tuple[int, ...], classes: int, fits: bool
) -> None:
    named = replace(images, class_names=tuple(names), void=void)
    interface = Interface("images", SHAPE, "logits", (classes, *SHAPE[1:]))
    if fits:
        check_classes(interface, named)
    else:
        with pytest.raises(InputError, match=f"{len(names)} classes, but the model has {classes}"):
            check_classes(interface, named)
