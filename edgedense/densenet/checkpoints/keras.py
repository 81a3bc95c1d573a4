"""DenseNets from Keras: keras-applications, flyyufelix, titu1994, and others by order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from edgedense import environment
from edgedense.densenet.checkpoints.keras_config import Config
from edgedense.densenet.checkpoints.keras_layers import Floats, Layer, Weights, layers_of
from edgedense.densenet.checkpoints.layer_names import applications_names, shicai_names
from edgedense.densenet.checkpoints.npz import read_npz
from edgedense.densenet.checkpoints.order import (
    ASSUMED,
    Step,
    arrange,
    named,
    recognise_order,
    steps_of,
)
from edgedense.densenet.checkpoints.recognised import Facts, Recognised
from edgedense.densenet.spec import Padding
from edgedense.errors import InputError


def recognise_keras(path: Path, *, by_order: bool = False) -> Recognised:
    """Recognise a DenseNet in an HDF5 file, or in a ``.keras`` archive, of Keras 1, 2 or 3.

    ``by_order`` accepts what only the order of the layers tells: that concats are [input, new
    features]. Errors: InputError for a damaged file, another network, one without its classifier,
    and one whose names and description do not tell its structure; MachineError without h5py.
    """
    environment.require("h5py", f"reading {path}")
    from edgedense.densenet.checkpoints.keras_file import read_weights

    return _recognise(read_weights(path), path, by_order)


def recognise_npz(path: Path, *, by_order: bool = False) -> Recognised:
    """Recognise a DenseNet in a ``.npz`` archive with Keras' names, torchvision's, or arr_0, ….

    ``by_order`` and errors as for :func:`recognise_keras`.
    """
    arrays = read_npz(path)
    if all(re.fullmatch(r"arr_\d+", name) for name in arrays):
        return _positional(arrays, path, by_order)
    if "features.conv0.weight" in arrays:
        return Recognised("torchvision", {k: torch.from_numpy(v) for k, v in arrays.items()})
    return _recognise(Weights(layers_of(arrays, "", path)), path, by_order)


@dataclass(frozen=True)
class _Source:
    """A code base that names its layers; it ends in softmax and pads symmetrically."""

    scheme: str
    names: Callable[[Iterable[str]], dict[str, str]]
    eps: float
    preset: str


_SOURCES = (
    _Source("keras-applications", applications_names, 1.001e-5, "imagenet"),
    _Source("flyyufelix", shicai_names, 1.1e-5, "caffe"),
)
# of titu1994/DenseNet's code since it has ImageNet networks
_TITU_EPS = 1.1e-5


def _recognise(weights: Weights, path: Path, by_order: bool) -> Recognised:
    layers = _merged(weights.layers)
    steps = [_step(layer, path) for layer in layers]
    _check_classifier(steps, path)
    rest = [step.name for step in steps if step.kind != "linear"]
    for source in _SOURCES:
        names = source.names(rest)
        if len(set(names.values())) == len(rest):
            return _by_name(source, names, steps, weights.config)
        if len(names) > len(rest) // 2:
            odd = next((name for name in rest if name not in names), rest[0])
            raise InputError(
                f"{path}: a {source.scheme} network, but for the layer {odd!r}",
                "Save the DenseNet alone, with its classifier.",
            )
    ordered = steps if weights.ordered else _interleaved(steps)
    return _by_order(ordered, weights.config, path, by_order)


def _merged(layers: Iterable[Layer]) -> list[Layer]:
    """The layers with each Scale (gamma, beta) put into the BN in front of it."""
    found: list[Layer] = []
    for layer in layers:
        if layer.kind == "scale" and found and found[-1].kind == "norm":
            found[-1] = _scaled(found[-1], layer.arrays)
        else:
            found.append(layer)
    return found


def _scaled(norm: Layer, scale: Mapping[str, Floats]) -> Layer:
    gamma = norm.arrays["gamma"] * scale["gamma"]
    beta = norm.arrays["beta"] * scale["gamma"] + scale["beta"]
    return Layer(norm.name, {**norm.arrays, "gamma": gamma, "beta": beta})


def _step(layer: Layer, path: Path) -> Step:
    kind, arrays = layer.kind, layer.arrays
    if kind is None or kind == "scale":
        raise InputError(
            f"{path}: {layer.name} has {', '.join(arrays)}, as no layer of a DenseNet has here",
            "Known are convolutions without bias, BNs with gamma and beta, and a Dense with bias.",
        )
    if kind == "norm":
        values = [arrays[role] for role in ("gamma", "beta", "mean", "variance")]
    elif kind == "linear":
        values = [arrays["kernel"].T, arrays["bias"]]
    else:
        values = [_kernel(arrays["kernel"], layer.name, path)]
    return Step(kind, layer.name, tuple(_tensor(value) for value in values))


def _kernel(kernel: Floats, name: str, path: Path) -> Floats:
    """(out, in, kh, kw) of (kh, kw, in, out)."""
    if kernel.shape[:2] not in ((1, 1), (3, 3), (7, 7)):
        raise InputError(
            f"{path}: {name} has a kernel {kernel.shape}, where (height, width, in, out) with 1, 3 "
            "or 7 pixels is expected",
            "Files of Keras 1 with Theano's order may have flipped kernels: convert them with it.",
        )
    return kernel.transpose(3, 2, 0, 1)


def _tensor(array: Floats) -> Tensor:
    return torch.from_numpy(array.copy())


def _check_classifier(steps: Sequence[Step], path: Path) -> None:
    heads = [step.name for step in steps if step.kind == "linear"]
    if not heads:
        raise InputError(
            f"{path}: no classifier inside (saved with include_top=False)",
            "Give the weights with their Dense layer: edgedense needs the whole network.",
        )
    if len(heads) > 1:
        raise InputError(
            f"{path}: {len(heads)} Dense layers ({', '.join(heads[:3])})",
            "A DenseNet has one, its classifier.",
        )


def _by_name(
    source: _Source, names: dict[str, str], steps: Sequence[Step], config: Config | None
) -> Recognised:
    state: dict[str, Tensor] = {}
    for step in steps:
        state |= named(names.get(step.name, "classifier"), step)
    colour = state["features.conv0.weight"].shape[1] == 3
    return Recognised(
        source.scheme,
        state,
        Facts(
            eps=config.eps if config else source.eps,
            padding=config.padding if config else "symmetric",
            activation=config.activation if config else "softmax",
            preset=source.preset if colour else None,
            notes=_notes(config),
        ),
    )


def _notes(config: Config | None) -> tuple[str, ...]:
    if config is None or not config.preprocessing:
        return ()
    kinds = ", ".join(config.preprocessing)
    return (f"Its own preprocessing ({kinds}) is not read: do as it does with --preprocess.",)


def _interleaved(steps: Sequence[Step]) -> list[Step]:
    """Steps in the order of the data, of which only those of one kind are ordered."""
    by_kind = {
        kind: [step for step in steps if step.kind == kind] for kind in ("conv", "norm", "linear")
    }
    convs, norms = by_kind["conv"], by_kind["norm"]
    cut = 1 if _has_wide_stem(convs) else 0
    pairs = zip_longest(norms[cut:], convs[1:])
    body = [step for pair in pairs for step in pair if step is not None]
    return [*convs[:1], *norms[:cut], *body, *by_kind["linear"]]


def _has_wide_stem(steps: Sequence[Step]) -> bool:
    first = steps[0].tensors[0].shape if steps else ()
    return tuple(first[2:]) == (7, 7)


def _by_order(
    steps: Sequence[Step], config: Config | None, path: Path, by_order: bool
) -> Recognised:
    state, notes = arrange(steps, path)
    wide = _has_wide_stem(steps)
    if config is not None:
        titu = wide and config.padding == "same" and config.eps == _TITU_EPS
        facts = Facts(eps=config.eps, padding=config.padding, activation=config.activation)
        read = "Read by order; eps, padding and concats are as the file describes them."
        notes = (read, *_notes(config), *notes)
    elif wide or by_order:
        titu = wide
        padding: Padding = "same" if wide else "symmetric"
        facts = Facts(eps=_TITU_EPS, padding=padding, activation="softmax")
        notes = (ASSUMED, f"eps {_TITU_EPS} is assumed, as in titu1994/DenseNet.", *notes)
    else:
        raise _ambiguous(path)
    colour = state["features.conv0.weight"].shape[1] == 3
    preset = "caffe" if titu and colour else None
    scheme = "titu1994" if titu else "keras-order"
    return Recognised(scheme, state, replace(facts, preset=preset, notes=notes))


def _ambiguous(path: Path) -> InputError:
    return InputError(
        f"{path}: automatic names fit titu1994/DenseNet (concat [input, new], eps 1.1e-5, earlier "
        "1e-3) as well as code with [new, input], such as cmasch/densenet, which is not supported",
        f"Save the whole model (model.save), which tells; or accept the first: "
        f"edgedense import {path.name} -o DIR --scheme order",
    )


def _positional(arrays: dict[str, Floats], path: Path, by_order: bool) -> Recognised:
    numbers = sorted(int(name.removeprefix("arr_")) for name in arrays)
    if numbers != list(range(len(numbers))):
        missing = min(set(range(len(numbers))) - set(numbers))
        raise InputError(
            f"{path}: arr_{missing} is missing among {len(numbers)} arrays",
            "The file is incomplete: copy or save it again.",
        )
    ordered = {name: arrays[name] for name in (f"arr_{number}" for number in numbers)}
    kernels = [array.shape for array in ordered.values() if array.ndim == 4]
    if any(shape[2] != shape[3] or shape[3] not in (1, 3, 7) for shape in kernels):
        return _positional_keras(ordered, path, by_order)
    if not by_order:
        raise InputError(
            f"{path}: arrays without names do not tell whether concats are [input, new], nor "
            "whether transitions have a ReLU",
            f"Where they do, as in the authors' code: edgedense import {path.name} -o DIR "
            "--scheme order",
        )
    tensors = {name: torch.from_numpy(array) for name, array in ordered.items()}
    return recognise_order(tensors, path)


def _positional_keras(arrays: dict[str, Floats], path: Path, by_order: bool) -> Recognised:
    """Arrays of Keras' model.get_weights()."""
    tensors = {}
    for name, array in arrays.items():
        value = _kernel(array, name, path) if array.ndim == 4 else array.T
        tensors[name] = _tensor(value)
    steps = steps_of(tensors, path)
    if _has_wide_stem(steps):
        raise InputError(
            f"{path}: unnamed Keras weights of a 7x7 stem fit keras-applications (padding 3, eps "
            "1.001e-5) and titu1994/DenseNet (padding same, eps 1.1e-5)",
            "Save them with their names: model.save_weights('weights.h5')",
        )
    return _by_order(steps, None, path, by_order)
