"""What the JSON description in a whole saved Keras model tells beside its weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedense.densenet.spec import Activation, Padding
from edgedense.errors import InputError

_ACTIVATIONS: dict[object, Activation] = {
    "linear": "none",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
}
_CONCATS = ("Concatenate", "Merge")
# what stands in front of the first convolution and does not change images at inference
_HARMLESS = re.compile(r"InputLayer|ZeroPadding2D|Random\w+|Dropout")


@dataclass(frozen=True)
class Config:
    """What the description tells.

    ``eps`` of the BNs, what follows the logits, how the stem pads. ``groups`` has the layers' names
    by those of Keras 3's groups: the class, numbered (conv2d, conv2d_1, …), behind the group of the
    model that it is in (functional/conv2d). ``preprocessing`` names the layers that change the
    images in front of the first convolution.
    """

    eps: float
    activation: Activation
    padding: Padding
    groups: Mapping[str, str]
    preprocessing: tuple[str, ...] = ()


def read_config(text: str, path: Path) -> Config:
    """Parse ``model_config`` of HDF5 files, or ``config.json`` of .keras archives.

    Errors: InputError for damaged JSON, and for what our network cannot do: reversed concats, BNs
    with different eps, activations inside convolutions, max pools in transitions.
    """
    try:
        model = json.loads(text)
        layers = list(_layers(model))
        _check(layers, path)
        return Config(
            eps=_eps(layers, path),
            activation=_activation(layers, path),
            padding=_padding(layers),
            groups=dict(_groups(model)),
            preprocessing=_preprocessing(layers),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: the model's description inside is damaged ({type(error).__name__})",
            "Save the model again, or its weights alone: model.save_weights('weights.h5')",
        ) from error


_Layer = tuple[str, dict[str, Any], list[str]]


def _layers(node: dict[str, Any]) -> Iterator[_Layer]:
    """(class, config, names of the inputs) of all layers, those of nested models too."""
    inner = _inner(node)
    if inner is None:
        sources = list(_inputs(node.get("inbound_nodes", [])))
        yield str(node["class_name"]), node["config"], sources
    else:
        for layer in inner:
            yield from _layers(layer)


def _inner(node: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Layers of a model; None for a layer."""
    config = node["config"]
    return config if isinstance(config, list) else config.get("layers")


def _groups(model: dict[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """Keras 3 numbers the layers of each model on their own."""
    seen: Counter[str] = Counter()
    for node in _inner(model) or ():
        kind = _snake_case(str(node["class_name"]))
        group = f"{place}{kind}_{seen[kind]}" if seen[kind] else f"{place}{kind}"
        seen[kind] += 1
        if _inner(node) is None:
            yield group, str(node["config"]["name"])
        else:
            yield from _groups(node, f"{group}/")


def _inputs(node: Any) -> Iterator[str]:
    """Names of the layers that one layer reads, in Keras 2's lists or Keras 3's dictionaries."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield str(node["keras_history"][0])
        else:
            for value in node.values():
                yield from _inputs(value)
    elif isinstance(node, list) and node and isinstance(node[0], str):
        yield node[0]
    elif isinstance(node, list):
        for value in node:
            yield from _inputs(value)


def _check(layers: list[_Layer], path: Path) -> None:
    kinds = {config["name"]: kind for kind, config, _ in layers}
    for kind, config, inputs in layers:
        name = config["name"]
        later = [kinds.get(source, "") for source in inputs[1:]]
        if kind in _CONCATS and any(k in _CONCATS or "Pooling" in k for k in later):
            raise InputError(
                f"{path}: {name} concatenates [new features, input], not [input, new]",
                "Keras networks with this order (such as cmasch/densenet) are not supported.",
            )
        if "Conv" in kind and config.get("activation", "linear") != "linear":
            raise InputError(
                f"{path}: {name} has a {config['activation']} of its own",
                "In a DenseNet, BN and ReLU come before the convolution.",
            )
    if sum(kind == "MaxPooling2D" for kind, _, _ in layers) > 1:
        raise InputError(
            f"{path}: there are max pools behind the stem",
            "Keras networks are read with average pools in their transitions.",
        )


def _eps(layers: list[_Layer], path: Path) -> float:
    found = {float(c["epsilon"]) for kind, c, _ in layers if kind == "BatchNormalization"}
    if len(found) != 1:
        raise InputError(
            f"{path}: its BNs have {len(found)} different eps {sorted(found)[:3]}",
            "A DenseNet has BNs, and all of them with one eps.",
        )
    return found.pop()


def _activation(layers: list[_Layer], path: Path) -> Activation:
    """Of the last Dense layer, or of a layer behind it."""
    last: object = "linear"
    for kind, config, _ in layers:
        if kind == "Dense" or (kind == "Activation" and last == "linear"):
            last = config["activation"]
        elif kind == "Softmax" and last == "linear":
            last = "softmax"
    if not isinstance(last, str) or last not in _ACTIVATIONS:
        raise InputError(
            f"{path}: the classifier ends in {last}",
            f"Known are {', '.join(map(str, _ACTIVATIONS))}.",
        )
    return _ACTIVATIONS[last]


def _padding(layers: list[_Layer]) -> Padding:
    """Of the stem; the second keys are Keras 1's."""
    for kind, config, _ in layers:
        if "Conv" in kind:
            strides = config.get("strides") or config.get("subsample") or [1, 1]
            same = "same" in (config.get("padding"), config.get("border_mode"))
            return "same" if same and list(strides) != [1, 1] else "symmetric"
    return "symmetric"


def _preprocessing(layers: list[_Layer]) -> tuple[str, ...]:
    kinds = [kind for kind, _, _ in layers]
    stem = next((place for place, kind in enumerate(kinds) if "Conv" in kind), 0)
    return tuple(kind for kind in kinds[:stem] if not _HARMLESS.fullmatch(kind))


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
