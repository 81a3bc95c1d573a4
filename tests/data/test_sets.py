from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.data import ImageSet, Item, load_set, set_sha256
from edgedense.errors import InputError


def image_set(labels: list[int | None], names: tuple[str, ...] = ()) -> ImageSet:
    items = (Item(Path(f"{k}.png"), label, f"{k}.png") for k, label in enumerate(labels))
    return ImageSet("somewhere", tuple(items), names)


LABELS = st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=60)


@given(LABELS, st.integers(1, 80), st.integers(0, 3))
def test_sample_is_a_stratified_subset(labels: list[int | None], n: int, seed: int) -> None:
    images = image_set(labels)
    sample = images.sample(n, seed)
    assert len(sample) == min(n, len(labels))
    assert len(set(sample.items)) == len(sample)
    assert set(sample.items) <= set(images.items)
    taken = Counter(item.label for item in sample.items)
    for label, size in Counter(labels).items():
        assert abs(taken[label] - size * len(sample) / len(labels)) < 1


@given(LABELS, st.integers(1, 80), st.randoms(use_true_random=False))
def test_sample_does_not_depend_on_the_order_of_files(
    labels: list[int | None], n: int, random: Any
) -> None:
    images = image_set(labels)
    items = list(images.items)
    random.shuffle(items)
    assert replace(images, items=tuple(items)).sample(n, 7).items == images.sample(n, 7).items


FIXED = [f"{k}.png" for k in (17, 8, 18, 6, 4, 28)]


def test_sample_depends_on_the_seed_and_is_the_same_everywhere() -> None:
    images = image_set([k % 3 for k in range(30)])
    names = [item.name for item in images.sample(6, 0).items]
    assert names == FIXED
    assert names != [item.name for item in images.sample(6, 1).items]


def test_sample_of_a_small_share_does_not_favour_the_first_classes() -> None:
    images = image_set(list(range(100)))
    labels = images.sample(10, 0).labels
    assert labels.max() > 50
    assert set(labels) != set(images.sample(10, 1).labels)


def test_sample_keeps_repeated_images_apart() -> None:
    item = Item(Path("a.png"), 0, "a.png")
    assert len(ImageSet("s", (item, item, item)).sample(2, 0)) == 2


@pytest.mark.parametrize("n", [0, -1])
def test_sample_of_nothing_is_refused(n: int) -> None:
    with pytest.raises(InputError, match="somewhere"):
        image_set([0]).sample(n, 0)


def test_labels_are_int64_with_minus_one_for_unknown() -> None:
    labels = image_set([2, None, 0]).labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [2, -1, 0]


def test_check_labels() -> None:
    image_set([0, 1], ("a", "b", "c")).check_labels(3)
    image_set([0, 1]).check_labels(10)  # numbers alone: the others may just not occur
    with pytest.raises(InputError, match="3 classes, but the model has 10"):
        image_set([0, 1], ("a", "b", "c")).check_labels(10)
    with pytest.raises(InputError, match="11 classes, but the model has 10"):
        image_set([0, 10]).check_labels(10)
    with pytest.raises(InputError, match=r"1\.png has no label"):
        image_set([0, None]).check_labels(10)


def test_identity_changes_with_each_thing_that_matters(tree: Any) -> None:
    root = tree({"a": 2, "b": 2})
    seen = [set_sha256(load_set(root))]
    assert set_sha256(load_set(root)) == seen[0]
    file = root / "a" / "000.png"
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    seen.append(set_sha256(load_set(root)))
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    seen.append(set_sha256(load_set(root)))
    (root / "a" / "001.png").rename(root / "a" / "002.png")
    seen.append(set_sha256(load_set(root)))
    (root / "b").rename(root / "c")
    seen.append(set_sha256(load_set(root)))
    images = load_set(root)
    seen.append(set_sha256(replace(images, class_names=("x", "y"))))
    relabelled = replace(images.items[0], label=1)
    seen.append(set_sha256(replace(images, items=(relabelled, *images.items[1:]))))
    seen.append(set_sha256(images.sample(2, 0)))
    assert len(set(seen)) == len(seen)


def test_identity_survives_moving_the_whole_tree(tree: Any) -> None:
    root = tree({"a": 2, "b": 2})
    before = set_sha256(load_set(root))
    assert set_sha256(load_set(root.rename(root.parent / "elsewhere"))) == before


def test_identity_of_an_npz_is_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    images = np.zeros((3, 4, 4), np.uint8)
    np.savez(path, images=images)
    whole = set_sha256(load_set(path))
    part = set_sha256(load_set(path).sample(2, 0))
    os.utime(path, ns=(0, 0))
    assert set_sha256(load_set(path)) == whole != part
    images[0, 0, 0] = 1
    np.savez(path, images=images)
    assert set_sha256(load_set(path)) != whole


def test_identity_of_a_missing_file() -> None:
    with pytest.raises(InputError, match=r"0\.png: No such file"):
        set_sha256(image_set([0]))
