from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedense.data import load_set
from edgedense.errors import InputError


def names(path: Path) -> list[str]:
    return [item.name for item in load_set(path).items]


def test_tree_labels_are_the_sorted_folders(tree: Any) -> None:
    images = load_set(tree({"dog": 1, "cat": 2, "Ant": 1}))
    assert images.class_names == ("Ant", "cat", "dog")
    found = [(item.name, item.label) for item in images.items]
    assert found == [("Ant/000.png", 0), ("cat/000.png", 1), ("cat/001.png", 1), ("dog/000.png", 2)]
    assert all(isinstance(i.where, Path) and i.where.is_file() for i in images.items)


def test_tree_goes_deep_takes_any_case_and_skips_what_is_no_image(tree: Any) -> None:
    root = tree({"a": 1})
    image = Image.new("RGB", (2, 2))
    (root / "a" / "deep" / "er").mkdir(parents=True)
    image.save(root / "a" / "deep" / "er" / "x.JPeG")
    image.save(root / "a" / ".hidden.png")
    (root / ".git").mkdir()
    image.save(root / ".git" / "x.png")
    (root / "a" / "notes.txt").write_text("hello")
    (root / "README.md").write_text("hello")
    assert names(root) == ["a/000.png", "a/deep/er/x.JPeG"]


def test_folder_of_loose_images_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.bmp"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    images = load_set(tmp_path)
    assert [(i.name, i.label) for i in images.items] == [("a.bmp", None), ("b.png", None)]
    assert images.class_names == ()


def test_loops_of_links_end_and_linked_classes_are_followed(tree: Any) -> None:
    root = tree({"a": 1})
    outside = tree({"x": 2}, name="outside")
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "b").symlink_to(outside / "x")
    assert names(root) == ["a/000.png", "b/000.png", "b/001.png"]


def test_broken_link_to_an_image_is_kept_for_decoding_to_name(tree: Any) -> None:
    root = tree({"a": 1})
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    assert names(root) == ["a/000.png", "a/gone.png"]


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_set(tmp_path / "nowhere")


def test_unknown_file(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"images\.tar is no image set"):
        load_set(path)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no images in .* \(it is empty\)"):
        load_set(tmp_path)


def test_folder_with_one_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match=r"no images in .* \(found a\.txt\)"):
        load_set(tmp_path)


def test_class_folders_without_any_image(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"no images in .* \(found cat, dog\)"):
        load_set(tmp_path)


def test_one_empty_class_folder_is_named(tree: Any) -> None:
    root = tree({"a": 1})
    (root / "b").mkdir()
    (root / "b" / "list.txt").write_text("")
    with pytest.raises(InputError, match=r"class folder .*/b \(found list\.txt\)"):
        load_set(root)


def test_images_beside_class_folders(tree: Any) -> None:
    root = tree({"a": 1})
    Image.new("L", (2, 2)).save(root / "stray.png")
    with pytest.raises(InputError, match=r"beside its class folders: stray\.png"):
        load_set(root)


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.savez(path, images=images, labels=np.array([1, -1]), class_names=np.array(["a", "b"]))
    found = load_set(path)
    assert [(i.where, i.label, i.name) for i in found.items] == [
        (0, 1, "set.npz[0]"),
        (1, None, "set.npz[1]"),
    ]
    assert found.class_names == ("a", "b")


IMAGES = np.zeros((2, 3, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, r"no array 'images' \(found: x\)"),
        ({}, r"no array 'images' \(found: nothing\)"),
        ({"images": np.zeros((2, 3, 8, 8), np.float32)}, "images are float32"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, r"images have shape \(2, 3, 8, 8\)"),
        ({"images": np.zeros((2, 3), np.uint8)}, r"images have shape \(2, 3\)"),
        ({"images": np.zeros((0, 3, 3), np.uint8)}, "no images"),
        ({"images": np.zeros((2, 3, 3), np.uint32)}, "images are uint32"),
        ({"images": np.array([IMAGES, None], object)}, "damaged or holds objects"),
        ({"images": IMAGES, "labels": np.zeros(3, int)}, r"labels are int64 \(3,\)"),
        ({"images": IMAGES, "labels": np.zeros(2)}, "labels are float64"),
        ({"images": IMAGES, "labels": np.array([0, -2])}, r"labels\[1\] is -2"),
        (
            {"images": IMAGES, "labels": np.array([2, 0]), "class_names": np.array(["a", "b"])},
            r"labels\[0\] is 2",
        ),
    ],
)
def test_npz_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_set(path)
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_npz_damaged_at_any_place_is_an_input_error_or_still_good(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(path, images=IMAGES, labels=np.zeros(2, int))
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + b"\xff" + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                load_set(path)
            except InputError:
                refused += 1
    assert refused > len(whole)


def test_npz_that_is_a_single_array(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with path.open("wb") as stream:
        np.save(stream, IMAGES)
    with pytest.raises(InputError, match="single array"):
        load_set(path)
