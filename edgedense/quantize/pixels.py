"""Images without quantization error: each 8-bit pixel value has an INT8 code of its own.

Exact in FP32. Every preprocessing ends with (x / 255 - mean) / std of 8-bit values; quantized as
such, under one scale for all colours, the values fall between the codes, and the very first tensor
costs more accuracy than any other. Taken back to ``x - 128`` a colour, they are the codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from edgedense.data import Preprocess
from edgedense.graph.nodes import Affine, Conv, Graph, Node, Pad

PIXELS = "pixels"  # the value that holds x - 128: its scale is 1
_PADDED = f"{PIXELS}.pad"


def exact_pixels(graph: Graph, preprocess: Preprocess, skip: Iterable[str] = ()) -> Graph:
    """The same function, its first convolution reading whole numbers from -128 to 127.

    The border is padded before, where 0 is still 0: behind, it would be the code of another colour.
    Graphs whose first convolution is in ``skip`` or reads the images otherwise stay as they are.
    """
    readers, nodes = graph.readers(), {node.name: node for node in graph.nodes}
    value, names = graph.input, readers[graph.input]
    if len(names) == 1 and isinstance(nodes[names[0]], Pad):
        value, names = names[0], readers[names[0]]
    stem = nodes[names[0]]
    if len(names) != 1 or not isinstance(stem, Conv) or stem.name in skip:
        return graph
    scale = 255 * np.array(preprocess.std)
    shift = 255 * np.array(preprocess.mean) - 128
    weight = stem.weight / scale[:, np.newaxis, np.newaxis]
    bias = stem.bias - weight.sum(axis=(2, 3)) @ shift
    new: list[Node] = []
    if stem.padding:
        new.append(Pad(_PADDED, value, (stem.padding,) * 4, "constant"))
        value = _PADDED
    new.append(Affine(PIXELS, value, scale.astype(np.float32), shift.astype(np.float32)))
    single = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    new.append(replace(stem, input=PIXELS, padding=0, **single))
    at = graph.nodes.index(stem)
    return replace(graph, nodes=(*graph.nodes[:at], *new, *graph.nodes[at + 1 :]))
