"""Where the Q/DQ pairs go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

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
from edgedense.graph.run import stored_weight
from edgedense.quantize.concats import families


def quantized_nodes(graph: Graph, skip: Iterable[str] = ()) -> tuple[Weighted, ...]:
    """The nodes that run in INT8: every convolution and classifier, but those in ``skip``."""
    skipped = frozenset(skip)
    return tuple(node for node in graph.weighted() if node.name not in skipped)


def place_conv(graph: Graph, scales: Mapping[str, float], skip: Iterable[str] = ()) -> Graph:
    """Placement ``conv``: Q/DQ on the input of every convolution and of the classifier.

    ``scales`` gives the scale of each such input. Concats, BN and ReLU stay in floating point, so
    nothing is requantized between a producer and a concat. Weights get one scale an output
    channel. The result is a new graph; ``graph`` is left alone. Errors: InputError where a
    weight's range is too large for an FP16 scale.
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
            quantized = replace(node, input=pairs[node.input], weight_scale=weight_scales(node))
            pool = pools.get(node.input)
            relu = relus.get(pool.input if pool else node.input)
            nodes.append(_settled(node, quantized, -relu.low if relu else 0.0))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def place_block(graph: Graph, scales: Mapping[str, float], skip: Iterable[str] = ()) -> Graph:
    """Placement ``block``: as ``conv``, and every concat is INT8 under one scale a family.

    ``scales`` also gives each concat's producers theirs, all equal within a family: a concat is
    then a copy of bytes, and nothing is requantized between a producer and its readers.
    """
    found = families(graph)
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
    return place_conv(replace(graph, nodes=tuple(nodes)), inner, skip)


def _settled(exact: Weighted, quantized: Weighted, down: float) -> Weighted:
    """The bias takes back a move of the input by the weights as they are stored."""
    if not down or quantized.weight_scale is None:
        return quantized
    error = stored_weight(quantized).astype(np.float64) - exact.weight
    sums = error.reshape(len(error), -1).sum(axis=1)
    return replace(quantized, bias=(exact.bias + down * sums).astype(np.float32))


def weight_scales(node: Weighted) -> Array:
    """Scales (out,) that map each output channel's largest weight to 127."""
    by_output = np.moveaxis(node.weight, out_axis(node), 0)
    peak = np.abs(by_output).reshape(len(by_output), -1).max(axis=1)
    return representable(peak.astype(np.float64) / 127, node.name)


def representable(scale: float | NDArray[np.float64], name: str) -> Array:
    """``scale`` rounded up to FP16, so that FP32 and FP16 files hold the same integers.

    Rounding up clips nothing. The floor 2**-20 keeps dead channels from a scale of zero, which
    TensorRT refuses. Errors: InputError, naming the tensor ``name``, above FP16's largest value.
    """
    if np.max(scale) > FP16_MAX:
        raise InputError(
            f"{name}: an INT8 scale of {np.max(scale):.3g} does not fit into FP16",
            "Check --preprocess and the checkpoint: no trained network has values that large.",
        )
    wanted = np.maximum(np.asarray(scale, np.float64), 2.0**-20)
    half = wanted.astype(np.float16)
    with np.errstate(over="ignore"):  # behind the largest value, where it is not taken
        above = np.nextafter(half, np.float16(np.inf))
    return np.where(half >= wanted, half, above).astype(np.float32)
