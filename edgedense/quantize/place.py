"""Where the Q/DQ pairs go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgedense.errors import InputError
from edgedense.graph.nodes import FP16_MAX, Array, Graph, Node, Quantize, Weighted, out_axis


def quantized_nodes(graph: Graph, skip: Iterable[str] = ()) -> tuple[Weighted, ...]:
    """The nodes that run in INT8: every convolution and classifier, but those in ``skip``."""
    skipped = frozenset(skip)
    return tuple(node for node in graph.weighted() if node.name not in skipped)


def place_conv(graph: Graph, amax: Mapping[str, float], skip: Iterable[str] = ()) -> Graph:
    """Placement ``conv``: Q/DQ on the input of every convolution and of the classifier.

    ``amax`` gives the range of each such input. Concats, BN and ReLU stay in floating point, so
    nothing is requantized between a producer and a concat. Weights get one scale an output
    channel. The result is a new graph; ``graph`` is left alone. Errors: InputError where a range
    is too large for an FP16 scale.
    """
    chosen = {node.name for node in quantized_nodes(graph, skip)}
    nodes: list[Node] = []
    pairs: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node, Weighted) and node.name in chosen:
            if node.input not in pairs:
                pairs[node.input] = f"{node.input}.qdq"
                scale = representable(amax[node.input] / 127, node.input)
                nodes.append(Quantize(pairs[node.input], node.input, float(scale)))
            weight_scale = weight_scales(node)
            nodes.append(replace(node, input=pairs[node.input], weight_scale=weight_scale))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


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
