"""One streaming pass over the calibration images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from edgedense.data import Batch
from edgedense.distributed import gather, gather_rows
from edgedense.errors import InputError
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.quantize.float_range import Extents, Reach, from_arrays, to_arrays, union
from edgedense.quantize.observe import Histogram


@dataclass(frozen=True)
class Calibration:
    """Histograms by value name, and the content hashes of the images that were seen.

    ``extents`` are those of the graph's values in floating point, also of those without histogram.
    """

    histograms: dict[str, Histogram]
    content: tuple[str, ...]
    extents: Extents


def calibrate(graph: Graph, values: Iterable[str], batches: Iterable[Batch]) -> Calibration:
    """Histograms of ``values`` while ``graph`` runs on ``batches``.

    Memory is one batch and 4096 counts a value, whatever the number of images.
    Errors: InputError where a value is not finite.
    """
    histograms = {name: Histogram() for name in values}
    runner, reach = GraphRunner(graph), Reach(graph)
    content: list[str] = []

    def observe(name: str, value: Tensor) -> None:
        reach.observe(name, value)
        if name in histograms:
            try:
                histograms[name].add(value)
            except ArithmeticError as error:
                raise unfit(name, str(error)) from error

    for batch in batches:
        runner(batch.images, observe)
        content.extend(batch.content)
    return Calibration(histograms, tuple(content), reach.extents)


def unfit(name: str, found: str) -> InputError:
    """The error where value ``name`` has what no range can hold."""
    return InputError(
        f"{name} has {found} in calibration",
        "Check --preprocess; the weights themselves are finite.",
    )


def gathered(mine: Calibration, batch_size: int) -> Calibration:
    """What all processes of torchrun have seen, each of its share of whole batches.

    Histograms merge exactly, so this is what one process alone would have. On all processes but
    the first :class:`Finished` is raised.
    """
    parts = gather({name: found.to_array() for name, found in mine.histograms.items()})
    extents = gather(to_arrays(mine.extents))
    content = gather_rows({"content": np.array(mine.content, "U64")}, batch_size)["content"]
    whole = {name: Histogram() for name in mine.histograms}
    for part in parts or ():
        for name, array in part.items():
            whole[name].merge(Histogram.from_array(array))
    reached = union(*map(from_arrays, extents or ()))
    return Calibration(whole, tuple(map(str, content)), reached)
