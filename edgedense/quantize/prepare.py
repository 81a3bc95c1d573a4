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
from edgedense.graph.nodes import Graph, Weighted
from edgedense.graph.run import GraphRunner
from edgedense.memory import give_back
from edgedense.progress import SILENT, Progress
from edgedense.quantize.calibrate import Calibration, calibrate, gathered, unfit
from edgedense.quantize.concats import families
from edgedense.quantize.copies import copied
from edgedense.quantize.divide import divided
from edgedense.quantize.equalize import STEP, equalizable, equalize, producers
from edgedense.quantize.float_range import Extents, Reach, moved_extents
from edgedense.quantize.fullrange import full_range, move
from edgedense.quantize.migrate import Moments, migratables, migrate
from edgedense.quantize.observe import Histogram
from edgedense.quantize.options import Effort, QuantizeOptions
from edgedense.quantize.pixels import PIXELS, exact_pixels
from edgedense.quantize.place import quantized_nodes, representable, weight_scales
from edgedense.quantize.ranges import choose_amax
from edgedense.quantize.rounding import groups, moved_down, observe_inputs, roundable, rounded
from edgedense.quantize.spans import ChannelHistograms, spans

SYMMETRIC, FULL_RANGE = 127, 255  # steps between 0 and the largest value
_LEAST_SURVEYED = 16
# channels of a block stored again: one or two take most of the concat's noise
_COPIES: Mapping[Effort, int] = {"fast": 0, "default": 2, "best": 8}
# channels of a stem behind a ReLU in two parts
_PARTS: Mapping[Effort, int] = {"fast": 0, "default": 32, "best": 32}
_ROUNDING_IMAGES = 32  # twice and eight times as many gained nothing
_ROUNDING_BYTES = 1 << 27  # of second moments at once: for others the images are seen anew
# images at once: as many as keep the largest of their values in so many bytes
_BYTES_AT_ONCE = 1 << 24
_MOST_AT_ONCE = 32


@dataclass(frozen=True)
class Prepared:
    """``graph`` in FP32, the ``scales`` of its INT8 values, and what calibration saw.

    ``amax`` are the ranges that the scales come from: [0, amax] of the values in ``moved``, which
    have all 256 codes for it, and [-amax, amax] of the others. ``weights`` are layers of ``graph``
    with weights rounded for their outputs; others are rounded to nearest. ``extents`` are those of
    the values of ``graph``, ``plain`` those of the graph before it was rewritten.
    """

    graph: Graph
    scales: Mapping[str, float]
    amax: Mapping[str, float]
    moved: tuple[str, ...]
    weights: Mapping[str, Weighted]
    seen: Calibration
    extents: Extents
    plain: Extents


def prepare(
    graph: Graph,
    sample: ImageSet,
    preprocess: Preprocess,
    options: QuantizeOptions,
    progress: Progress = SILENT,
) -> Prepared:
    """Rewrite what quantizes badly, calibrate, move what a ReLU made positive, round the weights.

    Effort ``fast`` neither migrates, stores channels again, nor rounds for the outputs.
    """
    size = _at_once(graph)
    graph = exact_pixels(graph, preprocess, options.skip)
    names = [node.name for node in quantized_nodes(graph, options.skip)]
    full = full_range(graph, names, padded=options.effort == "best")
    surveyed, equal = None, frozenset[str]()
    if options.placement == "block" or options.effort != "fast":
        # the ends of a concat's spans clip: these must have seen what can come
        count = len(sample) if options.placement == "block" else len(sample) // 4
        few = replace(sample, items=sample.items[: max(_LEAST_SURVEYED, count)])
        stream = batches(few, preprocess, size, progress=progress, label="survey")
        surveyed = _survey(graph, stream, options)
        give_back()
        best = spans(graph, surveyed.channels) if options.placement == "block" else {}
        among = names if options.effort != "fast" else ()
        graph = migrate(graph, surveyed.moments, among, full)
        if best:
            graph, ends = copied(graph, best, _COPIES[options.effort], options.float_concats)
            graph, parts = divided(graph, best, _PARTS[options.effort], options.float_concats)
            ends |= parts
            equal = frozenset(equalizable(graph))
            graph = equalize(graph, ends)
    concats = producers(graph) if options.placement == "block" else ()
    mine = replace(sample, items=share(sample.items, size))
    stream = batches(mine, preprocess, size, progress=progress, label="calibrate")
    values = [*(node.input for node in quantized_nodes(graph, options.skip)), *concats]
    seen = gathered(calibrate(graph, values, stream), size)
    give_back()
    moved = tuple(m.value for m in migratables(graph) if m.reader in full)
    amax, scales = _ranges(graph, seen, moved, concats, equal, options)
    steps = {name: scales[name] for name in moved}
    weights: dict[str, Weighted] = {}
    if options.effort != "fast":
        few = replace(sample, items=sample.items[:_ROUNDING_IMAGES])
        weights = _round(graph, few, preprocess, options, steps, progress)
    extents = moved_extents(seen.extents, graph, steps)
    plain = surveyed.reach.extents if surveyed else seen.extents
    return Prepared(move(graph, steps), scales, amax, moved, weights, seen, extents, plain)


def _at_once(graph: Graph) -> int:
    """Images in a batch: more are hardly faster, and memory grows with them."""
    widths = graph.widths()
    largest = max(widths[name] * rows * columns for name, (rows, columns) in graph.sizes().items())
    return max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // (4 * largest)))


@dataclass(frozen=True)
class _Survey:
    """What the rewrites need to know: of ReLUs, of channels of concats, of all values."""

    moments: dict[str, Moments]
    channels: dict[str, ChannelHistograms]
    reach: Reach


def _survey(graph: Graph, stream: Iterator[Batch], options: QuantizeOptions) -> _Survey:
    widths, runner = graph.widths(), GraphRunner(graph)
    relus = [found.relu for found in migratables(graph)] if options.effort != "fast" else []
    wanted = frozenset(producers(graph) if options.placement == "block" else ())
    found = _Survey({name: Moments(widths[name]) for name in relus}, {}, Reach(graph))

    def observe(name: str, value: Tensor) -> None:
        found.reach.observe(name, value)
        if name in found.moments:
            found.moments[name].add(value)
        if name in wanted:
            if name not in found.channels:
                found.channels[name] = ChannelHistograms(value)
            found.channels[name].add(value)

    for batch in stream:
        runner(batch.images, observe)
    for name, extent in found.reach.extents.items():
        if not np.isfinite(extent.peak):
            raise unfit(name, "values that are not finite")
    return found


def _ranges(
    graph: Graph,
    seen: Calibration,
    moved: Iterable[str],
    concats: Iterable[str],
    equal: Iterable[str],
    options: QuantizeOptions,
) -> tuple[dict[str, float], dict[str, float]]:
    """Range and scale of each INT8 value, by name; ``equal`` are the equalized ones."""
    known = dict.fromkeys(equal, SYMMETRIC * STEP)
    histograms = {**seen.histograms, **_joined(graph, seen.histograms, concats)}
    full = frozenset(moved)
    amax, scales = {}, {}
    for name, histogram in histograms.items():
        levels = FULL_RANGE if name in full else SYMMETRIC
        best = choose_amax(histogram, options.calibrator, options.percentile, levels)
        amax[name] = SYMMETRIC if name == PIXELS else known.get(name, best)
        scales[name] = float(representable(amax[name] / levels, name, options.rest))
    return amax, scales


def _round(
    graph: Graph,
    sample: ImageSet,
    preprocess: Preprocess,
    options: QuantizeOptions,
    steps: Mapping[str, float],
    progress: Progress,
) -> dict[str, Weighted]:
    """The quantized layers with their weights rounded for the outputs; ``steps`` of moved values.

    The images are seen once for each ``_ROUNDING_BYTES`` of second moments.
    """
    nodes = {node.name: node for node in move(graph, steps).weighted()}
    down = moved_down(graph, steps)
    wanted = [node for node in quantized_nodes(graph, options.skip) if roundable(node)]
    lots = list(groups(wanted, _ROUNDING_BYTES))
    found = {}
    for number, lot in enumerate(lots, 1):
        label = "round weights" + (f" {number}/{len(lots)}" if len(lots) > 1 else "")
        stream = batches(sample, preprocess, _at_once(graph), progress=progress, label=label)
        sums = observe_inputs(graph, lot, len(sample), stream, options.seed)
        give_back()
        for name in lot:
            scale = weight_scales(nodes[name], options.rest)
            found[name] = rounded(nodes[name], scale, sums.pop(name).inputs(), down.get(name, 0.0))
        give_back()
    return found


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
