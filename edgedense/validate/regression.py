"""Regressions: has an engine fallen behind its baseline?

What may be compared: the same images, on the same device, for the same target, precision and
network (layers, outputs, input; widths may change, as pruning changes them). All else is refused
unless forced. The engine itself is what a regression check changes, so its hash decides what the
comparison is: with the same hash, whether the device still does what it did; with another one,
whether the new engine is as good as the old one. The reasons say which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgedense.errors import InputError
from edgedense.stats import PairedCounts, paired_difference, ratio_of
from edgedense.validate.baseline import Baseline, Identity
from edgedense.validate.judge import Judgement, combine


@dataclass(frozen=True)
class BaselineTolerance:
    """How far an engine may fall behind its baseline: what is more must be proven to fail.

    ``drop_pp``: the whole 95 % interval of the fall in top-1 must exceed this.
    ``latency_percent``: the whole 95 % interval of the growth of p50 must exceed this, and neither
    latency may have been unstable. The interval knows nothing of other days; the tolerance does.
    """

    drop_pp: float = 0.0
    latency_percent: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.drop_pp <= 100:
            raise InputError(
                f"--max-regression {self.drop_pp:g} is not in 0 … 100",
                "Give percentage points, such as 0.2.",
            )
        if not 0 <= self.latency_percent < math.inf:
            raise InputError(
                f"--max-slowdown {self.latency_percent:g} is no share",
                "Give percent of the median latency, such as 10.",
            )


def compare_baseline(
    current: Baseline,
    baseline: Baseline,
    tolerance: BaselineTolerance | None = None,
    *,
    force: bool = False,
) -> Judgement:
    """Whether an engine fell behind its baseline, in accuracy (paired) or latency.

    Errors: InputError where device, target, precision, network or images differ; with ``force``
    what can still be compared is compared, and the reasons say what was not.
    """
    tolerance = tolerance or BaselineTolerance()
    differing = {**_strange(current.identity, baseline.identity), **_differing(current, baseline)}
    if not force:
        _refuse(differing)
    return combine(
        [
            _judge_accuracy(current, baseline, tolerance.drop_pp),
            _judge_latency(current, baseline, tolerance.latency_percent, differing),
        ]
    )


def refuse_strangers(now: Identity, baseline: Baseline) -> None:
    """What can be told before anything runs: whether the baseline is of something else.

    Errors: InputError where device, target, precision or network differ.
    """
    _refuse(_strange(now, baseline.identity))


def _refuse(differing: Mapping[str, str]) -> None:
    if differing:
        raise InputError(
            f"the baseline is for another {' and another '.join(differing)}: "
            + "; ".join(differing.values()),
            "Compare like with like, write a new one with --write-baseline FILE, or compare what "
            "is left with --force.",
        )


def _strange(now: Identity, was: Identity) -> dict[str, str]:
    return _unequal(
        {
            "device": (was.device, now.device),
            "GPU": (_gpu(was), _gpu(now)),
            "target": (was.target, now.target),
            "precision": (was.precision, now.precision),
            "network": (was.network, now.network),
        }
    )


def _differing(current: Baseline, baseline: Baseline) -> dict[str, str]:
    """What else is unlike: what is known only when everything was measured."""
    pairs: dict[str, tuple[object, object]] = {"evaluation set": (_set(baseline), _set(current))}
    if baseline.timing and current.timing:
        modes = baseline.identity.power_mode, current.identity.power_mode
        pairs["power mode"] = modes
        pairs["batch"] = (baseline.timing.batch, current.timing.batch)
    return _unequal(pairs)


def _set(baseline: Baseline) -> str:
    return f"{baseline.set_sha256[:12]} ({baseline.samples:,} images)"


def _unequal(pairs: Mapping[str, tuple[object, object]]) -> dict[str, str]:
    return {
        what: f"{then or 'none'} then, {here or 'none'} now"
        for what, (then, here) in pairs.items()
        if then != here
    }


def _gpu(identity: Identity) -> str | None:
    if identity.gpu is None and identity.sm is None:
        return None
    return f"{identity.gpu or 'GPU'} (SM {identity.sm or '?'})"


def _judge_accuracy(current: Baseline, baseline: Baseline, tolerance_pp: float) -> Judgement:
    known = current.set_sha256, current.samples
    if known != (baseline.set_sha256, baseline.samples):
        return Judgement("inconclusive", ("Baseline: other images, so accuracy was not compared.",))
    if not current.samples:
        return Judgement("inconclusive", ("Baseline: no labels, so accuracy was not compared.",))
    counts = PairedCounts.of(baseline.answers, current.answers)
    drop = paired_difference(counts).scaled(100)
    said = (
        f"{_which_engine(current, baseline)}: top-1 drop since then {drop.value:.2f} pp, "
        f"95 % interval [{drop.low:.2f}, {drop.high:.2f}] pp "
        f"({counts.lost} lost, {counts.gained} gained)"
    )
    if drop.low > tolerance_pp:
        return Judgement("fail", (f"{said}: a regression (tolerance {tolerance_pp:g} pp).",))
    return Judgement("pass", (f"{said}: no proven regression (tolerance {tolerance_pp:g} pp).",))


def _which_engine(current: Baseline, baseline: Baseline) -> str:
    was, now = baseline.identity.engine_sha256, current.identity.engine_sha256
    if was == now:
        return f"Baseline, the same engine ({now[:12]})"
    return f"Baseline, another engine ({was[:12]} then, {now[:12]} now)"


def _judge_latency(
    current: Baseline, baseline: Baseline, tolerance_percent: float, differing: Mapping[str, str]
) -> Judgement:
    if current.timing is None or baseline.timing is None:
        return Judgement("pass", ())
    if other := [what for what in ("device", "GPU", "power mode", "batch") if what in differing]:
        named = " and ".join(other)
        return Judgement("pass", (f"Baseline: another {named}, so latency was not compared.",))
    ratio = ratio_of(current.timing.estimate, baseline.timing.estimate)
    growth = [100 * (end - 1) for end in (ratio.value, ratio.low, ratio.high)]
    said = (
        f"Baseline: p50 {baseline.timing.p50_ms:.3f} ms then, {current.timing.p50_ms:.3f} ms now: "
        f"{growth[0]:+.1f} %, 95 % interval [{growth[1]:.1f}, {growth[2]:.1f}] %"
    )
    if growth[1] > tolerance_percent and not (current.timing.stable and baseline.timing.stable):
        when = "now" if baseline.timing.stable else "then"
        why = f"more than {tolerance_percent:g} %, but the latency was not stable {when}"
        return Judgement("inconclusive", (f"{said}: {why}; measure again on a quiet machine.",))
    if growth[1] > tolerance_percent:
        return Judgement("fail", (f"{said}: a regression (tolerance {tolerance_percent:g} %).",))
    where = "within" if growth[2] <= tolerance_percent else "not proven to exceed"
    return Judgement("pass", (f"{said}: {where} {tolerance_percent:g} %.",))
