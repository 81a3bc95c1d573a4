"""The JSON of TensorRT's engine inspector, as 8.x to 11.x and trtexec write it.

8.x to 10.x tell an end's layout and type in one text, ``Format/Datatype``, and the ends of the
engine by name in ``Bindings``; 11.x has a field for each and ``I/O Tensors``. Source: "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x" in NVIDIA's TensorRT documentation. What holds
the layers (a list, or an object with Layers, layers, LayerInfo or layerInfo) is what NVIDIA's own
reader accepts (NVIDIA/TensorRT, trt_perf/layer_info.py of 11.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from edgedense.errors import InputError
from edgedense.insight.layers import Layer, Tensor, data_type

_HOLDERS = ("Layers", "layers", "LayerInfo", "layerInfo")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_AGAIN = (
    "Give the engine's artifact, or what trtexec --loadEngine=ENGINE --exportLayerInfo=FILE.json "
    "--profilingVerbosity=detailed wrote."
)
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Inspected:
    """The layers of an engine in the order in which they run.

    ``names`` are those of layers of which nothing else is told (LAYER_NAMES_ONLY); ``inputs`` and
    ``outputs`` are the engine's own ends, where they are told (8.x to 10.x do not tell which is
    which: both hold them all).
    """

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    inputs: frozenset[str]
    outputs: frozenset[str]

    @property
    def names_only(self) -> bool:
        """Whether the engine was built so that nothing but names is told."""
        return bool(self.names) and not self.layers


def read_layers(data: bytes, name: str) -> Inspected:
    """The layers in ``data``, which is called ``name`` in messages.

    Errors: InputError where it is no JSON, or has no layers.
    """
    raw = parse(data, name)
    found = _layers(raw, name)
    layers = [layer for layer in found if isinstance(layer, dict)]
    inputs, outputs = _ends(raw)
    return Inspected(
        layers=tuple(_layer(layer, number) for number, layer in enumerate(layers)),
        names=tuple(layer for layer in found if isinstance(layer, str)),
        inputs=inputs,
        outputs=outputs,
    )


def parse(data: bytes, name: str, remedy: str = _AGAIN) -> Any:
    """JSON out of a file that anybody may have written. Errors: InputError where it is none."""
    if len(data) > _MOST_BYTES:
        raise InputError(f"{name} has {len(data):,} bytes: no such list is that long", remedy)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else str(error)[:100]
        raise InputError(f"{name} is no JSON ({reason})", remedy) from error


def _layers(raw: Any, name: str) -> list[Any]:
    held = raw
    if isinstance(raw, dict):
        held = next((raw[key] for key in _HOLDERS if isinstance(raw.get(key), list)), None)
    if not isinstance(held, list) or not held:
        raise InputError(f"{name} holds no layers of an engine", _AGAIN)
    for number, layer in enumerate(held):
        if not isinstance(layer, dict | str):
            kind = type(layer).__name__
            raise InputError(f"{name}: layer {number} is a {kind}, no object or name", _AGAIN)
    if not any(isinstance(layer, str) or "Name" in layer for layer in held):
        raise InputError(f"{name} holds a list, but not of layers: none has a Name", _AGAIN)
    return held


def _layer(raw: Mapping[str, Any], number: int) -> Layer:
    weights = raw.get("Weights")
    kind = weights.get("Type") if isinstance(weights, dict) else None
    groups = raw.get("Groups")
    return Layer(
        name=str(raw.get("Name") or f"layer {number}"),
        kind=str(raw.get("LayerType") or ""),
        inputs=_tensors(raw.get("Inputs")),
        outputs=_tensors(raw.get("Outputs")),
        onnx=tuple(_NODE.findall(str(raw.get("Metadata") or ""))),
        parameter=str(raw.get("ParameterType") or ""),
        origin=str(raw.get("Origin") or ""),
        tactic=str(raw.get("TacticName") or ""),
        weights=data_type(str(kind)) if kind else None,
        kernel=_numbers(raw.get("Kernel")),
        groups=groups if isinstance(groups, int) and groups > 0 else 1,
    )


def _tensors(raw: Any) -> tuple[Tensor, ...]:
    return tuple(_tensor(end) for end in raw if isinstance(end, dict)) if _is_list(raw) else ()


def _tensor(raw: Mapping[str, Any]) -> Tensor:
    fields = {str(key).lower().replace(" ", ""): value for key, value in raw.items()}
    both = str(fields.get("format/datatype") or "")
    layout = str(fields.get("format") or both)
    kind = str(fields.get("datatype") or "")
    return Tensor(
        name=str(raw.get("Name") or ""),
        shape=_numbers(raw.get("Dimensions")),
        format=layout,
        type=data_type(kind) or data_type(layout),
    )


def _ends(raw: Any) -> tuple[frozenset[str], frozenset[str]]:
    if not isinstance(raw, dict):
        return frozenset(), frozenset()
    told = raw.get("I/O Tensors")
    if _is_list(told):
        ends = [end for end in told if isinstance(end, dict)]
        sides = ("input", "output")
        first, second = (
            frozenset(
                str(end.get("Name")) for end in ends if str(end.get("IOMode")).lower() == side
            )
            for side in sides
        )
        return first, second
    both = raw.get("Bindings")
    names = frozenset(name for name in both if isinstance(name, str)) if _is_list(both) else None
    return names or frozenset(), names or frozenset()


def _numbers(raw: Any) -> tuple[int, ...]:
    if not _is_list(raw):
        return ()
    return tuple(
        number if isinstance(number, int) and not isinstance(number, bool) else -1 for number in raw
    )


def _is_list(raw: Any) -> TypeGuard[list[Any]]:
    return isinstance(raw, list)
