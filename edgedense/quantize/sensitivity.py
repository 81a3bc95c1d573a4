"""What each quantized tensor and each weight costs: one at a time, all the rest in FP32."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgedense.data import ImageSet, Preprocess
from edgedense.graph.nodes import Concat, Graph, Quantize, Weighted
from edgedense.progress import SILENT, Progress
from edgedense.quantize.forks import Loss, Run, batch_size, forks, quantized_only
from edgedense.quantize.place import named_families

SENSITIVITY_FILE = "sensitivity.json"
Kind = Literal["activation", "weight", "concat"]
_LAYER = re.compile(r"^(?P<block>.+)\.(?:dense)?layer(?P<layer>\d+)\.(?P<operator>[^.]+)$")
_BARS = "▁▂▃▄▅▆▇█"
_STEP_DB = 3.0
_MOST_BARS = 32
_SILENT = 1e-20  # as a share of the signal's energy: 200 dB


@dataclass(frozen=True)
class Row:
    """One quantizer's loss: a convolution's input, its weights, or a family of concats.

    ``reader`` is the convolution (or classifier) that the first two belong to. ``block`` and
    ``layer`` (from 1) say where it is, None outside of dense blocks and layers.
    """

    kind: Kind
    name: str
    reader: str | None
    block: str | None
    layer: int | None
    loss: Loss

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, the loss among them."""
        found = asdict(self)
        loss = found.pop("loss")
        return {**found, **loss}


@dataclass(frozen=True)
class Map:
    """Logit SQNR in dB by block (row) and layer (column); None where there is no such layer.

    ``operator`` is the layer's convolution whose input (``activation``) or weights are meant.
    """

    kind: Kind
    operator: str
    blocks: tuple[str, ...]
    layers: tuple[int, ...]
    sqnr_db: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Line:
    """A block's layers in one line: ``bars`` has a character for each, or for a few at once.

    In dB what they lose; None where the logits are not finite.
    """

    block: str
    kind: Kind
    worst_db: float | None
    median_db: float | None
    bars: str


@dataclass(frozen=True)
class Sensitivity:
    """Losses on ``images`` images in the order of the data; ``everything`` is all at once."""

    images: int
    everything: Loss
    rows: tuple[Row, ...]

    def worst(self, count: int) -> tuple[Row, ...]:
        """The rows that cost most, most first."""
        return tuple(sorted(self.rows, key=lambda row: _cost(row.loss), reverse=True)[:count])

    def maps(self) -> tuple[Map, ...]:
        """Block × layer, for each kind and operator of a layer."""
        cells: dict[tuple[Kind, str], dict[tuple[str, int], float | None]] = defaultdict(dict)
        for row in self.rows:
            if row.block is not None and row.layer is not None and row.reader is not None:
                operator = row.reader.rpartition(".")[2]
                cells[row.kind, operator][row.block, row.layer] = row.loss.sqnr_db
        found = []
        for (kind, operator), losses in cells.items():
            blocks = tuple(dict.fromkeys(block for block, _ in losses))
            layers = tuple(range(1, max(layer for _, layer in losses) + 1))
            table = tuple(tuple(losses.get((b, n)) for n in layers) for b in blocks)
            found.append(Map(kind, operator, blocks, layers, table))
        return tuple(found)

    def lines(self) -> tuple[Line, ...]:
        """The same as text: a line for each block and kind, the operators of a layer together."""
        noise: dict[tuple[str, Kind], dict[int, float]] = defaultdict(dict)
        for row in self.rows:
            if row.block is not None and row.layer is not None:
                layers = noise[row.block, row.kind]
                layers[row.layer] = layers.get(row.layer, 0.0) + row.loss.noise
        losses = {
            place: [10 * math.log10(1 / max(n, _SILENT)) if n < math.inf else None for n in ns]
            for place, ns in ((place, layers.values()) for place, layers in noise.items())
        }
        worst = min((db for found in losses.values() for db in found if db is not None), default=0)
        return tuple(
            Line(block, kind, _least(found), _median(found), _bars(found, worst))
            for (block, kind), found in losses.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values: what ``sensitivity.json`` holds."""
        return {
            "images": self.images,
            "everything": asdict(self.everything),
            "rows": [row.to_dict() for row in self.rows],
            "maps": [asdict(found) for found in self.maps()],
        }

    def summary(self) -> dict[str, Any]:
        """The same for a report: the ten worst rows only."""
        return {
            "file": SENSITIVITY_FILE,
            "images": self.images,
            "everything": asdict(self.everything),
            "worst": [row.to_dict() for row in self.worst(10)],
        }


@dataclass(frozen=True)
class Unit:
    """Pairs and nodes with weights, by name, that are quantized together."""

    kind: Kind
    name: str
    members: frozenset[str]
    reader: str | None = None


def measure_sensitivity(
    exact: Graph,
    placed: Graph,
    sample: ImageSet,
    preprocess: Preprocess,
    images: int,
    progress: Progress = SILENT,
) -> Sensitivity:
    """Quantize one thing of ``placed`` at a time in ``exact``, its graph in FP32.

    On ``images`` of ``sample``, by stride. Where only one quantizer differs, everything before it
    does not: each run starts at its quantizer, from the values that the FP32 run has there. Memory
    is twice one batch's live values.
    """
    sample = _strided(sample, images)
    units = units_of(exact, placed)
    everything = frozenset(name for unit in units for name in unit.members)
    runs = [Run(exact, quantized_only(exact, placed, unit.members)) for unit in units]
    runs.append(Run(exact, quantized_only(exact, placed, everything)))
    stream = forks(exact, runs, sample, preprocess)
    total = len(runs) * -(-len(sample) // batch_size(preprocess))
    for _ in progress.track(stream, "sensitivity", total):
        pass
    rows = tuple(_row(unit, run.loss()) for unit, run in zip(units, runs, strict=False))
    return Sensitivity(len(sample), runs[-1].loss(), rows)


def units_of(exact: Graph, placed: Graph) -> tuple[Unit, ...]:
    """What is quantized in ``placed``, in the order of the data; a family of concats is one."""
    concats = {node.name for node in placed.nodes if isinstance(node, Concat)}
    homes = {p: name for name, family in named_families(exact).items() for p in family.producers}
    readers = placed.readers()
    found: list[Unit] = []
    families: defaultdict[str, set[str]] = defaultdict(set)
    for node in placed.nodes:
        if isinstance(node, Weighted) and node.weight_scale is not None:
            found.append(Unit("weight", node.name, frozenset({node.name}), node.name))
        elif isinstance(node, Quantize):
            if concats.isdisjoint(readers[node.name]):
                members, reader = frozenset({node.name}), readers[node.name][0]
                found.append(Unit("activation", node.input, members, reader))
            else:
                families[homes[node.input]].add(node.name)
    whole = (Unit("concat", name, frozenset(members)) for name, members in families.items())
    return (*found, *whole)


def _strided(sample: ImageSet, count: int) -> ImageSet:
    return replace(sample, items=sample.items[:: max(1, len(sample) // count)][:count])


def _row(unit: Unit, loss: Loss) -> Row:
    if unit.reader is None:
        return Row(unit.kind, unit.name, None, unit.name, None, loss)
    if place := _LAYER.match(unit.reader):
        block, layer = place["block"], int(place["layer"])
        return Row(unit.kind, unit.name, unit.reader, block, layer, loss)
    block = unit.reader.rpartition(".")[0] or None
    return Row(unit.kind, unit.name, unit.reader, block, None, loss)


def _least(losses: list[float | None]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return min(known) if len(known) == len(losses) else None


def _median(losses: list[float | None]) -> float | None:
    ranked = sorted(losses, key=lambda loss: -math.inf if loss is None else loss)
    return ranked[len(ranked) // 2]


def _bars(losses: list[float | None], worst_db: float) -> str:
    """Taller is worse, 3 dB a step; of more layers than fit the worst of a few stands for them."""
    each = -(-len(losses) // _MOST_BARS)
    groups = [losses[start : start + each] for start in range(0, len(losses), each)]
    tops = [_least(group) for group in groups]
    steps = [0 if top is None else int(max(0.0, top - worst_db) / _STEP_DB) for top in tops]
    return "".join(_BARS[max(0, len(_BARS) - 1 - step)] for step in steps)


def _cost(loss: Loss) -> tuple[float, int]:
    return loss.noise, loss.flips
