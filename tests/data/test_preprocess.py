from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgedense.data import PRESETS, Preprocess, load_preprocess
from edgedense.errors import InputError

PLAIN = Preprocess("plain", (4, 6), None, (0.0,) * 3, (1.0,) * 3, "bilinear", "RGB")


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    colour = draw(st.sampled_from(["RGB", "BGR", "L"]))
    channels = 1 if colour == "L" else 3
    size = draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    unit = st.floats(0, 1)
    return Preprocess(
        name=draw(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)),
        input_size=size,
        resize=draw(st.none() | st.integers(max(size), 1000)),
        mean=tuple(draw(st.tuples(*[unit] * channels))),
        std=tuple(draw(st.tuples(*[st.floats(1e-6, 1)] * channels))),
        interpolation=draw(st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos", "box"])),
        colour=colour,
    )


def toml(raw: dict[str, Any]) -> str:
    # JSON scalars and lists are TOML values too
    return "".join(f"{k} = {json.dumps(v)}\n" for k, v in raw.items() if v is not None)


@given(preprocesses())
def test_round_trip_through_dict_and_json(preprocess: Preprocess) -> None:
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@given(preprocesses())
def test_round_trip_through_toml(tmp_path_factory: Any, preprocess: Preprocess) -> None:
    path = tmp_path_factory.mktemp("toml") / "own.toml"
    path.write_text(toml(preprocess.to_dict()))
    assert load_preprocess(str(path)) == preprocess


def test_toml_takes_its_stem_as_name_and_one_int_as_size(tmp_path: Path) -> None:
    path = tmp_path / "grey28.toml"
    path.write_text(
        'input_size = 28\nmean = [0]\nstd = [0.5]\ninterpolation = "box"\ncolour = "L"\n'
    )
    expected = Preprocess("grey28", (28, 28), None, (0.0,), (0.5,), "box", "L")
    assert load_preprocess(str(path)) == expected


@pytest.mark.parametrize("name", ["", "imagnet", "IMAGENET", "some/dir", "none.txt"])
def test_unknown_preprocessing_lists_the_presets(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_preprocess(name)
    assert "imagenet, cifar10, cifar100, digits" in caught.value.remedy


@pytest.mark.parametrize("text", [None, "mean = [", "\x00", 'a = "\ud800"'])
def test_unreadable_toml(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "own.toml"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InputError, match=r"own\.toml"):
        load_preprocess(str(path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_size", [224]),
        ("input_size", "224"),
        ("input_size", True),
        ("input_size", 0),
        ("input_size", [8, -8]),
        ("input_size", 1 << 20),
        ("resize", 200),
        ("resize", 223),
        ("resize", 256.0),
        ("resize", True),
        ("mean", 0.5),
        ("mean", [0.5]),
        ("mean", ["0.5"] * 3),
        ("mean", [123.675, 116.28, 103.53]),
        ("mean", [float("nan")] * 3),
        ("std", [0, 1, 1]),
        ("std", [1e-300] * 3),
        ("std", [58.4, 57.1, 57.4]),
        ("std", [True] * 3),
        ("interpolation", "area"),
        ("interpolation", 2),
        ("colour", "rgb"),
        ("colour", "L"),
        ("colour", ["RGB"]),
        ("name", 3),
        ("crop", 224),
    ],
)
def test_wrong_value_or_key_is_named(key: str, value: object) -> None:
    raw = {**PRESETS["imagenet"].to_dict(), key: value}
    culprit = "mean" if (key, value) == ("colour", "L") else key
    with pytest.raises(InputError, match=culprit) as caught:
        Preprocess.from_dict(raw)
    assert caught.value.remedy
    assert "\n" not in caught.value.what


def test_every_image_must_cover_the_crop() -> None:
    with pytest.raises(InputError, match="resize is 5"):
        replace(PLAIN, resize=5)


@pytest.mark.parametrize("key", ["name", "input_size", "mean", "std", "interpolation", "colour"])
def test_missing_key_is_named(key: str) -> None:
    raw = PRESETS["imagenet"].to_dict()
    del raw[key]
    with pytest.raises(InputError, match=f"'{key}' is missing"):
        Preprocess.from_dict(raw, "own.toml")


def test_not_a_table() -> None:
    with pytest.raises(InputError, match="no table"):
        Preprocess.from_dict([1, 2])  # type: ignore[arg-type]


def test_values_are_normalised_as_torchvision_does() -> None:
    torch = pytest.importorskip("torch")
    preprocess = PRESETS["cifar10"]
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array.transpose(2, 0, 1).copy()).float().div(255)  # ToTensor
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))
    expected = tensor.sub(mean).div(std).numpy()  # Normalize
    np.testing.assert_array_equal(preprocess(Image.fromarray(array)), expected)


def test_result_is_contiguous_float32_chw() -> None:
    for preprocess in PRESETS.values():
        height, width = preprocess.input_size
        result = preprocess(Image.new("RGB", (width, height)))
        assert result.shape == (preprocess.channels, height, width)
        assert result.dtype == np.float32
        assert result.flags.c_contiguous


def test_bgr_is_rgb_reversed_and_l_is_luma() -> None:
    image = Image.new("RGB", (6, 4), (255, 51, 0))
    bgr = replace(PLAIN, colour="BGR")(image)
    np.testing.assert_allclose(bgr[:, 0, 0], [0, 0.2, 1], rtol=1e-6)
    grey = replace(PLAIN, colour="L", mean=(0.0,), std=(1.0,))(image)
    luma = round(0.299 * 255 + 0.587 * 51)
    np.testing.assert_allclose(grey, np.full((1, 4, 6), luma / 255), rtol=1e-6)


def test_another_size_without_resize_is_refused() -> None:
    with pytest.raises(InputError, match=r"cat\.png: 4x6 pixels .* takes 6x4") as caught:
        PLAIN(Image.new("RGB", (4, 6)), "cat.png")
    assert "TOML" in caught.value.remedy
    assert "resize = 6" in caught.value.remedy


@pytest.mark.parametrize(
    ("size", "scaled", "corner"),  # (width, height): torchvision's Resize(10), CenterCrop((5, 8))
    [
        ((20, 20), (10, 10), (1, 2)),  # round(2.5) is 2: Python rounds halves to even
        ((20, 27), (10, 13), (1, 4)),  # 13.5 is cut to 13
        ((41, 30), (13, 10), (2, 2)),
        ((33, 30), (11, 10), (2, 2)),  # round(1.5) is 2
        ((5, 5), (10, 10), (1, 2)),  # enlarged
    ],
)
def test_resize_and_crop_follow_torchvision(
    size: tuple[int, int], scaled: tuple[int, int], corner: tuple[int, int]
) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    preprocess = replace(PLAIN, input_size=(5, 8), resize=10)
    whole = np.asarray(image.resize(scaled, Image.Resampling.BILINEAR))
    left, top = corner
    expected = whole[top : top + 5, left : left + 8]
    np.testing.assert_array_equal(preprocess.pixels(image), expected)


def test_shrinking_averages_all_pixels_it_covers() -> None:
    # antialiasing: plain bilinear at scale 1/4 would see 2 of 4 columns and miss the white ones
    column = np.tile(np.array([255, 0, 0, 0], np.uint8), 4)
    image = Image.fromarray(np.tile(column, (16, 1)))
    grey = Preprocess("g", (4, 4), 4, (0.0,), (1.0,), "box", "L")
    np.testing.assert_array_equal(grey.pixels(image), np.full((4, 4, 1), 64))
    bilinear = replace(grey, interpolation="bilinear").pixels(image)
    assert bilinear[:, 1:3].min() > 0


@given(
    preprocesses().filter(lambda p: p.resize is not None and p.resize < 400),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_one_colour_stays_one_colour_at_any_size(p: Preprocess, width: int, height: int) -> None:
    pixels = p.pixels(Image.new("RGB", (width, height), (90, 90, 90)))
    assert pixels.shape == (*p.input_size, p.channels)
    assert set(np.unique(pixels)) == {90}


def test_a_hair_is_refused_not_blown_up() -> None:
    with pytest.raises(InputError, match=r"hair\.png: 1x60000 pixels would become 8000x480000000"):
        replace(PLAIN, resize=8000)(Image.new("L", (1, 60000)), "hair.png")


def test_digits_preset_is_the_statistics_of_the_real_images() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    pixels = np.rint(datasets.load_digits().images * 255 / 16) / 255
    preset = PRESETS["digits"]
    assert preset.mean == (round(pixels.mean(), 4),)
    assert preset.std == (round(pixels.std(), 4),)
    assert preset.input_size == pixels.shape[1:]


def test_presets_know_their_names_and_cannot_be_changed() -> None:
    assert {name: p.name for name, p in PRESETS.items()} == {name: name for name in PRESETS}
    with pytest.raises(TypeError):
        PRESETS["mine"] = PLAIN  # type: ignore[index]
