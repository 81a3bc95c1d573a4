"""Labelled images that tell the drop from a network in FP32 to a placement of Q/DQ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense.data import ImageSet, Preprocess, batches
from edgedense.engines.reference import check_classes, is_dense
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.progress import SILENT, Progress
from edgedense.quantize.forks import batch_size
from edgedense.stats import (
    Estimate,
    PairedCounts,
    answers,
    bootstrap_drop,
    class_pixels,
    confusion,
    images_to_exclude,
    mean_iou,
    paired_difference,
    top_k,
)

Place = Callable[[frozenset[str]], Graph]
_FEWEST_MASKS = 10  # below it resampled images say next to nothing about others


@dataclass(frozen=True)
class LabelledSet:
    """The images that tell the drop, all labelled with one of ``classes``.

    ``role`` is ``calibration images`` or ``evaluation images``; with ``dense`` masks are the
    labels.
    """

    images: ImageSet
    role: str
    dense: bool
    classes: int


def labelled_set(
    calibration: ImageSet,
    evaluation: ImageSet | None,
    interface: Interface,
    budget_pp: float | None,
    progress: Progress = SILENT,
) -> LabelledSet | None:
    """The images for a budget in points: the evaluation set, or without one the calibration images.

    None without a budget. Errors: InputError where they have no labels of the network's classes,
    or are too few to show that even the FP32 network itself meets the budget.
    """
    if budget_pp is None:
        return None
    given = calibration if evaluation is None else evaluation
    dense = is_dense(interface)
    items = given.items if dense else tuple(i for i in given.items if i.label is not None)
    if not items or (dense and not given.has_masks):
        raise InputError(
            f"--max-drop: {given.source} has no {'masks' if dense else 'labels'}, so it tells no "
            "drop",
            "Give labelled images with --eval SET.",
        )
    images = replace(given, items=items)
    check_classes(interface, images)
    what = "calibration images" if evaluation is None else "evaluation images"
    needed, least = _FEWEST_MASKS, "so few masks say next to nothing about others"
    if not dense:
        needed = images_to_exclude(min(budget_pp / 100, 0.999)) or 1
        same = paired_difference(PairedCounts(len(images), 0, 0))
        least = f"the smallest budget that so many can show is {100 * same.high:.2f} pp"
    if len(images) < needed:
        more = "" if evaluation is not None else f"--images {needed}, or "
        raise InputError(
            f"--max-drop {budget_pp:g}: {len(images):,} labelled {what} cannot show it, not even "
            f"of the FP32 network itself: {least}",
            f"Give {more}--eval SET with {needed:,} labelled images or more, or a wider budget.",
        )
    found = LabelledSet(images, what, dense, interface.output_shape[0])
    told = "mean IoU" if dense else least
    progress.say(f"accuracy budget {budget_pp:g} pp: {len(images):,} {what} tell; {told}")
    return found


class Judge:
    """Measures placements on one set, each once.

    Errors: InputError where masks are void; nothing could be judged then.
    """

    def __init__(
        self,
        exact: Graph,
        place: Place,
        labelled: LabelledSet,
        preprocess: Preprocess,
        progress: Progress,
    ) -> None:
        self.measured = 0
        self.content: list[str] = []
        self._place, self._labelled, self._preprocess = place, labelled, preprocess
        self._progress = progress
        self._known: dict[frozenset[str], Estimate] = {}
        self._exact = self._answers(exact, "FP32 answers")
        if labelled.dense:
            self._check_truth()

    @property
    def fp32(self) -> float:
        """The metric of the FP32 network, in percent."""
        found = self._exact
        return 100 * float(mean_iou(found.sum(axis=0)) if self._labelled.dense else found.mean())

    def drop(self, left: frozenset[str]) -> Estimate:
        """Drop in percentage points with ``left`` in floating point."""
        if left not in self._known:
            self.measured += 1
            label = f"{len(left)} in floating point" if left else "all in INT8"
            found = self._answers(self._place(left), label)
            self._known[left] = _drop(self._exact, found, dense=self._labelled.dense).scaled(100)
            drop = self._known[left]
            self._progress.say(
                f"  {label}: drop {drop.value:.2f} pp [{drop.low:.2f}, {drop.high:.2f}]"
            )
        return self._known[left]

    def _check_truth(self) -> None:
        judged = int(np.count_nonzero(self._exact[:, 1].sum(axis=1)))
        if judged < _FEWEST_MASKS:
            raise InputError(
                f"--max-drop: {self._labelled.images.source}: all but {judged} masks are void "
                "everywhere",
                f"Give {_FEWEST_MASKS} images or more with --eval SET whose masks hold classes.",
            )

    def _answers(self, graph: Graph, label: str) -> NDArray[Any]:
        """Right or not (N,), or of masks the pixels of each class (N, 3, classes)."""
        return np.concatenate(list(self._each(GraphRunner(graph), label)))

    def _each(self, runner: GraphRunner, label: str) -> Iterator[NDArray[Any]]:
        images, classes = self._labelled.images, self._labelled.classes
        void = [value for value in images.void if value < classes]
        stream = batches(
            images,
            self._preprocess,
            batch_size(self._preprocess),
            mask_classes=classes if self._labelled.dense else None,
            progress=self._progress,
            label=label,
        )
        for batch in stream:
            logits = runner(batch.images)
            if len(self.content) < len(images):  # the first pass
                self.content.extend(batch.content)
            if batch.masks is None:
                yield top_k(logits, batch.labels, 1)
                continue
            pairs = zip(batch.masks, answers(logits), strict=True)
            pixels = np.stack([class_pixels(confusion(m, a, classes)) for m, a in pairs])
            pixels[:, 2, void] = 0  # or predicting void would enter the mean as a class
            yield pixels


def _drop(exact: NDArray[Any], found: NDArray[Any], *, dense: bool) -> Estimate:
    if dense:
        return bootstrap_drop(exact, found, mean_iou)
    return paired_difference(PairedCounts.of(exact, found))
