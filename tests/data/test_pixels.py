from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from edgedense.data.pixels import content_sha256, eight_bit, to_rgb
from edgedense.errors import InputError

RGB_ARRAYS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def reopened(image: Image.Image, file_format: str) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, file_format)
    return Image.open(io.BytesIO(stream.getvalue()))


def rgb_values(image: Image.Image) -> list[list[int]]:
    return np.asarray(to_rgb(image)).reshape(-1, 3).tolist()


def test_grey_is_repeated_and_alpha_dropped() -> None:
    assert rgb_values(Image.new("L", (1, 1), 77)) == [[77, 77, 77]]
    assert rgb_values(Image.new("LA", (1, 1), (77, 3))) == [[77, 77, 77]]
    assert rgb_values(Image.new("RGBA", (1, 1), (10, 20, 30, 0))) == [[10, 20, 30]]


def test_cmyk_and_one_bit() -> None:
    assert rgb_values(Image.new("CMYK", (1, 1), (255, 0, 0, 0))) == [[0, 255, 255]]
    assert rgb_values(Image.new("CMYK", (1, 1), (0, 0, 0, 255))) == [[0, 0, 0]]
    assert rgb_values(Image.fromarray(np.array([[False, True]]))) == [[0] * 3, [255] * 3]


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 128])])
def test_palette_gives_its_colours_whatever_is_transparent(transparency: object) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([1, 2, 3, 200, 100, 50])
    if transparency is not None:
        image.info["transparency"] = transparency
    assert rgb_values(reopened(image, "PNG")) == [[1, 2, 3], [200, 100, 50]]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_not_clipped(file_format: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    image = reopened(Image.fromarray(values), file_format)
    assert [v[0] for v in rgb_values(image)] == [0, 0, 1, 1, 128, 255]


def test_sixteen_bit_scaling_is_the_nearest_of_all_values() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(eight_bit(values), np.rint(np.arange(65536) / 257))


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_modes_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match=rf"x\.tif: pixel mode '{mode}'"):
        to_rgb(Image.new(mode, (2, 2)), "x.tif")


def test_exif_orientation_is_left_alone() -> None:
    image = Image.new("RGB", (3, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    assert to_rgb(Image.open(stream)).size == (3, 2)


@given(RGB_ARRAYS)
def test_content_is_the_same_in_every_lossless_format(array: np.ndarray) -> None:
    image = Image.fromarray(array)
    hashes = {content_sha256(to_rgb(reopened(image, f))) for f in ("PNG", "BMP", "TIFF", "PPM")}
    assert hashes == {content_sha256(image)}


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_grey_and_its_rgb_copy_have_the_same_content(array: np.ndarray) -> None:
    grey = Image.fromarray(array)
    copy = Image.fromarray(np.repeat(array[..., np.newaxis], 3, axis=2))
    assert content_sha256(to_rgb(grey)) == content_sha256(copy)


@given(RGB_ARRAYS, RGB_ARRAYS)
def test_content_differs_where_pixels_or_shape_differ(a: np.ndarray, b: np.ndarray) -> None:
    same = content_sha256(Image.fromarray(a)) == content_sha256(Image.fromarray(b))
    assert same == np.array_equal(a, b)


def test_content_tells_shapes_of_equal_bytes_apart() -> None:
    wide, tall = Image.new("RGB", (4, 1)), Image.new("RGB", (1, 4))
    assert content_sha256(wide) != content_sha256(tall)
