"""DenseNets from Caffe: shicai/DenseNet-Caffe, liuzhuang13/DenseNetCaffe, and others by order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedense import environment
from edgedense.densenet.checkpoints.layer_names import shicai_names
from edgedense.densenet.checkpoints.order import ASSUMED, Step, arrange, named
from edgedense.densenet.checkpoints.recognised import Facts, Recognised
from edgedense.densenet.spec import Activation
from edgedense.errors import InputError

# the default of Caffe's BatchNormParameter
_EPS = 1e-5
_ROUNDING = "Caffe rounds pooled sizes up unless told otherwise; here they are rounded down."
_MEAN_IMAGE = "Such networks usually had a mean image subtracted: give the preprocessing."


def recognise_caffe(path: Path) -> Recognised:
    """Recognise a DenseNet in a ``.caffemodel``.

    Errors: InputError for a truncated or foreign file, another network, and reversed concats;
    MachineError without protobuf, which onnx brings.
    """
    environment.require("onnx", f"reading {path}")
    layers = _read(path)
    _check_concats(layers, path)
    steps = _steps([layer for layer in layers if layer.blobs], path)
    facts = Facts(eps=_eps(layers, path), activation=_activation(layers), notes=(_ROUNDING,))
    rest = [step.name for step in steps if step.kind != "linear"]
    names = shicai_names(rest)
    if len(rest) == len(steps) - 1 and len(set(names.values())) == len(rest):
        state: dict[str, Tensor] = {}
        for step in steps:
            state |= named(names.get(step.name, "classifier"), step)
        return Recognised("shicai", state, replace(facts, preset="caffe"))
    state, notes = arrange(steps, path)
    notes = (ASSUMED, _MEAN_IMAGE, *facts.notes, *notes)
    return Recognised("caffe", state, replace(facts, notes=notes))


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: tuple[Tensor, ...]
    eps: float = _EPS


def _check_concats(layers: Sequence[_Layer], path: Path) -> None:
    kinds: dict[str, str] = {}
    for layer in layers:
        sources = [kinds.get(bottom, "") for bottom in layer.bottoms]
        if layer.kind == "Concat" and not {"Concat", "Pooling"}.isdisjoint(sources[1:]):
            raise InputError(
                f"{path}: {layer.name} concatenates [new features, input], not [input, new]",
                "Caffe networks with this order are not supported.",
            )
        # splits, ReLU and dropout hand on what they get
        kind = layer.kind if layer.kind in _MAKERS or not sources else sources[0]
        kinds |= dict.fromkeys(layer.tops, kind)


_MAKERS = ("Convolution", "Concat", "Pooling")


def _steps(layers: Sequence[_Layer], path: Path) -> list[Step]:
    steps, waiting = [], list(reversed(layers))
    while waiting:
        layer = waiting.pop()
        if layer.kind == "BatchNorm" and len(layer.blobs) == 3:
            scale = waiting.pop().blobs if waiting and waiting[-1].kind == "Scale" else ()
            steps.append(Step("norm", layer.name, _norm(layer, scale, path)))
        elif layer.kind == "InnerProduct" or (layer.kind == "Convolution" and not waiting):
            steps.append(Step("linear", layer.name, _linear(layer, path)))
        elif layer.kind == "Convolution" and [blob.ndim for blob in layer.blobs] == [4]:
            steps.append(Step("conv", layer.name, layer.blobs))
        else:
            shapes = ", ".join(str(tuple(blob.shape)) for blob in layer.blobs)
            raise InputError(
                f"{path}: the layer {layer.name} ({layer.kind or 'of unknown type'}, {shapes}) has "
                "no place in a DenseNet",
                "Known are convolutions without bias, BatchNorm with Scale, and one classifier.",
            )
    return steps


def _norm(layer: _Layer, scale: Sequence[Tensor], path: Path) -> tuple[Tensor, ...]:
    """Gamma, beta, mean, variance of BatchNorm's sums and Scale's factors."""
    mean, variance, factor = (blob.flatten() for blob in layer.blobs)
    gamma = scale[0].flatten() if scale else torch.ones_like(mean)
    beta = scale[1].flatten() if len(scale) > 1 else torch.zeros_like(mean)
    if len({vector.shape for vector in (mean, variance, gamma, beta)}) > 1 or len(factor) != 1:
        raise InputError(
            f"{path}: the blobs of {layer.name} and its Scale differ in length",
            "Copy or download the file again.",
        )
    # as in Caffe, where 0 stands for statistics that were never taken
    share = 1 / factor if factor else factor
    return gamma, beta, mean * share, variance * share


def _linear(layer: _Layer, path: Path) -> tuple[Tensor, Tensor]:
    """(out, in) and (out) of an InnerProduct, or of a 1x1 convolution behind the global pool."""
    weight = layer.blobs[0]
    shape = weight.shape[-2:] if layer.kind == "InnerProduct" else weight.shape[:2]
    if len(shape) != 2 or math.prod(shape) != weight.numel() or len(layer.blobs) > 2:
        raise InputError(
            f"{path}: {layer.name} {tuple(weight.shape)} comes last and is no classifier",
            "Give a whole classification network.",
        )
    bias = layer.blobs[1].flatten() if len(layer.blobs) == 2 else torch.zeros(shape[0])
    return weight.reshape(shape), bias


def _eps(layers: Sequence[_Layer], path: Path) -> float:
    found = {layer.eps for layer in layers if layer.kind == "BatchNorm"} or {_EPS}
    if len(found) > 1:
        raise InputError(
            f"{path}: its BatchNorm layers have {len(found)} different eps {sorted(found)[:3]}",
            "Networks with one eps are supported.",
        )
    return found.pop()


def _activation(layers: Sequence[_Layer]) -> Activation:
    if {"Softmax", "SoftmaxWithLoss"} & {layer.kind for layer in layers}:
        return "softmax"
    sigmoid = {"Sigmoid", "SigmoidCrossEntropyLoss"} & {layer.kind for layer in layers}
    return "sigmoid" if sigmoid else "none"


def _read(path: Path) -> list[_Layer]:
    from google.protobuf.message import DecodeError

    from edgedense.densenet.checkpoints.caffe_proto import net_parameter

    net = net_parameter()()
    try:
        net.ParseFromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise InputError(
            f"{path}: not a Caffe model, or truncated",
            "Copy or download the file again, and compare its size with the original.",
        ) from error
    layers = [_layer(raw, _text(raw.type), path) for raw in net.layer]
    layers += [_layer(raw, _V1_KINDS.get(raw.type, ""), path) for raw in net.layers]
    if not any(layer.blobs for layer in layers):
        raise InputError(
            f"{path}: no layers with weights inside",
            "Give the .caffemodel, not its .prototxt or .solverstate.",
        )
    return layers


# of caffe.proto's V1LayerParameter.LayerType, those that a DenseNet may have
_V1_KINDS = {
    **{3: "Concat", 4: "Convolution", 14: "InnerProduct", 17: "Pooling"},
    **{19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 27: "SigmoidCrossEntropyLoss"},
}


def _layer(raw: Any, kind: str, path: Path) -> _Layer:
    name = _text(raw.name)
    eps = _EPS
    if kind == "BatchNorm" and raw.HasField("batch_norm_param"):
        given = raw.batch_norm_param
        # a float32 of the file, as the decimal number that was meant
        eps = float(f"{given.eps:.7g}") if given.HasField("eps") else _EPS
    bottoms, tops = ([_text(name) for name in names] for names in (raw.bottom, raw.top))
    blobs = tuple(_blob(blob, name, path) for blob in raw.blobs)
    return _Layer(name, kind, tuple(bottoms), tuple(tops), blobs, eps)


def _text(raw: bytes) -> str:
    """For comparing and for messages, of one line whatever a hostile file says."""
    return "".join(c if c.isprintable() else "?" for c in raw.decode(errors="replace"))


def _blob(raw: Any, name: str, path: Path) -> Tensor:
    """Float32 tensor; the old form of a blob has four axes, for vectors too."""
    old = [raw.num, raw.channels, raw.height, raw.width]
    shape = [*raw.shape.dim] if raw.HasField("shape") else old
    data, kind = (b"".join(raw.data), "<f4") if raw.data else (b"".join(raw.double_data), "<f8")
    size = np.dtype(kind).itemsize
    if any(axis < 0 for axis in shape) or math.prod(shape) * size != len(data):
        raise InputError(
            f"{path}: a blob of {name} has {len(data) // size} numbers for a shape {shape}",
            "Copy or download the file again.",
        )
    values: NDArray[np.float32] = np.frombuffer(data, kind).astype(np.float32)
    return torch.from_numpy(values.reshape(shape))
