"""How an image becomes the network's input: one object, recorded in every artifact."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedense.data.pixels import to_rgb
from edgedense.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INTERPOLATIONS = MappingProxyType(
    {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "nearest": Image.Resampling.NEAREST,
        "lanczos": Image.Resampling.LANCZOS,
        "box": Image.Resampling.BOX,
    }
)
CHANNELS = MappingProxyType({"RGB": 3, "BGR": 3, "L": 1})
_SMALLEST_STD = 1e-6
_LARGEST_SIDE = 1 << 13
_LARGEST_AREA = 1 << 26
_OPTIONAL = frozenset({"resize"})


@dataclass(frozen=True)
class Preprocess:
    """Colour, resize, centre crop, ``(x / 255 - mean) / std``: in this order, as torchvision does.

    ``input_size`` is (height, width) in pixels. ``resize`` is the length in pixels to which the
    shorter side is brought first (antialiased; the longer side is rounded down); None takes only
    images that have ``input_size`` already. ``mean`` and ``std`` are per channel, in the order of
    ``colour``, of values scaled to [0, 1]. Errors: InputError for values that cannot work.
    """

    name: str
    input_size: tuple[int, int]
    resize: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    colour: str

    def __post_init__(self) -> None:
        self._check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        self._check_choice("colour", self.colour, CHANNELS)
        if len(self.input_size) != 2 or not all(0 < n <= _LARGEST_SIDE for n in self.input_size):
            raise self._wrong("input_size", self.input_size, "(height, width) in pixels, above 0")
        if self.resize is not None and not max(self.input_size) <= self.resize <= _LARGEST_SIDE:
            wanted = f"at least the larger side of input_size, {max(self.input_size)}"
            raise self._wrong("resize", self.resize, wanted)
        for key, least in (("mean", 0.0), ("std", _SMALLEST_STD)):
            values = getattr(self, key)
            if len(values) != self.channels:
                wanted = f"{self.channels} numbers for colour {self.colour}"
                raise self._wrong(key, values, wanted)
            if not all(math.isfinite(v) and least <= v <= 1 for v in values):
                wanted = f"between {least:g} and 1 (statistics of 0..255 values: divide by 255)"
                raise self._wrong(key, values, wanted)

    @property
    def channels(self) -> int:
        """Channels of the network's input: 3, or 1 for colour L."""
        return CHANNELS[self.colour]

    def __call__(self, image: Image.Image, name: str = "image") -> NDArray[np.float32]:
        """The network's input (channels, height, width) for one image of any mode."""
        values: NDArray[np.float32] = self.normalise(self.pixels(image, name)[np.newaxis])[0]
        return values

    def pixels(self, image: Image.Image, name: str = "image") -> NDArray[np.uint8]:
        """Colour, resize and crop: 8-bit values (height, width, channels).

        Errors: InputError, naming ``name``, where the size differs and ``resize`` is None.
        """
        image = to_rgb(image, name)
        if self.colour == "L":
            image = image.convert("L")
        array = np.asarray(self._fit(image, name, self.interpolation))
        if self.colour == "BGR":
            return array[..., ::-1]
        return array.reshape(*self.input_size, self.channels)

    def mask(self, indices: Image.Image, name: str = "mask") -> NDArray[np.uint8]:
        """The same resize and crop for a mask of mode L: class indices (height, width).

        Each pixel takes the nearest class, whatever the image's interpolation: between two classes
        there is nothing to mean.
        """
        return np.asarray(self._fit(indices, name, "nearest"))

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """8-bit (N, height, width, channels) to contiguous float32 (N, channels, height, width)."""
        count, height, width, channels = pixels.shape
        values = np.empty((count, channels, height, width), np.float32)
        values[...] = pixels.transpose(0, 3, 1, 2)
        values /= np.float32(255)
        values -= np.array(self.mean, np.float32)[:, np.newaxis, np.newaxis]
        values /= np.array(self.std, np.float32)[:, np.newaxis, np.newaxis]
        return values

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        raw = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in raw.items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "preprocess") -> Preprocess:
        """From the keys of :meth:`to_dict`; ``input_size`` may be one int, ``resize`` may lack.

        Errors: InputError, naming ``source`` and the key, for what is unknown, missing or wrong.
        """
        if not isinstance(raw, Mapping):
            raise InputError(f"{source}: {raw!r} is no table of keys", _keys_remedy())
        known = [f.name for f in fields(cls)]
        for key in raw:
            if key not in known:
                raise InputError(f"{source}: unknown key {key!r}", _keys_remedy())
        for key in known:
            if key not in raw and key not in _OPTIONAL:
                raise InputError(f"{source}: key {key!r} is missing", _keys_remedy())
        size = raw["input_size"]
        resize = raw.get("resize")
        return cls(
            name=_text(raw["name"], "name", source),
            input_size=_size([size, size] if _is_int(size) else size, source),
            resize=None if resize is None else _whole(resize, "resize", source),
            mean=_numbers(raw["mean"], "mean", source),
            std=_numbers(raw["std"], "std", source),
            interpolation=_text(raw["interpolation"], "interpolation", source),
            colour=_text(raw["colour"], "colour", source),
        )

    def _fit(self, image: Image.Image, name: str, interpolation: str) -> Image.Image:
        height, width = self.input_size
        if self.resize is None:
            if image.size == (width, height):
                return image
            raise InputError(
                f"{name}: {image.width}x{image.height} pixels (width x height), but preprocessing "
                f"{self.name!r} takes {width}x{height} and does not resize",
                f"Scale the images, or give a TOML file with these keys and resize = "
                f"{max(height, width)}.",
            )
        scaled = _shorter_side(image.size, self.resize)
        if scaled[0] * scaled[1] > _LARGEST_AREA:
            raise InputError(
                f"{name}: {image.width}x{image.height} pixels would become {scaled[0]}x{scaled[1]} "
                f"with resize = {self.resize}",
                "Crop the image to a less elongated shape, or leave it out.",
            )
        image = image.resize(scaled, INTERPOLATIONS[interpolation])
        left = round((image.width - width) / 2)
        top = round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def _check_choice(self, key: str, value: str, choices: Mapping[str, object]) -> None:
        if value not in choices:
            raise self._wrong(key, value, f"one of {', '.join(choices)}")

    def _wrong(self, key: str, value: object, wanted: str) -> InputError:
        return InputError(
            f"preprocessing {self.name!r}: {key} is {value!r}", f"{key} must be {wanted}."
        )


def load_preprocess(name_or_path: str) -> Preprocess:
    """A preset by its name, or a TOML file with the keys of :meth:`Preprocess.to_dict`.

    ``name`` may be left out of the file: it is then the file's stem. Errors: InputError for
    anything else (it lists the presets), for an unreadable file and for wrong keys or values.
    """
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    if path.suffix.lower() != ".toml":
        raise InputError(
            f"unknown preprocessing {name_or_path!r}",
            f"Give one of {', '.join(PRESETS)}, or a .toml file.",
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", f"Give a .toml file, or one of {', '.join(PRESETS)}."
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}", _keys_remedy()) from error
    return Preprocess.from_dict({"name": path.stem, **raw}, source=str(path))


def _shorter_side(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    width, height = size
    if width <= height:
        return shorter, shorter * height // width
    return shorter * width // height, shorter


def _keys_remedy() -> str:
    return f"Its keys are {', '.join(f.name for f in fields(Preprocess))}."


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(value: object, key: str, source: str) -> int:
    if _is_int(value):
        return value
    raise InputError(f"{source}: {key} is {value!r}", f"{key} must be a whole number.")


def _text(value: object, key: str, source: str) -> str:
    if isinstance(value, str):
        return value
    raise InputError(f"{source}: {key} is {value!r}", f"{key} must be a string.")


def _size(value: object, source: str) -> tuple[int, int]:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_int, value)):
        return value[0], value[1]
    raise InputError(
        f"{source}: input_size is {value!r}",
        "input_size must be one whole number, or [height, width], in pixels.",
    )


def _numbers(value: object, key: str, source: str) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(v, float) or _is_int(v) for v in value):
        return tuple(map(float, value))
    raise InputError(f"{source}: {key} is {value!r}", f"{key} must be a list of numbers.")


def _cifar(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
    return Preprocess(name, (32, 32), None, mean, std, "bilinear", "RGB")


# digits: scikit-learn's 8x8 digits, 0..16 stored as round(v * 255 / 16) in 8-bit grey; statistics
# of all its 1797 images, as the others are of their training sets
PRESETS: Mapping[str, Preprocess] = MappingProxyType(
    {
        p.name: p
        for p in (
            Preprocess(
                name="imagenet",
                input_size=(224, 224),
                resize=256,
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225),
                interpolation="bilinear",
                colour="RGB",
            ),
            _cifar("cifar10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
            _cifar("cifar100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
            Preprocess("digits", (8, 8), None, (0.3053,), (0.3759,), "bilinear", "L"),
            # shicai/DenseNet-Caffe: (x - mean) * 0.017 of 0..255 values
            Preprocess(
                name="caffe",
                input_size=(224, 224),
                resize=256,
                mean=(103.94 / 255, 116.78 / 255, 123.68 / 255),
                std=(1 / (255 * 0.017),) * 3,
                interpolation="bilinear",
                colour="BGR",
            ),
            # torchxrayvision: values from -1024 to 1024
            Preprocess("xray", (224, 224), 224, (0.5,), (1 / 2048,), "bilinear", "L"),
            # bfortuner/pytorch_tiramisu, datasets/camvid.py
            Preprocess(
                name="camvid",
                input_size=(360, 480),
                resize=None,
                mean=(0.41189489566336, 0.4251328133025, 0.4326707089857),
                std=(0.27413549931506, 0.28506257482912, 0.28284674400252),
                interpolation="bilinear",
                colour="RGB",
            ),
        )
    }
)
