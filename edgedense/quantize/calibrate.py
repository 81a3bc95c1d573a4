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
from edgedense.quantize.observe import Histogram


@dataclass(frozen=True)
class Calibration:
    """Histograms by value name, and the content hashes of the images that were seen."""

    histograms: dict[str, Histogram]
    content: tuple[str, ...]


def calibrate(graph: Graph, values: Iterable[str], batches: Iterable[Batch]) -> Calibration:
    """Histograms of ``values`` while ``graph`` runs on ``batches``.

    Memory is one batch and 4096 counts a value, whatever the number of images.
    Errors: InputError where a value is not finite.
    """
    histograms = {name: Histogram() for name in values}
    runner = GraphRunner(graph)
    content: list[str] = []

    def observe(name: str, value: Tensor) -> None:
        if name in histograms:
            try:
                histograms[name].add(value)
            except ArithmeticError as error:
                raise InputError(
                    f"{name} has {error} in calibration",
                    "Check --preprocess; the weights themselves are finite.",
                ) from error

    for batch in batches:
        runner(batch.images, observe)
        content.extend(batch.content)
    return Calibration(histograms, tuple(content))


def gathered(mine: Calibration, batch_size: int) -> Calibration:
    """What all processes of torchrun have seen, each of its share of whole batches.

    Histograms merge exactly, so this is what one process alone would have. On all processes but
    the first :class:`Finished` is raised.
    """
    parts = gather({name: found.to_array() for name, found in mine.histograms.items()})
    content = gather_rows({"content": np.array(mine.content, "U64")}, batch_size)["content"]
    whole = {name: Histogram() for name in mine.histograms}
    for part in parts or ():
        for name, array in part.items():
            whole[name].merge(Histogram.from_array(array))
    return Calibration(whole, tuple(map(str, content)))
