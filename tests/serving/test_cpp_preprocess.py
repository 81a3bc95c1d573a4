"""The C++ sample's preprocessing, byte for byte that of Python; its parsers and hashes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgedense.data.preprocess import CHANNELS, INTERPOLATIONS, PRESETS, Preprocess
from edgedense.engines.runner import Interface

slow = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def manifest(preprocess: Preprocess, pillow: str = PIL.__version__, **ends: Any) -> dict[str, Any]:
    shape = (preprocess.channels, *preprocess.input_size)
    interface = replace(Interface("images", shape, "logits", (10,), batch=(1, 1, 8)), **ends)
    return {
        "format": "edgedense/1",
        "stage": "build-engine",
        "report": {"backend": "tensorrt"},
        "interface": interface.to_dict(),
        "preprocess": preprocess.to_dict(),
        "environment": {"packages": {"PIL": pillow}},
    }


def fed(
    program: Callable[..., Any], record: dict[str, Any], image: Image.Image
) -> NDArray[np.float32 | np.float16]:
    """What the C++ program feeds an engine with that manifest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "manifest.json").write_text(json.dumps(record))
        image.save(folder / "image.ppm")
        done = program(folder, folder / "image.ppm", folder / "out.npy")
        assert done.returncode == 0, done.stderr.decode()
        found: NDArray[np.float32 | np.float16] = np.load(folder / "out.npy")
        return found


def picture(seed: int, width: int, height: int, channels: int = 3) -> Image.Image:
    random = np.random.default_rng(seed)
    values = random.integers(0, 256, (height, width, channels), np.uint8)
    if seed % 3 == 0:  # extremes, where filters overshoot
        values = np.where(values > 127, np.uint8(255), np.uint8(0))
    return Image.fromarray(values[..., 0] if channels == 1 else values)


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    colour = draw(st.sampled_from(sorted(CHANNELS)))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    several = {"min_size": CHANNELS[colour], "max_size": CHANNELS[colour]}
    return Preprocess(
        name="any",
        input_size=size,
        resize=draw(st.none() | st.integers(max(size), max(size) + 30)),
        mean=tuple(draw(st.lists(st.floats(0, 1), **several))),
        std=tuple(draw(st.lists(st.floats(1e-6, 1), **several))),
        interpolation=draw(st.sampled_from(sorted(INTERPOLATIONS))),
        colour=colour,
    )


@slow
@given(
    preprocess=preprocesses(),
    sides=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    seed=st.integers(0, 1 << 20),
    channels=st.sampled_from((1, 3)),
    dtype=st.sampled_from(("float32", "float16")),
)
@example(replace(PRESETS["imagenet"], input_size=(7, 6), resize=20), (30, 99), 3, 3, "float32")
def test_bytes_are_those_of_python(
    preprocess_program: Callable[..., Any],
    preprocess: Preprocess,
    sides: tuple[int, int],
    seed: int,
    channels: int,
    dtype: str,
) -> None:
    width, height = preprocess.input_size[::-1] if preprocess.resize is None else sides
    image = picture(seed, width, height, channels)
    with np.errstate(over="ignore"):
        wanted = preprocess(image).astype(dtype)
    found = fed(preprocess_program, manifest(preprocess, dtype=dtype), image)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", ["imagenet", "caffe", "xray", "camvid", "digits"])
@pytest.mark.parametrize("sides", [(640, 480), (333, 500), (240, 900), (256, 256)])
def test_presets_on_photographs(
    preprocess_program: Callable[..., Any], name: str, sides: tuple[int, int]
) -> None:
    preprocess = PRESETS[name]
    size = sides if preprocess.resize else preprocess.input_size[::-1]
    image = picture(1, *size)
    found = fed(preprocess_program, manifest(preprocess), image)
    assert found.tobytes() == preprocess(image).tobytes()


@pytest.mark.parametrize("pillow", ["10.4.0", "12.3.0", "13.0.0", "14.1"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("side", "height", "from_13_on"),
    [(20, 160, True), (20, 101, True), (20, 100, False), (64, 160, False)],
)
def test_order_of_the_passes_is_that_of_the_recorded_pillow(
    preprocess_program: Callable[..., Any],
    pillow: str,
    interpolation: str,
    side: int,
    height: int,
    from_13_on: bool,
) -> None:
    image, size = picture(1, 50, height), (side, side * height // 50)
    preprocess = replace(
        PRESETS["imagenet"], input_size=(side, side), resize=side, interpolation=interpolation
    )
    vertically_first = from_13_on and int(pillow.partition(".")[0]) >= 13
    wanted, other = (
        preprocess.normalise(crop(two(image, size, INTERPOLATIONS[interpolation], first), side))
        for first in (vertically_first, not vertically_first)
    )
    assert wanted.tobytes() != other.tobytes()
    assert (
        fed(preprocess_program, manifest(preprocess, pillow), image).tobytes() == wanted.tobytes()
    )


def two(
    image: Image.Image, size: tuple[int, int], kind: Image.Resampling, vertically_first: bool
) -> Image.Image:
    between = (image.width, size[1]) if vertically_first else (size[0], image.height)
    return image.resize(between, kind).resize(size, kind)


def crop(image: Image.Image, side: int) -> NDArray[np.uint8]:
    top = round((image.height - side) / 2)
    return np.asarray(image)[np.newaxis, top : top + side]


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "another format": ("", {"format": "edgedense/9"}, "no engine artifact"),
    "another stage": ("", {"stage": "quantize"}, "no engine artifact"),
    "no mean": ("preprocess", {"mean": []}, "a channel"),
    "a mean of 0..255": ("preprocess", {"mean": [124.0, 117.0, 104.0]}, "scaled to [0, 1]"),
    "a std of nothing": ("preprocess", {"std": [0.0, 0.2, 0.2]}, "scaled to [0, 1]"),
    "a size with a fraction": ("preprocess", {"input_size": [22.5, 224]}, "whole number"),
    "an endless size": ("preprocess", {"input_size": [224, 1e9]}, "whole number"),
    "a crop larger than the image": ("preprocess", {"resize": 8}, "whole number"),
    "an unknown filter": ("preprocess", {"interpolation": "hamming"}, "not known"),
    "an unknown colour": ("preprocess", {"colour": "CMYK"}, "colour"),
    "another size than the network's": ("preprocess", {"input_size": [8, 8]}, "differ in shape"),
    "another layout": ("interface", {"layout": "NHWC"}, "input_shape"),
    "another type": ("interface", {"dtype": "int8"}, "dtype"),
    "a batch range upside down": ("interface", {"batch": [8, 4, 1]}, "whole number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_damaged_manifests_are_refused(
    preprocess_program: Callable[..., Any], tmp_path: Path, case: str
) -> None:
    section, changes, told = WRONG[case]
    record = manifest(PRESETS["imagenet"])
    (record[section] if section else record).update(changes)
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    picture(0, 300, 300).save(tmp_path / "i.ppm")
    done = preprocess_program(tmp_path, tmp_path / "i.ppm", tmp_path / "o.npy")
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert not (tmp_path / "o.npy").exists()


IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no binary PPM"),
    "PNG": (b"\x89PNG\r\n\x1a\n", "no binary PPM"),
    "text": (b"P3 1 1 255 0 0 0", "no binary PPM"),
    "no header": (b"P6", "header"),
    "a header that ends": (b"P6 # 32", "header"),
    "letters": (b"P6 ab cd 255\n", "header"),
    "too large a number": (b"P6 99999999999 1 255\n", "header"),
    "16 bits": (b"P6 1 1 65535\n" + bytes(6), "8 bits"),
    "too few pixels": (b"P6 32 32 255\n" + bytes(32 * 32 * 3 - 1), "truncated"),
    "no pixels": (b"P6 0 32 255\n", "truncated"),
    "another size": (b"P6 31 32 255\n" + bytes(31 * 32 * 3), "31x32"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_damaged_images_are_refused(
    preprocess_program: Callable[..., Any], tmp_path: Path, case: str
) -> None:
    data, told = IMAGES[case]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(PRESETS["cifar10"])))
    (tmp_path / "i.ppm").write_bytes(data)
    done = preprocess_program(tmp_path, tmp_path / "i.ppm", tmp_path / "o.npy")
    assert done.returncode == 2
    assert told in done.stderr.decode()


def test_comments_in_a_header(preprocess_program: Callable[..., Any], tmp_path: Path) -> None:
    image = picture(2, 32, 32)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(PRESETS["cifar10"])))
    (tmp_path / "i.ppm").write_bytes(b"P6\n# made\n32 # wide\n32\n255\n" + image.tobytes())
    done = preprocess_program(tmp_path, tmp_path / "i.ppm", tmp_path / "o.npy")
    assert done.returncode == 0
    assert np.load(tmp_path / "o.npy").tobytes() == PRESETS["cifar10"](image).tobytes()
