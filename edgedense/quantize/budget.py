"""An accuracy budget: the fewest layers in floating point with which the drop is small for sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edgedense.data import Preprocess, refuse_overlap
from edgedense.graph.nodes import Graph
from edgedense.progress import SILENT, Progress
from edgedense.quantize.labelled import Judge, LabelledSet, Place
from edgedense.quantize.sensitivity import Row, Sensitivity

_SINGLE_TRIES = 8
_NOTES = {
    "calibration images": "These images chose the ranges too, and are mostly training images: new "
    "ones lose more. --eval tells a fairer drop.",
    "evaluation images": "These images also chose which layers stay in floating point: the drop of "
    "new ones may be a little larger.",
}


@dataclass(frozen=True)
class Candidate:
    """What can be left in floating point: a convolution with its input, or a family of concats.

    ``noise`` is the energy of the logits' noise that it makes alone, as a share of the signal's,
    ``flips`` the answers that change, of ``images`` images; ``share`` is its part of the noise of
    all candidates.
    """

    kind: Literal["layer", "concat"]
    name: str
    noise: float
    flips: int
    share: float
    images: int

    @property
    def reason(self) -> str:
        """Why it is left, with figures."""
        alone_db = 10 * np.log10(1 / self.noise) if 0 < self.noise < np.inf else None
        said = "no finite logits" if self.noise == np.inf else f"{alone_db or 200:.1f} dB"
        return (
            f"alone in INT8: {said}, {self.flips} answers changed on {self.images} images; "
            f"{100 * self.share:.0f} % of the noise of all layers"
        )


@dataclass(frozen=True)
class Left:
    """One that the budget leaves in floating point, and why."""

    kind: Literal["layer", "concat"]
    name: str
    reason: str


@dataclass(frozen=True)
class Budget:
    """How a budget was met. ``drop_pp`` is of ``metric`` against the same network in FP32.

    ``images`` labelled images of ``source`` tell it; ``fp32`` is the metric in FP32 in percent.
    ``int8_drop_pp`` is the drop with nothing left in floating point. ``placements`` counts those
    that were measured, ``layers`` those that could be left; ``note`` says how far to trust it.
    """

    budget_pp: float
    metric: Literal["top-1", "mIoU"]
    source: str
    images: int
    fp32: float
    drop_pp: float
    drop_ci95: tuple[float, float]
    int8_drop_pp: float
    int8_drop_ci95: tuple[float, float]
    left_in_float: tuple[Left, ...]
    layers: int
    placements: int
    note: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def meet_budget(
    exact: Graph,
    place: Place,
    budget_pp: float,
    labelled: LabelledSet,
    preprocess: Preprocess,
    sensitivity: Callable[[], Sensitivity],
    *,
    calibration: Sequence[str] = (),
    progress: Progress = SILENT,
) -> tuple[frozenset[str], Budget]:
    """The names to leave in floating point, and how they meet the budget.

    A placement meets it where the upper end of the drop's 95 % interval is at most ``budget_pp``:
    of top-1 Tango's score interval, of mean IoU a bootstrap over images. ``place`` gives the graph
    with the named layers and families in floating point. They go in the order of what they cost
    alone (``sensitivity``, asked only where needed): 1, 2, 4, … of them, then by bisection, so that
    one fewer in this order misses the budget; then each is tried in INT8 again, the cheapest
    first. With all in floating point the network is the FP32 network, whose drop is 0: a set
    that :func:`labelled_set` took always ends. The images that choose also tell the drop: that of
    new images is larger rather than smaller. Errors: InputError where an evaluation image is one
    of ``calibration`` (content hashes).
    """
    judge = Judge(exact, place, labelled, preprocess, progress)
    if labelled.role != "calibration images":
        refuse_overlap(calibration, judge.content)
    whole = judge.drop(frozenset())
    order: tuple[Candidate, ...] = ()
    left: frozenset[str] = frozenset()
    if whole.high > budget_pp:
        order = candidates(sensitivity())
        names = [candidate.name for candidate in order]
        left = fewest(names, lambda chosen: judge.drop(chosen).high <= budget_pp)
    drop = judge.drop(left)
    reasons = tuple(Left(c.kind, c.name, c.reason) for c in order if c.name in left)
    return left, Budget(
        budget_pp=budget_pp,
        metric="mIoU" if labelled.dense else "top-1",
        source=f"{labelled.role} of {labelled.images.source}",
        images=len(labelled.images),
        fp32=judge.fp32,
        drop_pp=drop.value,
        drop_ci95=drop.interval,
        int8_drop_pp=whole.value,
        int8_drop_ci95=whole.interval,
        left_in_float=reasons,
        layers=len(order),
        placements=judge.measured,
        note=_NOTES[labelled.role] if left or labelled.role == "calibration images" else "",
    )


def candidates(sensitivity: Sensitivity) -> tuple[Candidate, ...]:
    """Layers and families of concats, those that cost most first."""
    found: dict[str, list[Row]] = {}
    for row in sensitivity.rows:
        found.setdefault(row.reader or row.name, []).append(row)
    total = sum(row.loss.noise for row in sensitivity.rows)
    alone = []
    for name, rows in found.items():
        noise = sum(row.loss.noise for row in rows)
        share = noise / total if total < np.inf else float(noise == np.inf)
        flips = sum(row.loss.flips for row in rows)
        kind: Literal["layer", "concat"] = "layer" if rows[0].reader else "concat"
        alone.append(Candidate(kind, name, noise, flips, share, sensitivity.images))
    return tuple(sorted(alone, key=lambda c: (c.noise, c.flips), reverse=True))


def fewest(order: Sequence[str], meets: Callable[[frozenset[str]], bool]) -> frozenset[str]:
    """The shortest beginning of ``order`` that ``meets``, less what is not needed of it.

    None of them is known not to meet, all of them are known to.
    """
    low, high = 0, 1
    while high < len(order) and not meets(frozenset(order[:high])):
        low, high = high, 2 * high
    high = min(high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        if meets(frozenset(order[:middle])):
            high = middle
        else:
            low = middle
    kept = frozenset(order[:high])
    # the last one is needed: without it the budget was missed
    for name in reversed(order[: high - 1][-_SINGLE_TRIES:]):
        if meets(kept - {name}):
            kept -= {name}
    return kept
