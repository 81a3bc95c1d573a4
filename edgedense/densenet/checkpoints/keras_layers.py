"""Layers of a Keras network as its files hold them: kernels are (height, width, in, out)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedense.densenet.checkpoints.keras_config import Config
from edgedense.errors import InputError

Floats = NDArray[np.float32]
Kind = Literal["conv", "norm", "scale", "linear"]


@dataclass(frozen=True)
class Layer:
    """One layer's arrays, under their roles: kernel and bias, or gamma, beta, mean, variance."""

    name: str
    arrays: Mapping[str, Floats]

    @property
    def kind(self) -> Kind | None:
        """None for a layer that no DenseNet has."""
        roles = frozenset(self.arrays)
        if roles == {"kernel"} and self.arrays["kernel"].ndim == 4:
            return "conv"
        if roles == {"kernel", "bias"} and self.arrays["kernel"].ndim == 2:
            return "linear"
        return _KINDS.get(roles)


_KINDS: dict[frozenset[str], Kind] = {
    frozenset({"gamma", "beta", "mean", "variance"}): "norm",
    frozenset({"gamma", "beta"}): "scale",
}


@dataclass(frozen=True)
class Weights:
    """Layers with weights, and the model's description where the file holds the whole model.

    ``ordered`` is whether the layers are in the order of the data; else only those of one kind are.
    """

    layers: Sequence[Layer]
    config: Config | None = None
    ordered: bool = True


def layers_of(arrays: Mapping[str, Floats], group: str, path: Path) -> list[Layer]:
    """Layers of arrays with weight names such as conv1/bn/gamma:0.

    ``group`` is the name under which the file has them: the layer's, unless it is a model used as
    a layer, which has the weights of many. Errors: InputError for a name that is no weight's.
    """
    found: dict[str, dict[str, Floats]] = {}
    roles = []
    for name, array in arrays.items():
        match = _WEIGHT.fullmatch(name)
        if match is None:
            raise InputError(
                f"{path}: {name!r} is a weight of no layer that a DenseNet has",
                "Known are convolutions, BatchNormalization, Scale and Dense layers of Keras.",
            )
        roles.append(_ROLES.get(match[2], match[2]))
        found.setdefault(match[1] or "", {})[roles[-1]] = array
    if group and len(set(roles)) == len(roles):
        return [Layer(group, dict(zip(roles, arrays.values(), strict=True)))]
    return [Layer(name, own) for name, own in found.items()]


# Keras 2 writes a slash and kernel:0, Keras 1 the layer's name and _W
_WEIGHT = re.compile(
    r"(?:(.*)[/_])?(kernel|bias|gamma|beta|moving_mean|moving_variance"
    r"|running_mean|running_std|W|b)(?:_\d+)?(?::\d+)?"
)
_ROLES = {
    **{"moving_mean": "mean", "moving_variance": "variance", "W": "kernel", "b": "bias"},
    # Keras 1 called its variance so
    **{"running_mean": "mean", "running_std": "variance"},
}


def floats_of(raw: NDArray[Any], name: str, path: Path) -> Floats:
    """``raw`` as float32. Errors: InputError where it holds no floating point numbers."""
    if raw.dtype.kind != "f":
        raise InputError(
            f"{path}: {name!r} holds {raw.dtype}, no floating point numbers",
            "Give the trained weights as float32.",
        )
    return np.asarray(raw, np.float32)
