"""What the JSON description in a whole saved Keras model tells beside its weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedense.densenet.spec import Activation, Padding
from edgedense.errors import InputError

# class and name of a layer
Named = tuple[str, str]
_ACTIVATIONS: dict[object, Activation] = {
    "linear": "none",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
}
_CONCATS = ("Concatenate", "Merge")


@dataclass(frozen=True)
class Config:
    """``eps`` of the BNs, what follows the logits, how the stem pads, and all layers in order."""

    eps: float
    activation: Activation
    padding: Padding
    layers: tuple[Named, ...]

    def group_names(self) -> dict[str, str]:
        """Layer names by those of Keras 3's groups: the class, numbered (conv2d, conv2d_1, …)."""
        seen: Counter[str] = Counter()
        found = {}
        for kind, name in self.layers:
            group = _snake_case(kind)
            found[f"{group}_{seen[group]}" if seen[group] else group] = name
            seen[group] += 1
        return found


def read_config(text: str, path: Path) -> Config:
    """Parse ``model_config`` of HDF5 files, or ``config.json`` of .keras archives.

    Errors: InputError for damaged JSON, and for what our network cannot do: reversed concats, BNs
    with different eps, activations inside convolutions, max pools in transitions.
    """
    try:
        layers = list(_layers(json.loads(text)))
        _check(layers, path)
        return Config(
            eps=_eps(layers, path),
            activation=_activation(layers, path),
            padding=_padding(layers),
            layers=tuple((kind, str(config["name"])) for kind, config, _ in layers),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: the model's description inside is damaged ({type(error).__name__})",
            "Save the model again, or its weights alone: model.save_weights('weights.h5')",
        ) from error


_Layer = tuple[str, dict[str, Any], list[str]]


def _layers(node: dict[str, Any]) -> Iterator[_Layer]:
    """(class, config, names of the inputs) of all layers, those of nested models too."""
    kind, config = str(node["class_name"]), node["config"]
    inner = config if isinstance(config, list) else config.get("layers")
    if inner is None:
        yield kind, config, list(_inputs(node.get("inbound_nodes", [])))
    else:
        for layer in inner:
            yield from _layers(layer)


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


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
