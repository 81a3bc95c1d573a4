"""The verdict on a measurement: pass, fail or inconclusive, with plain reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgedense.errors import InputError
from edgedense.stats import (
    Estimate,
    PairedCounts,
    images_to_decide,
    images_to_separate,
    newcombe_difference,
    paired_difference,
)
from edgedense.validate.measure import Measurement
from edgedense.validate.segmentation import SegmentationMeasurement

Measured: TypeAlias = Measurement | SegmentationMeasurement
FEWEST_IMAGES = 10  # below it resampled images say next to nothing about others
Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Gates:
    """What an engine must hold; None leaves a gate open.

    ``max_drop_pp``: largest loss of top-1 (segmentation: mean IoU) against the reference, in
    percentage points.
    ``min_speedup``: least speed-up against the reference (2.0 is twice as fast).
    """

    max_drop_pp: float | None = 1.0
    min_speedup: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A verdict and the sentences that explain it, whatever it is."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(measured: Measured, gates: Gates, speedup: Estimate | None = None) -> Judgement:
    """Hold a measurement against the gates.

    A gate is judged by the 95 % interval and not by the value: passed where the whole interval
    lies on the good side, failed where it lies on the bad side, else inconclusive. Any failure
    fails the whole; else anything inconclusive leaves it open. Errors: InputError where
    ``min_speedup`` is asked and no speed-up was measured.
    """
    found = [_finite(measured)]
    if gates.max_drop_pp is not None:
        if isinstance(measured, Measurement):
            found.append(judge_drop(measured.counts, gates.max_drop_pp, _why_no_counts(measured)))
        else:
            found.append(judge_miou_drop(measured.drop, measured.judged, gates.max_drop_pp))
    if gates.min_speedup is not None:
        found.append(judge_speedup(speedup, gates.min_speedup))
    return combine(found)


def combine(judgements: Iterable[Judgement]) -> Judgement:
    """All of them as one: any fail is a fail, else any inconclusive is inconclusive."""
    found = list(judgements)
    verdicts = {judgement.verdict for judgement in found}
    verdict: Verdict = "pass"
    if "fail" in verdicts:
        verdict = "fail"
    elif "inconclusive" in verdicts:
        verdict = "inconclusive"
    return Judgement(verdict, tuple(reason for one in found for reason in one.reasons))


def judge_drop(counts: PairedCounts | None, max_drop_pp: float, why_none: str = "") -> Judgement:
    """Non-inferiority: the upper end of the drop's interval must not exceed ``max_drop_pp``.

    The interval is Tango's; where Newcombe's would say something else, that is told.
    """
    if counts is None:
        return Judgement("inconclusive", (f"The top-1 drop is unknown: {why_none}.",))
    drop = paired_difference(counts).scaled(100)
    said = (
        f"Top-1 drop {drop.value:.2f} pp on {counts.n:,} images, "
        f"95 % interval [{drop.low:.2f}, {drop.high:.2f}] pp"
    )
    verdict = _side(drop, max_drop_pp)
    ending = {
        "pass": f"within the allowed {max_drop_pp:g} pp",
        "fail": f"more than the allowed {max_drop_pp:g} pp",
        "inconclusive": _open(counts, max_drop_pp, over=drop.value > max_drop_pp),
    }[verdict]
    return Judgement(
        verdict, (f"{said}: {ending}.", *_second_opinion(counts, max_drop_pp, verdict))
    )


def _side(drop: Estimate, most: float) -> Verdict:
    if drop.high <= most:
        return "pass"
    return "fail" if drop.low > most else "inconclusive"


def _open(counts: PairedCounts, max_drop_pp: float, *, over: bool) -> str:
    needed = images_to_decide(counts, max_drop_pp / 100)
    return (
        f"it reaches over the allowed {max_drop_pp:g} pp, so {counts.n:,} images cannot decide; "
        f"{_advice(needed, over=over)}"
    )


def _second_opinion(counts: PairedCounts, max_drop_pp: float, verdict: Verdict) -> tuple[str, ...]:
    """What Newcombe's interval would have said, where that is another verdict."""
    if counts.both is None:
        return ()
    drop = newcombe_difference(counts).scaled(100)
    other = _side(drop, max_drop_pp)
    if other == verdict:
        return ()
    return (
        f"Newcombe's interval [{drop.low:.2f}, {drop.high:.2f}] pp would say {other}: "
        "a close case; Tango's decides.",
    )


def judge_miou_drop(drop: Estimate | None, images: int, max_drop_pp: float) -> Judgement:
    """The same for mean IoU, whose ``drop`` in pp and interval come from resampled images."""
    if drop is None:
        return Judgement("inconclusive", (f"The mIoU drop is unknown: {_NO_REFERENCE}.",))
    said = (
        f"mIoU drop {drop.value:.2f} pp on {images:,} images, "
        f"95 % interval [{drop.low:.2f}, {drop.high:.2f}] pp"
    )
    if images < FEWEST_IMAGES:
        why = f"fewer than {FEWEST_IMAGES} images with masks cannot tell how sure it is"
        return Judgement("inconclusive", (f"{said}: {why}.",))
    verdict = _side(drop, max_drop_pp)
    if verdict != "inconclusive":
        where = "within" if verdict == "pass" else "more than"
        return Judgement(verdict, (f"{said}: {where} the allowed {max_drop_pp:g} pp.",))
    needed = images_to_separate(drop, images, max_drop_pp)
    advice = "no number would" if needed is None else f"about {needed:,} like these would"
    return Judgement(
        "inconclusive",
        (
            f"{said}: it reaches over the allowed {max_drop_pp:g} pp, "
            f"so {images:,} images cannot decide; {advice}.",
        ),
    )


def judge_speedup(speedup: Estimate | None, least: float) -> Judgement:
    """The lower end of the speed-up's interval must reach ``least``."""
    if speedup is None:
        raise InputError(
            f"--min-speedup {least:g} was asked, but no speed-up was measured",
            "Give the FP32 model to time against with --reference MODEL.",
        )
    said = f"Speed-up {speedup.value:.2f}x, 95 % interval [{speedup.low:.2f}, {speedup.high:.2f}]"
    if speedup.low >= least:
        return Judgement("pass", (f"{said}: at least the asked {least:g}x.",))
    if speedup.high < least:
        return Judgement("fail", (f"{said}: less than the asked {least:g}x.",))
    return Judgement(
        "inconclusive",
        (f"{said}: it reaches over the asked {least:g}x; measure longer or on a quieter machine.",),
    )


def _finite(measured: Measured) -> Judgement:
    bad = measured.not_finite
    if not bad:
        return Judgement("pass", ())
    total = measured.samples
    what = "they" if isinstance(measured, Measurement) else "such pixels"
    return Judgement(
        "fail",
        (
            f"The engine gave NaN or infinity for {bad:,} of {total:,} images; "
            f"{what} count as wrong.",
        ),
    )


_NO_REFERENCE = "there is no reference to compare with (give one with --reference MODEL)"


def _why_no_counts(measured: Measurement) -> str:
    if measured.reference_logits is None:
        return _NO_REFERENCE
    return "the evaluation set has no labels, so there is agreement and logit SQNR only"


def _advice(needed: int | None, *, over: bool) -> str:
    if needed is None:
        return "the measured drop is the allowed drop itself, so no number of images would"
    outcome = "would, and as measured they would say fail" if over else "would"
    return f"about {needed:,} {outcome} (80 % power, at the measured drop and disagreement)"
