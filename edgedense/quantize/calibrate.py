"""One streaming pass over the calibration images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from edgedense.data import ImageSet, Preprocess, batches
from edgedense.distributed import gather, gather_rows, share, world
from edgedense.errors import InputError
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.progress import SILENT, Progress
from edgedense.quantize.observe import Histogram


@dataclass(frozen=True)
class Calibration:
    """Histograms by value name, and the content hashes of the images that were seen."""

    histograms: dict[str, Histogram]
    content: tuple[str, ...]


def calibrate(
    graph: Graph,
    values: Iterable[str],
    images: ImageSet,
    preprocess: Preprocess,
    batch_size: int,
    progress: Progress = SILENT,
) -> Calibration:
    """Histograms of ``values`` while ``graph`` runs on ``images``.

    Memory is one batch and 4096 counts a value, whatever the number of images. Under torchrun each
    process takes whole batches, and the first has the same counts as one process alone would; on
    the others :class:`Finished` is raised. Errors: InputError where a value is not finite.
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

    mine = replace(images, items=share(images.items, batch_size))
    for batch in batches(mine, preprocess, batch_size, progress=progress, label="calibrate"):
        runner(batch.images, observe)
        content.extend(batch.content)
    return _gathered(Calibration(histograms, tuple(content)), batch_size)


def _gathered(mine: Calibration, batch_size: int) -> Calibration:
    if world().size == 1:
        return mine
    parts = gather({name: found.to_array() for name, found in mine.histograms.items()})
    content = gather_rows({"content": np.array(mine.content, "U64")}, batch_size)["content"]
    whole = {name: Histogram() for name in mine.histograms}
    for part in parts or ():
        for name, array in part.items():
            whole[name].merge(Histogram.from_array(array))
    return Calibration(whole, tuple(map(str, content)))
