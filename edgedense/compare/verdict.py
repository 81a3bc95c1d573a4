"""The rules: which of two engines to ship, or what is missing to know.

The candidate (INT8) costs accuracy and has to earn it by speed; the incumbent (FP16) is what to
ship otherwise. Nothing is judged by a value, everything by the side of the limit on which the whole
95 % interval lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgedense.errors import InputError
from edgedense.stats import Estimate
from edgedense.validate import Judgement, Verdict

Answer = Literal["candidate", "incumbent", "neither", "unknown"]
NOT_ENOUGH = "not enough evidence"
NEITHER = "ship neither"
_TIME_THEM = (
    "Time one against the other, in turns: edgedense benchmark A --against B -o DIR, and give that "
    "with --latency DIR."
)
_MORE_REPEATS = (
    "More repeats for the speed (--repeats), on a quiet machine with fixed clocks (on a Jetson: "
    "sudo jetson_clocks)."
)
# an interval that ends below is not faster by anything that counts
NEGLIGIBLE = 1.02


@dataclass(frozen=True)
class Terms:
    """What the candidate must hold: drop against FP32 in pp, and times as fast as the incumbent.

    Errors: InputError for what is no limit.
    """

    max_drop_pp: float = 1.0
    min_speedup: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop_pp <= 100:
            raise InputError(
                f"--max-drop {self.max_drop_pp:g} is not in 0 … 100",
                "Give percentage points, such as 1.0.",
            )
        if not 0 < self.min_speedup < math.inf:
            raise InputError(
                f"--min-speedup {self.min_speedup:g} is not a positive factor",
                "Give a factor, such as 1.2.",
            )


@dataclass(frozen=True)
class Decision:
    """``answer``, the sentences that explain it, and what would settle what is open."""

    answer: Answer
    reasons: tuple[str, ...]
    settle: tuple[str, ...] = ()


def decide(
    candidate: tuple[str, Judgement],
    incumbent: tuple[str, Judgement],
    speedup: Estimate | None,
    rounds: int,
    terms: Terms,
) -> Decision:
    """Whom to ship; each side is its label and its accuracy against FP32, held against the gate.

    The candidate, where it holds its accuracy and is proved faster by what was asked, or where the
    incumbent fails. The incumbent, where it holds and the candidate fails or is proved not to be
    that much faster. Neither, where both fail. Else nothing is known yet.
    """
    (name, accuracy), (other, others) = candidate, incumbent
    speed = judge_speed(speedup, rounds, terms.min_speedup, (name, other))
    reasons = (
        *(f"{name}: {reason}" for reason in accuracy.reasons),
        *(f"{other}: {reason}" for reason in others.reasons),
        *speed.reasons,
    )
    answer = _answer(accuracy.verdict, others.verdict, speed.verdict)
    if answer != "unknown":
        return Decision(answer, reasons)
    settle = _settle_accuracy(candidate, incumbent)
    if speed.verdict == "inconclusive":
        settle += (_TIME_THEM if speedup is None else _MORE_REPEATS,)
    return Decision(answer, reasons, settle)


def judge_speed(
    speedup: Estimate | None, rounds: int, least: float, names: tuple[str, str]
) -> Judgement:
    """Whether the first is faster: ``pass``, ``fail`` for surely not so much, ``inconclusive``."""
    name, other = names
    if speedup is None:
        return Judgement("inconclusive", (f"How fast {name} is against {other} is not known.",))
    said = (
        f"{name} is {speedup.value:.2f} times as fast as {other}, "
        f"95 % interval [{speedup.low:.2f}, {speedup.high:.2f}]"
    )
    if speedup.low >= least and speedup.low > 1:
        asked = "" if least <= 1 else f", at least the asked {least:g}"
        return Judgement("pass", (f"{said}: faster{asked}.",))
    if speedup.high <= 1:
        return Judgement("fail", (f"{said}: not faster.",))
    if speedup.high < least:
        return Judgement("fail", (f"{said}: less than the asked {least:g}.",))
    if speedup.high < NEGLIGIBLE:
        return Judgement("fail", (f"{said}: faster by nothing that counts.",))
    limit = max(1.0, least)
    return Judgement(
        "inconclusive", (f"{said}: it reaches over {limit:g}; {_repeats(speedup, rounds, limit)}.",)
    )


def _answer(candidate: Verdict, incumbent: Verdict, speed: Verdict) -> Answer:
    if candidate == "fail" and incumbent == "fail":
        return "neither"
    if candidate == "pass" and (speed == "pass" or incumbent == "fail"):
        return "candidate"
    if incumbent == "pass" and (candidate == "fail" or speed == "fail"):
        return "incumbent"
    return "unknown"


def _settle_accuracy(*sides: tuple[str, Judgement]) -> tuple[str, ...]:
    names = [name for name, held in sides if held.verdict == "inconclusive"]
    if not names:
        return ()
    return (
        f"More images with labels for the accuracy of {' and '.join(names)}: the reasons say how "
        "many, with --max-drop as it is.",
    )


def _repeats(speedup: Estimate, rounds: int, limit: float) -> str:
    """How many repeats would take ``limit`` out of the interval, as it shrinks with their root."""
    value, low, high = (math.log(x / limit) for x in (speedup.value, *speedup.interval))
    if value == 0:
        return "no number of repeats would decide, as the value is the limit itself"
    half = value - low if value > 0 else high - value
    needed = math.ceil(rounds * (half / abs(value)) ** 2)
    return f"about {max(needed, rounds + 1):,} repeats instead of {rounds:,} would decide"
