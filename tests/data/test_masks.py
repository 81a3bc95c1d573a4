"""Image and mask folders: which belongs to which, and what becomes of the values."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgedense.data import Preprocess, batches, classes_file, load_set, set_sha256
from edgedense.errors import InputError

PREPROCESS = Preprocess("p", (4, 4), None, (0.0,) * 3, (1.0,) * 3, "bilinear", "RGB")
VALUES = np.array([[0, 1, 2, 255]] * 4, np.uint8)


def save(path: Path, values: np.ndarray, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **more)


def palette(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values, "L").convert("L")
    found = Image.frombytes("P", image.size, image.tobytes())
    found.putpalette([k * 7 % 256 for k in range(768)])
    return found


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., Path]:
    """A folder with images/ and masks/; each mask is VALUES unless it is given."""

    def write(names: list[str], values: np.ndarray = VALUES, size: int = 4) -> Path:
        for name in names:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (size, size, 3))
            save(tmp_path / "set/images" / f"{name}.png", pixels.astype(np.uint8))
            save(tmp_path / "set/masks" / f"{name}.png", values)
        return tmp_path / "set"

    return write


def masks_of(path: Path, classes: int = 3, preprocess: Preprocess = PREPROCESS) -> np.ndarray:
    images = load_set(path)
    found = [batch.masks for batch in batches(images, preprocess, 3, mask_classes=classes)]
    return np.concatenate([masks for masks in found if masks is not None])


def test_pairs_are_found_by_name_in_folders_of_any_depth(pairs: Any) -> None:
    root = pairs(["a", "deep/b", "a.b"])
    (root / "masks/deep/b.png").unlink()
    save(root / "masks/deep/b.BMP", VALUES, format="BMP")
    (root / "masks/notes.txt").write_text("hello")
    save(root / "masks/without_image.png", VALUES)
    images = load_set(root)
    assert images.has_masks
    assert [(i.name, i.mask) for i in images.items] == [
        ("images/a.b.png", root / "masks/a.b.png"),
        ("images/a.png", root / "masks/a.png"),
        ("images/deep/b.png", root / "masks/deep/b.BMP"),
    ]
    assert [i.label for i in images.items] == [None] * 3
    np.testing.assert_array_equal(masks_of(root), np.stack([VALUES] * 3))


def test_batches_keep_order_of_images_and_masks(pairs: Any) -> None:
    root = pairs([f"{k:02}" for k in range(21)])
    for k in range(21):
        save(root / f"masks/{k:02}.png", np.full((4, 4), k, np.uint8))
    np.testing.assert_array_equal(masks_of(root, 21)[:, 0, 0], np.arange(21))


def test_masks_stay_closed_unless_they_are_asked(pairs: Any) -> None:
    root = pairs(["a"])
    (root / "masks/a.png").write_bytes(b"no image")
    (batch,) = batches(load_set(root), PREPROCESS, 4)
    assert batch.masks is None
    with pytest.raises(InputError, match=r"masks/a\.png is no image"):
        masks_of(root)


def test_the_layout_of_segnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("train", "test"):
        save(tmp_path / part / "1.png", np.zeros((4, 4, 3), np.uint8))
        save(tmp_path / f"{part}annot" / "1.png", VALUES)
    (tmp_path / "classes.txt").write_text("Sky\nRoad\nCar\nUnlabelled\n\n")
    images = load_set(tmp_path / "test")
    assert images.class_names == ("Sky", "Road", "Car", "Unlabelled")
    assert images.void == (3, 255)
    assert [(i.name, i.mask) for i in images.items] == [("1.png", tmp_path / "testannot/1.png")]
    monkeypatch.chdir(tmp_path / "test")
    assert load_set(Path()).has_masks
    with pytest.raises(InputError, match="images beside their masks") as caught:
        load_set(tmp_path)
    assert str(tmp_path / "test") in caught.value.remedy
    assert not load_set(tmp_path / "testannot").has_masks  # a plain folder, as any other


def test_csv_of_pairs(tmp_path: Path) -> None:
    save(tmp_path / "x/a_leftImg8bit.png", np.zeros((4, 4, 3), np.uint8))
    save(tmp_path / "y/a_gtFine.png", VALUES)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    path = tmp_path / "set.csv"
    path.write_text("mask, path\ny/a_gtFine.png, x/a_leftImg8bit.png\n")
    images = load_set(path)
    assert images.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(masks_of(path), [VALUES])
    path.write_text("path,mask\nx/a_leftImg8bit.png,\n")
    with pytest.raises(InputError, match="line 2: path or mask is missing"):
        load_set(path)
    path.write_text("path,mask,label\na.png,b.png,1\n")
    with pytest.raises(InputError, match="'label' and a column 'mask'"):
        load_set(path)
    path.write_text("path,mask\nx/a_leftImg8bit.png,y/gone.png\n")
    with pytest.raises(InputError, match=r"y/gone\.png cannot be read"):
        masks_of(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("paletted", [False, True])
def test_values_are_class_indices_in_every_form(
    tmp_path: Path, suffix: str, paletted: bool
) -> None:
    save(tmp_path / "images/a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "masks").mkdir()
    (palette(VALUES) if paletted else Image.fromarray(VALUES)).save(tmp_path / f"masks/a.{suffix}")
    np.testing.assert_array_equal(masks_of(tmp_path), [VALUES])


def test_palette_with_few_bits(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "masks").mkdir()
    values = VALUES % 4
    palette(values).save(tmp_path / "masks/a.png", bits=2)
    np.testing.assert_array_equal(masks_of(tmp_path, 4), [values])


def grey_2_bit() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data))

    head = pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    body = zlib.compress(b"\x00\x1b")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def colours(path: Path) -> None:
    save(path, np.zeros((4, 4, 3), np.uint8))


def deep(path: Path) -> None:
    save(path, np.zeros((4, 4), np.uint16))


def hidden_jpeg(path: Path) -> None:
    save(path, VALUES, format="JPEG")


def small(path: Path) -> None:
    save(path, VALUES[:3])


def too_high(path: Path) -> None:
    save(path, np.full((4, 4), 7, np.uint8))


def few_bits(path: Path) -> None:
    path.write_bytes(grey_2_bit())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (colours, "pixel mode 'RGB', not of class indices"),
        (deep, "pixel mode 'I"),
        (hidden_jpeg, "a mask cannot be JPEG"),
        (small, r"4x3 pixels \(width x height\), but its image images/a.png has 4x4"),
        (too_high, "the class 7, but the model's 3 classes end at 2"),
        (few_bits, "grey values are not 8-bit"),
        (cut, "cannot be read as an image"),
        (Path.unlink, "No such file"),
    ],
)
def test_masks_that_cannot_be_used_are_named(pairs: Any, spoil: Any, message: str) -> None:
    root = pairs(["a"])
    images = load_set(root)
    spoil(root / "masks/a.png")
    with pytest.raises(InputError, match=message) as caught:
        list(batches(images, PREPROCESS, 2, mask_classes=3))
    assert str(root / "masks/a.png") in caught.value.what
    assert caught.value.remedy
    assert ("0, 100, 200" in caught.value.remedy) == (spoil is too_high)


def test_jpeg_inside_tiff_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", np.zeros((16, 16, 3), np.uint8))
    save(tmp_path / "masks/a.tif", np.zeros((16, 16), np.uint8), compression="jpeg")
    with pytest.raises(InputError, match="JPEG inside TIFF"):
        masks_of(tmp_path, preprocess=replace(PREPROCESS, input_size=(16, 16)))


def test_folders_that_do_not_pair(pairs: Any) -> None:
    root = pairs(["a", "b"])
    (root / "masks/b.png").rename(root / "masks/c.png")
    with pytest.raises(InputError, match=r"images/b\.png has no mask"):
        load_set(root)
    (root / "masks/c.png").rename(root / "masks/b.jpg")
    with pytest.raises(InputError, match=r"masks/b\.jpg: JPEG is lossy"):
        load_set(root)
    (root / "masks/b.jpg").rename(root / "masks/b.tif")
    save(root / "masks/b.bmp", VALUES)
    with pytest.raises(InputError, match="which of them is meant"):
        load_set(root)
    (root / "masks/b.bmp").rename(root / "images/b.bmp")
    with pytest.raises(InputError, match="which of them is meant"):
        load_set(root)


def test_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"no images in .*/images \(it is empty\)"):
        load_set(tmp_path)


@pytest.mark.parametrize(
    ("text", "names", "void"),
    [
        ("sky\nroad\n", ("sky", "road"), (255,)),
        ("VOID\nroad\r\n Ignore ", ("VOID", "road", "Ignore"), (0, 2, 255)),
        ("\ufeffsky\nunlabeled\n\n\n", ("sky", "unlabeled"), (1, 255)),
    ],
)
def test_classes_file(pairs: Any, text: str, names: tuple[str, ...], void: Any) -> None:
    root = pairs(["a"])
    (root / "classes.txt").write_text(text, encoding="utf-8")
    images = load_set(root)
    assert (images.class_names, images.void) == (names, void)


@pytest.mark.parametrize(
    "data", [b"", b"a\n\nb", b"a\na", b"\xff\xfe", "\n".join(map(str, range(256))).encode()]
)
def test_classes_file_that_cannot_be_used(pairs: Any, data: bytes) -> None:
    root = pairs(["a"])
    (root / "classes.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"classes\.txt"):
        load_set(root)


@given(
    values=st.lists(st.integers(0, 255), min_size=16, max_size=16),
    void=st.sets(st.integers(0, 255), max_size=4),
    classes=st.integers(2, 255),
)
def test_void_becomes_255_and_no_other_value_changes(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], void: set[int], classes: int
) -> None:
    root = tmp_path_factory.mktemp("masks")
    save(root / "images/a.png", np.zeros((4, 4, 3), np.uint8))
    array = np.array(values, np.uint8).reshape(4, 4)
    save(root / "masks/a.png", array)
    images = load_set(root).ignoring(void)
    expected = np.where(np.isin(array, [*void, 255]), 255, array)
    stream = batches(images, PREPROCESS, 1, mask_classes=classes)
    if ((expected >= classes) & (expected != 255)).any():
        with pytest.raises(InputError, match="ignore-class"):
            list(stream)
    else:
        (batch,) = stream
        assert batch.masks is not None
        np.testing.assert_array_equal(batch.masks[0], expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "nearest"])
@pytest.mark.parametrize("size", [(37, 90), (90, 37), (23, 23)])
def test_masks_lie_where_their_images_lie(
    tmp_path: Path, size: tuple[int, int], interpolation: str
) -> None:
    """An image of two colours and the mask of the same halves: they part at the same pixel."""
    height, width = size
    for name, region in {
        "rows": np.arange(height)[:, None] * np.ones(width) > height * 0.4,
        "columns": np.ones(height)[:, None] * np.arange(width) > width * 0.6,
    }.items():
        save(tmp_path / f"images/{name}.png", np.repeat(region[..., None] * 255, 3, 2).astype("u1"))
        save(tmp_path / f"masks/{name}.png", region.astype(np.uint8))
    preprocess = Preprocess("p", (16, 12), 20, (0.0,) * 3, (1.0,) * 3, interpolation, "RGB")
    (batch,) = batches(load_set(tmp_path), preprocess, 2, mask_classes=2)
    assert batch.masks is not None
    assert batch.masks.shape == (2, 16, 12)
    assert set(np.unique(batch.masks)) == {0, 1}
    brightness = batch.images[:, 0]
    clear = np.abs(brightness - 0.5) > 0.1  # a pixel cut in half may fall to either side
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(batch.masks[clear], brightness[clear] > 0.5)


def test_identity_knows_the_masks(pairs: Any) -> None:
    root = pairs(["a", "b"])
    images = load_set(root)
    found = {set_sha256(images), set_sha256(images.ignoring([1]))}
    bare = replace(images, items=tuple(replace(i, mask=None) for i in images.items))
    found.add(set_sha256(bare))
    save(root / "masks/a.png", VALUES[::-1])
    os.utime(root / "masks/a.png", ns=(1, 1))
    found.add(set_sha256(images))
    (root / "classes.txt").write_text("a\nb\nc")
    found.add(set_sha256(load_set(root)))
    assert len(found) == 5
    (root / "masks/a.png").unlink()
    with pytest.raises(InputError, match=r"masks/a\.png"):
        set_sha256(images)


def test_a_sample_keeps_pairs_and_void(pairs: Any) -> None:
    images = load_set(pairs([str(k) for k in range(9)])).ignoring([1])
    sample = images.sample(4, seed=1)
    assert len(sample) == 4
    assert sample.has_masks
    assert sample.void == (1, 255)
    for item in sample.items:
        assert isinstance(item.where, Path)
        assert item.mask is not None
        assert item.where.name == item.mask.name


def test_images_whose_masks_are_missing_are_no_class(pairs: Any, tree: Any) -> None:
    root = pairs(["a"])
    (root / "masks").rename(root / "mask_files")
    assert load_set(root).class_names == ("images", "mask_files")  # nobody can tell
    shutil.rmtree(root / "mask_files")
    with pytest.raises(InputError) as caught:
        load_set(root)
    assert f"{root / 'masks'} is missing" in caught.value.what
    assert str(root / "images") in caught.value.remedy
    assert len(load_set(root / "images")) == 1
    assert load_set(tree({"images": 1, "more": 1})).class_names == ("images", "more")


def test_where_class_names_are_looked_for(
    pairs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "part/1.png", np.zeros((4, 4, 3), np.uint8))
    save(tmp_path / "partannot/1.png", VALUES)
    (tmp_path / "set.csv").write_text("path,mask\npart/1.png,partannot/1.png\n")
    monkeypatch.chdir(tmp_path / "part")
    for source in (pairs(["a"]), tmp_path / "part", tmp_path / "set.csv", Path()):
        images = load_set(source)
        assert images.class_names == ()
        path = classes_file(images)
        path.write_text("a\nb\n")
        assert load_set(source).class_names == ("a", "b")
        path.unlink()


def test_masks_alone_do_not_make_a_set_of_labels(pairs: Any, tree: Any) -> None:
    assert not load_set(tree({"cat": 1, "dog": 1})).has_masks
    assert (load_set(pairs(["a"])).labels == -1).all()
