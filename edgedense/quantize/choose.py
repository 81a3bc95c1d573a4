"""What is INT8 in the end: as asked, and as the accuracy budget demands."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from functools import cached_property

from edgedense.data import ImageSet, Preprocess
from edgedense.errors import InputError
from edgedense.graph.nodes import Graph, Linear
from edgedense.progress import SILENT, Progress
from edgedense.quantize.budget import Budget, meet_budget
from edgedense.quantize.labelled import LabelledSet
from edgedense.quantize.options import QuantizeOptions
from edgedense.quantize.place import family_name, named_families, place_block, place_conv
from edgedense.quantize.prepare import Prepared
from edgedense.quantize.sensitivity import Sensitivity, measure_sensitivity


@dataclass(frozen=True)
class Chosen:
    """``placed`` has Q/DQ everywhere but at ``skip`` (convolutions) and ``float_concats``.

    The latter are families of concats by name; ``sensitivity`` and ``budget`` are None where
    nothing asked for them.
    """

    placed: Graph
    skip: tuple[str, ...]
    float_concats: tuple[str, ...]
    sensitivity: Sensitivity | None
    budget: Budget | None


def settled(graph: Graph, options: QuantizeOptions) -> QuantizeOptions:
    """``options`` for ``graph``, with what they leave unquantized by themselves in ``skip``.

    The stem where ``int8_stem`` says so; at effort ``best`` the classifier, which has next to no
    multiply-accumulates, and whose noise reaches the logits undamped. Errors:
    InputError, with the nearest names, for a ``skip`` or dense block that is not there.
    """
    for name in options.float_concats:
        family_name(graph, name)
    names = [node.name for node in graph.weighted()]
    for name in options.skip:
        if name not in names:
            close = difflib.get_close_matches(name, names, 3) or names[:3]
            raise InputError(
                f"--skip {name}: no such convolution", f"Nearest: {', '.join(close)}, …"
            )
    left = [*options.skip]
    if not (options.placement == "conv" if options.int8_stem is None else options.int8_stem):
        left.append(next(graph.weighted()).name)
    if options.effort == "best":
        left += [node.name for node in graph.weighted() if isinstance(node, Linear)]
    return replace(options, skip=tuple(dict.fromkeys(left)))


def choose(
    prepared: Prepared,
    sample: ImageSet,
    preprocess: Preprocess,
    options: QuantizeOptions,
    labelled: LabelledSet | None,
    progress: Progress = SILENT,
) -> Chosen:
    """Place Q/DQ as asked; measure sensitivity where it is asked or the budget needs it."""
    choice = _Choice(prepared, sample, preprocess, options, progress)
    found = choice.sensitivity if options.sensitivity else None
    left, budget = frozenset[str](), None
    if labelled is not None and options.max_drop_pp is not None:
        left, budget = meet_budget(
            prepared.graph,
            choice.place,
            options.max_drop_pp,
            labelled,
            preprocess,
            lambda: choice.sensitivity,
            progress=progress,
            calibration=prepared.seen.content,
        )
        found = found or (choice.sensitivity if budget.left_in_float else None)
    skip, float_concats = choice.split(left)
    return Chosen(choice.place(left), skip, float_concats, found, budget)


@dataclass(frozen=True)
class _Choice:
    """The placements of one prepared graph."""

    prepared: Prepared
    sample: ImageSet
    preprocess: Preprocess
    options: QuantizeOptions
    progress: Progress

    @cached_property
    def sensitivity(self) -> Sensitivity:
        return measure_sensitivity(
            self.prepared.graph,
            self.place(frozenset()),
            self.sample,
            self.preprocess,
            self.options.sensitivity_images,
            self.progress,
        )

    def split(self, left: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Convolutions and families of concats in floating point: as asked, and ``left``."""
        graph, options = self.prepared.graph, self.options
        layers = (node.name for node in graph.weighted() if node.name in left)
        families = (name for name in named_families(graph) if name in left)
        asked = (family_name(graph, name) for name in options.float_concats)
        return (*options.skip, *layers), tuple(dict.fromkeys((*asked, *families)))

    def place(self, left: frozenset[str]) -> Graph:
        """The graph with Q/DQ everywhere else."""
        graph, scales = self.prepared.graph, self.prepared.scales
        skip, float_concats = self.split(left)
        rest, weights = self.options.rest, self.prepared.weights
        if self.options.placement == "conv":
            return place_conv(graph, scales, skip, rest=rest, weights=weights)
        return place_block(graph, scales, skip, float_concats, rest=rest, weights=weights)
