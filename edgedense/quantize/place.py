"""Where the Q/DQ pairs go."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgedense.errors import InputError
from edgedense.graph.nodes import (
    FP16_MAX,
    Array,
    Concat,
    GlobalPool,
    Graph,
    Node,
    Quantize,
    Relu,
    Weighted,
    out_axis,
)
from edgedense.graph.weights import stored_weight
from edgedense.quantize.concats import Family, families
from edgedense.quantize.options import Float


def quantized_nodes(graph: Graph, skip: Iterable[str] = ()) -> tuple[Weighted, ...]:
    """The nodes that run in INT8: every convolution and classifier, but those in ``skip``."""
    skipped = frozenset(skip)
    return tuple(node for node in graph.weighted() if node.name not in skipped)


def place_conv(
    graph: Graph,
    scales: Mapping[str, float],
    skip: Iterable[str] = (),
    *,
    rest: Float = "fp16",
    weights: Mapping[str, Weighted] = MappingProxyType({}),
) -> Graph:
    """Placement ``conv``: Q/DQ on the input of every convolution and of the classifier.

    ``scales`` gives the scale of each such input. Concats, BN and ReLU stay in floating point, so
    nothing is requantized between a producer and a concat. Weights get one scale an output
    channel, of type ``rest``; those of layers in ``weights`` are rounded already. The result is a
    new graph; ``graph`` is left alone.
    """
    chosen = {node.name for node in quantized_nodes(graph, skip)}
    relus = {node.name: node for node in graph.nodes if isinstance(node, Relu)}
    pools = {node.name: node for node in graph.nodes if isinstance(node, GlobalPool)}
    nodes: list[Node] = []
    pairs: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, Weighted) and node.name in chosen:
            if node.input not in pairs:
                pairs[node.input] = f"{node.input}.qdq"
                nodes.append(Quantize(pairs[node.input], node.input, scales[node.input]))
            if node.name in weights:
                nodes.append(replace(weights[node.name], input=pairs[node.input]))
                continue
            scale = weight_scales(node, rest)
            quantized = replace(node, input=pairs[node.input], weight_scale=scale)
            pool = pools.get(node.input)
            relu = relus.get(pool.input if pool else node.input)
            nodes.append(_settled(node, quantized, -relu.low if relu else 0.0))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def place_block(
    graph: Graph,
    scales: Mapping[str, float],
    skip: Iterable[str] = (),
    float_concats: Iterable[str] = (),
    *,
    rest: Float = "fp16",
    weights: Mapping[str, Weighted] = MappingProxyType({}),
) -> Graph:
    """Placement ``block``: as ``conv``, and every concat is INT8 under one scale a family.

    ``scales`` also gives each concat's producers theirs, all equal within a family: a concat is
    then a copy of bytes, and nothing is requantized between a producer and its readers. Families
    named in ``float_concats`` (see :func:`named_families`) stay in floating point. Errors:
    InputError for a name that there is not.
    """
    named = named_families(graph)
    left = {family_name(graph, name) for name in float_concats}
    found = [family for name, family in named.items() if name not in left]
    producers = {name for family in found for name in family.producers}
    concats = {name: family for family in found for name in family.concats}
    inner = dict(scales)
    for name, family in concats.items():
        inner[name] = scales[family.producers[0]]  # for who reads a concat without BN
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Concat):
            parts = tuple(f"{n}.concat" if n in producers else n for n in node.inputs)
            node = replace(node, inputs=parts)  # noqa: PLW2901
        elif not isinstance(node, Weighted) and node.input in producers:
            node = replace(node, input=f"{node.input}.concat")  # noqa: PLW2901
        nodes.append(node)
        if node.name in producers:
            nodes.append(Quantize(f"{node.name}.concat", node.name, scales[node.name]))
    return place_conv(replace(graph, nodes=tuple(nodes)), inner, skip, rest=rest, weights=weights)


def named_families(graph: Graph) -> dict[str, Family]:
    """The families of concats by the dense blocks that they serve, in the order of the data.

    A skip makes several blocks one family, named after all of them: ``down1+up2``.
    """
    return {"+".join(_blocks(family)): family for family in families(graph)}


def family_name(graph: Graph, name: str) -> str:
    """The family that is called ``name`` or that serves the dense block ``name``.

    Errors: InputError, with the nearest names.
    """
    names = {}
    for whole, family in named_families(graph).items():
        names.update(dict.fromkeys((whole, *_blocks(family)), whole))
    if name not in names:
        close = difflib.get_close_matches(name, names, 3)
        told = f"Nearest: {', '.join(close)}, …" if close else f"There are: {', '.join(names)}"
        raise InputError(f"--float-concat {name}: no such dense block", told)
    return names[name]


def _blocks(family: Family) -> tuple[str, ...]:
    """Dense blocks by their concats' names; a transition's concat reads a block that is there."""
    own = [name for name in family.concats if ".transition." not in name]
    return tuple(dict.fromkeys(name.partition(".")[0] for name in own or family.concats))


def _settled(exact: Weighted, quantized: Weighted, down: float) -> Weighted:
    """The bias takes back a move of the input by the weights as they are stored."""
    if not down or quantized.weight_scale is None:
        return quantized
    error = stored_weight(quantized).astype(np.float64) - exact.weight
    sums = error.reshape(len(error), -1).sum(axis=1)
    return replace(quantized, bias=(exact.bias + down * sums).astype(np.float32))


def weight_scales(node: Weighted, rest: Float = "fp16") -> Array:
    """Scales (out,) that map each output channel's largest weight to 127."""
    by_output = np.moveaxis(node.weight, out_axis(node), 0)
    peak = np.abs(by_output).reshape(len(by_output), -1).max(axis=1)
    return representable(peak.astype(np.float64) / 127, node.name, rest)


def representable(scale: float | NDArray[np.float64], name: str, rest: Float = "fp16") -> Array:
    """``scale`` in float32, with ``rest="fp16"`` rounded up to FP16.

    So FP32 and FP16 files hold the same integers, and rounding up clips nothing. A floor keeps dead
    channels from a scale of zero, which TensorRT refuses. Errors: InputError, naming the tensor
    ``name``, where the scale does not fit.
    """
    largest = FP16_MAX if rest == "fp16" else float(np.finfo(np.float32).max)
    if not np.max(scale) <= largest:
        raise InputError(
            f"{name}: an INT8 scale of {np.max(scale):.3g} does not fit into {rest.upper()}",
            "Keep the other operators in FP32: --rest fp32."
            if rest == "fp16"
            else "Check --preprocess and the checkpoint: values are far too large.",
        )
    if rest == "fp32":
        return np.maximum(scale, 2.0**-60).astype(np.float32)
    wanted = np.maximum(np.asarray(scale, np.float64), 2.0**-20)
    half = wanted.astype(np.float16)
    with np.errstate(over="ignore"):  # behind the largest value, where it is not taken
        above = np.nextafter(half, np.float16(np.inf))
    return np.where(half >= wanted, half, above).astype(np.float32)
