"""Weights as they are stored: integers where a node has scales. Needs no PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgedense.graph.nodes import Array, Weighted, out_axis


def quantized_weight(node: Weighted) -> NDArray[np.int8]:
    """INT8 weights of a node whose ``weight_scale`` is set; symmetric, within [-127, 127]."""
    scale = _column(node)
    weight: NDArray[np.int8] = np.clip(np.rint(node.weight / scale), -127, 127).astype(np.int8)
    return weight


def stored_weight(node: Weighted) -> Array:
    """The weights that a node multiplies with: its INT8 weights times their scales, where set."""
    if node.weight_scale is None:
        return node.weight
    weight: Array = quantized_weight(node).astype(np.float32) * _column(node)
    return weight


def _column(node: Weighted) -> Array:
    """``weight_scale`` in a shape that multiplies the weights."""
    assert node.weight_scale is not None
    shape = [1] * node.weight.ndim
    shape[out_axis(node)] = -1
    return node.weight_scale.reshape(shape)
