"""From a deployed graph to one that quantizes well, and the scales of all its INT8 values.

The graph that comes out computes the same function in FP32: only rewrites that are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from edgedense.data import Batch, ImageSet, Preprocess, batches
from edgedense.distributed import share
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.progress import SILENT, Progress
from edgedense.quantize.calibrate import Calibration, calibrate, gathered
from edgedense.quantize.concats import families
from edgedense.quantize.equalize import Span, equalize, producers
from edgedense.quantize.fullrange import movables, move
from edgedense.quantize.observe import Histogram
from edgedense.quantize.options import QuantizeOptions
from edgedense.quantize.place import quantized_nodes, representable
from edgedense.quantize.ranges import choose_amax

SYMMETRIC, FULL_RANGE = 127, 255  # steps between 0 and the largest value
_LEAST_SPAN_IMAGES = 16
_PIXELS_AT_ONCE = 8 * 224 * 224


@dataclass(frozen=True)
class Prepared:
    """``graph`` in FP32, the ``scales`` of its INT8 values, and what calibration saw.

    ``amax`` are the ranges that the scales come from: [0, amax] of the values in ``moved``, which
    have all 256 codes for it, and [-amax, amax] of the others.
    """

    graph: Graph
    scales: Mapping[str, float]
    amax: Mapping[str, float]
    moved: tuple[str, ...]
    seen: Calibration


def prepare(
    graph: Graph,
    sample: ImageSet,
    preprocess: Preprocess,
    options: QuantizeOptions,
    progress: Progress = SILENT,
) -> Prepared:
    """Equalize (placement ``block``), calibrate, and move what a ReLU made positive."""
    size = _batch_size(preprocess)
    concats: tuple[str, ...] = ()
    if options.placement == "block":
        few = replace(sample, items=sample.items[: max(_LEAST_SPAN_IMAGES, len(sample) // 4)])
        stream = batches(few, preprocess, size, progress=progress, label="equalize")
        graph = equalize(graph, _spans(graph, stream))
        concats = producers(graph)
    chosen = quantized_nodes(graph, options.skip)
    mine = replace(sample, items=share(sample.items, size))
    stream = batches(mine, preprocess, size, progress=progress, label="calibrate")
    values = [*(node.input for node in chosen), *concats]
    seen = gathered(calibrate(graph, values, stream), size)
    names = {node.name for node in chosen}
    moved = tuple(m.value for m in movables(graph) if m.reader in names)
    histograms = {**seen.histograms, **_joined(graph, seen.histograms, concats)}
    amax, scales = {}, {}
    for name, histogram in histograms.items():
        levels = FULL_RANGE if name in moved else SYMMETRIC
        amax[name] = choose_amax(histogram, options.calibrator, options.percentile, levels)
        scales[name] = float(representable(amax[name] / levels, name))
    graph = move(graph, {name: scales[name] for name in moved})
    return Prepared(graph, scales, amax, moved, seen)


def _joined(
    graph: Graph, histograms: Mapping[str, Histogram], concats: Iterable[str]
) -> dict[str, Histogram]:
    """For each producer of a concat the histogram of its whole family: they share one scale."""
    found, wanted = {}, set(concats)
    for family in families(graph) if wanted else ():
        whole = Histogram()
        for name in family.producers:
            whole.merge(histograms[name])
        found.update(dict.fromkeys(family.producers, whole))
    return found


def _spans(graph: Graph, stream: Iterator[Batch]) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    wanted, runner = set(producers(graph)), GraphRunner(graph)

    def observe(name: str, value: Tensor) -> None:
        if name in wanted:
            low = value.amin((0, 2, 3)).double().numpy()
            high = value.amax((0, 2, 3)).double().numpy()
            if name in spans:
                low, high = np.minimum(low, spans[name].low), np.maximum(high, spans[name].high)
            spans[name] = Span(low, high)

    for batch in stream:
        runner(batch.images, observe)
    return spans


def _batch_size(preprocess: Preprocess) -> int:
    """Images at once: as many as keep a block's concat in some ten megabytes, and 32 at most."""
    height, width = preprocess.input_size
    return max(1, min(32, _PIXELS_AT_ONCE // (height * width)))
