"""The span of each channel of a concat that is worth codes: what its readers can tell apart.

A channel's readers are BN and ReLU, each with its own threshold. Values below the thresholds of all
of them make no difference, so clipping there costs nothing; what else is clipped costs what the
readers' convolutions make of it, against finer steps for all the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedense.graph.nodes import Affine, Conv, Graph, Linear, Node, Relu
from edgedense.quantize.concats import Family, behind, families
from edgedense.quantize.equalize import LEVELS, Span
from edgedense.quantize.observe import as_it_lies

Double = NDArray[np.float64]
_BINS = 512
_CUTS = np.linspace(0, 0.9, 46)  # shares of a channel's span to cut off at one end
_LEAST = 0.02  # share of a channel's span that stays
# what is clipped is rare and large, and every later layer reads it: the few images that it hits
# lose far more than the mean square over all values tells
_CLIP_WEIGHT = 256.0
# of the span, at the end that passes the readers' ReLUs: other images than those of the calibration
# set reach further
_HEADROOM = 0.15


class ChannelHistograms:
    """Counts a channel of values (N, channels, H, W), in bins of one width a channel.

    The first batch chooses the bins; where later values lie beyond them their width doubles,
    merging pairs.
    """

    def __init__(self, first: Tensor) -> None:
        low, high = _ends(first)
        self._start = low
        # the largest value lies below the end of the last bin
        self._width = torch.where(high > low, (high - low) * (1 + 1e-6), 1.0) / _BINS
        self.low, self.high = low.double().numpy(), high.double().numpy()
        self.counts = np.zeros((first.shape[1], _BINS))

    def add(self, value: Tensor) -> None:
        """Count a batch."""
        low, high = _ends(value)
        self.low = np.minimum(self.low, low.double().numpy())
        self.high = np.maximum(self.high, high.double().numpy())
        if torch.isfinite(low).all() and torch.isfinite(high).all():
            self._widen(low, high)
        channels = value.shape[1]
        bins = (value - self._start.view(1, -1, 1, 1)).div_(self._width.view(1, -1, 1, 1))
        bins = bins.clamp_(0, _BINS - 1).floor_()
        bins += torch.arange(channels).view(1, -1, 1, 1) * _BINS
        found = torch.bincount(as_it_lies(bins).flatten().int(), minlength=channels * _BINS)
        self.counts += found.view(channels, _BINS).numpy()

    def _widen(self, low: Tensor, high: Tensor) -> None:
        """Bins that reach ``low`` and ``high`` (channels,)."""
        half = _BINS // 2
        below, above = self._beyond(low, high)
        while (below | above).any():
            down, wider = below.numpy()[:, np.newaxis], (below | above).numpy()[:, np.newaxis]
            merged = self.counts.reshape(len(wider), half, 2).sum(axis=2)
            grown = np.hstack([np.where(down, 0, merged), np.where(down, merged, 0)])
            self.counts = np.where(wider, grown, self.counts)
            self._start = torch.where(below, self._start - _BINS * self._width, self._start)
            self._width = torch.where(below | above, 2 * self._width, self._width)
            below, above = self._beyond(low, high)

    def _beyond(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return low < self._start, high > self._start + _BINS * self._width

    def shares(self) -> Double:
        """Share of the values in each bin (channels, bins)."""
        found: Double = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return found

    def centres(self) -> Double:
        """The middle of each bin (channels, bins), within what was seen."""
        start, width = self._start.double().numpy(), self._width.double().numpy()
        centres = start[:, np.newaxis] + width[:, np.newaxis] * (np.arange(_BINS) + 0.5)
        found: Double = np.clip(centres, self.low[:, np.newaxis], self.high[:, np.newaxis])
        return found


def _ends(value: Tensor) -> tuple[Tensor, Tensor]:
    return value.amin((0, 2, 3)), value.amax((0, 2, 3))


@dataclass(frozen=True, eq=False)
class WorthSpan(Span):
    """A span, and what ``rounding`` within it costs at the readers' outputs (channels,).

    In shares of the outputs' power, summed over the readers. ``divided`` is what it would cost with
    as many codes below ``knee`` as above it.
    """

    rounding: Double
    knee: Double
    divided: Double


def spans(graph: Graph, seen: Mapping[str, ChannelHistograms]) -> dict[str, WorthSpan]:
    """The best span of each channel of each producer of a concat."""
    nodes = {node.name: node for node in graph.nodes}
    users = graph.readers()
    readers = {
        name: _readers(family, name, nodes, users, len(seen[name].low))
        for family in families(graph)
        for name in family.producers
    }
    powers: defaultdict[str, float] = defaultdict(float)
    for name, reading in readers.items():
        x, share = seen[name].centres(), seen[name].shares()
        for reader in reading:
            powers[reader.node] += reader.power(x, share)
    return {name: _best(seen[name], reading, powers) for name, reading in readers.items()}


@dataclass(frozen=True, eq=False)
class _Reader:
    """What one reader makes of a channel x: ``energy * max(scale * x + shift, low) ** 2``."""

    node: str
    scale: Double
    shift: Double
    low: float
    energy: Double

    def answer(self, x: Double) -> Double:
        found: Double = self.scale[:, np.newaxis] * x + self.shift[:, np.newaxis]
        return np.maximum(found, self.low)

    def power(self, x: Double, share: Double) -> float:
        """Of what these channels add to the output of the reader's convolution."""
        answer = self.answer(x)
        mean = (share * answer).sum(axis=1)
        return float(self.energy @ ((share * np.square(answer)).sum(axis=1) - np.square(mean)))


def _readers(
    family: Family,
    producer: str,
    nodes: Mapping[str, Node],
    users: Mapping[str, list[str]],
    channels: int,
) -> list[_Reader]:
    found = []
    for reading in family.readings[producer]:
        part = slice(reading.offset, reading.offset + channels)
        chain = behind(reading, nodes, users)
        norm, layer = chain[0], chain[-1]
        scale, shift, energy = np.ones(channels), np.zeros(channels), np.ones(channels)
        if isinstance(norm, Affine):
            scale, shift = norm.scale[part].astype(np.float64), norm.shift[part].astype(np.float64)
        low = next((node.low for node in chain if isinstance(node, Relu)), -np.inf)
        if isinstance(layer, Conv | Linear):
            by_input = np.square(layer.weight[:, part].astype(np.float64))
            energy = by_input.reshape(len(by_input), channels, -1).sum(axis=(0, 2))
        found.append(_Reader(reading.node, scale, shift, low, energy))
    return found


def _best(
    seen: ChannelHistograms, readers: list[_Reader], powers: Mapping[str, float]
) -> WorthSpan:
    """The ends, among cuts from both sides, of the least error at the readers' outputs.

    An error counts by its share of the ``powers`` of the reader's output.
    """
    x, share = seen.centres(), seen.shares()
    width = (seen.high - seen.low)[:, np.newaxis]
    lows = seen.low[:, np.newaxis] + _CUTS * width
    highs = seen.high[:, np.newaxis] - _CUTS * width
    below, above = np.zeros_like(lows), np.zeros_like(highs)
    worth, rising = np.zeros_like(x), np.zeros(len(x))
    for reader in readers:
        exact = reader.answer(x)
        energy = reader.energy / (powers[reader.node] or 1.0)
        passed = (energy * reader.scale**2)[:, np.newaxis] * share * (exact > reader.low)
        worth += passed
        rising += passed.sum(axis=1) * np.sign(reader.scale)
        for cut in range(len(_CUTS)):
            low, high = lows[:, cut : cut + 1], highs[:, cut : cut + 1]
            lost = np.square(reader.answer(np.maximum(x, low)) - exact)
            below[:, cut] += energy * (share * lost).sum(axis=1)
            lost = np.square(reader.answer(np.minimum(x, high)) - exact)
            above[:, cut] += energy * (share * lost).sum(axis=1)
    left = highs[:, np.newaxis, :] - lows[:, :, np.newaxis]
    total = worth.sum(axis=1)
    rounding = total[:, np.newaxis, np.newaxis] * (left / LEVELS) ** 2 / 12
    error = _CLIP_WEIGHT * (below[:, :, np.newaxis] + above[:, np.newaxis, :]) + rounding
    error[left < _LEAST * width[:, :, np.newaxis]] = np.inf
    low, high = np.unravel_index(error.reshape(len(x), -1).argmin(axis=1), error.shape[1:])
    each = np.arange(len(x))
    room = _HEADROOM * left[each, low, high]
    up = rising >= 0
    bottom, top = lows[each, low] - room * ~up, highs[each, high] + room * up
    knee, divided = _divided(x, worth, bottom, top)
    return WorthSpan(bottom, top, total * ((top - bottom) / LEVELS) ** 2 / 12, knee, divided)


def _divided(x: Double, worth: Double, low: Double, high: Double) -> tuple[Double, Double]:
    """Where to divide each span in two of as many codes, and what rounding costs then.

    ``worth`` is what a squared error of the values ``x`` (channels, bins) costs.
    """
    knees = low[:, np.newaxis] + np.linspace(0, 1, _BINS + 1)[1:] * (high - low)[:, np.newaxis]
    upto = np.pad(worth.cumsum(axis=1), ((0, 0), (1, 0)))
    bins = [np.searchsorted(values, knee, "right") for values, knee in zip(x, knees, strict=True)]
    below = np.take_along_axis(upto, np.stack(bins), axis=1)
    above = upto[:, -1:] - below
    parts = below * (knees - low[:, np.newaxis]) ** 2 + above * (high[:, np.newaxis] - knees) ** 2
    best, each = parts.argmin(axis=1), np.arange(len(x))
    return knees[each, best], parts[each, best] / LEVELS**2 / 12
