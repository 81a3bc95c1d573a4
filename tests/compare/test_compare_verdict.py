"""The rules of the answer, case by case and as laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.compare.verdict import NEGLIGIBLE, Answer, Decision, Terms, decide, judge_speed
from edgedense.errors import InputError
from edgedense.stats import Estimate
from edgedense.validate import Judgement, Verdict

VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "inconclusive")
FASTER, SLOWER, OPEN = Estimate(1.5, 1.4, 1.6), Estimate(0.8, 0.7, 0.9), Estimate(1.1, 0.9, 1.3)


def answer(
    candidate: Verdict, incumbent: Verdict, speed: Estimate | None, least: float = 1.0
) -> Decision:
    return decide(
        ("INT8", Judgement(candidate, ("a.",))),
        ("FP16", Judgement(incumbent, ("b.",))),
        speed,
        6,
        Terms(1.0, least),
    )


@pytest.mark.parametrize(
    ("candidate", "incumbent", "speed", "wanted"),
    [
        ("pass", "pass", FASTER, "candidate"),
        ("pass", "pass", SLOWER, "incumbent"),
        ("pass", "pass", OPEN, "unknown"),
        ("pass", "pass", None, "unknown"),
        ("pass", "fail", SLOWER, "candidate"),  # nobody else may go
        ("pass", "inconclusive", FASTER, "candidate"),
        ("pass", "inconclusive", SLOWER, "unknown"),
        ("fail", "pass", FASTER, "incumbent"),  # speed does not buy accuracy
        ("fail", "pass", None, "incumbent"),
        ("fail", "fail", FASTER, "neither"),
        ("fail", "inconclusive", FASTER, "unknown"),
        ("inconclusive", "pass", FASTER, "unknown"),
        ("inconclusive", "pass", SLOWER, "incumbent"),
        ("inconclusive", "fail", FASTER, "unknown"),
        ("inconclusive", "inconclusive", OPEN, "unknown"),
    ],
)
def test_cases(
    candidate: Verdict, incumbent: Verdict, speed: Estimate | None, wanted: Answer
) -> None:
    assert answer(candidate, incumbent, speed).answer == wanted


estimates = st.lists(st.floats(0.2, 5), min_size=3, max_size=3).map(
    lambda ends: Estimate(sorted(ends)[1], min(ends), max(ends))
)
sides = st.sampled_from(VERDICTS)


@given(sides, sides, st.none() | estimates, st.floats(0.5, 3))
def test_nobody_is_shipped_without_having_passed(
    candidate: Verdict, incumbent: Verdict, speed: Estimate | None, least: float
) -> None:
    found = answer(candidate, incumbent, speed, least)
    if found.answer == "candidate":
        assert candidate == "pass"
        assert incumbent == "fail" or (speed is not None and speed.low >= max(1.0, least))
    if found.answer == "incumbent":
        assert incumbent == "pass"
    if found.answer == "neither":
        assert (candidate, incumbent) == ("fail", "fail")
    assert bool(found.settle) == (found.answer == "unknown")


@given(sides, sides, estimates, st.floats(0.5, 2), st.floats(1, 2))
def test_asking_for_more_speed_never_helps_the_candidate(
    candidate: Verdict, incumbent: Verdict, speed: Estimate, least: float, factor: float
) -> None:
    easy = answer(candidate, incumbent, speed, least)
    hard = answer(candidate, incumbent, speed, least * factor)
    if hard.answer == "candidate":
        assert easy.answer == "candidate"


@pytest.mark.parametrize(
    ("speed", "least", "verdict"),
    [
        (Estimate(1.2, 1.15, 1.25), 1.0, "pass"),
        (Estimate(1.2, 1.15, 1.25), 1.15, "pass"),
        (Estimate(1.2, 1.15, 1.25), 1.3, "fail"),
        (Estimate(1.2, 1.15, 1.35), 1.3, "inconclusive"),
        (Estimate(1.0, 1.0, 1.0), 1.0, "fail"),  # as fast is not faster
        (Estimate(1.005, 0.99, NEGLIGIBLE - 0.001), 1.0, "fail"),  # nothing that counts
        (Estimate(1.01, 1.001, NEGLIGIBLE - 0.001), 1.0, "pass"),  # small, but sure
        (Estimate(1.01, 0.99, 1.03), 1.0, "inconclusive"),
        (Estimate(0.98, 0.96, 1.1), 0.9, "inconclusive"),  # not slower is not faster
    ],
)
def test_speed_is_judged_by_the_whole_interval(
    speed: Estimate, least: float, verdict: Verdict
) -> None:
    assert judge_speed(speed, 6, least, ("INT8", "FP16")).verdict == verdict


def test_the_number_of_repeats_is_that_of_an_interval_that_shrinks_with_its_root() -> None:
    # on the logarithm the half-width is 0.2 and the distance to 1 is 0.09: 6 * (0.2 / 0.09)^2
    speed = Estimate(math.exp(0.09), math.exp(-0.11), math.exp(0.29))
    (said,) = judge_speed(speed, 6, 1.0, ("INT8", "FP16")).reasons
    assert "about 30 repeats instead of 6 would decide" in said
    (said,) = judge_speed(Estimate(1.0, 0.9, 1.1), 6, 1.0, ("INT8", "FP16")).reasons
    assert "no number of repeats" in said


def test_what_would_settle_it_names_what_is_open() -> None:
    images, repeats = answer("inconclusive", "pass", OPEN).settle
    assert "INT8" in images
    assert "FP16" not in images
    assert "--repeats" in repeats
    (timing,) = answer("pass", "pass", None).settle
    assert "--latency" in timing


@pytest.mark.parametrize("terms", [(-1, 1), (101, 1), (math.nan, 1), (1, 0), (1, math.inf)])
def test_limits_that_are_none_are_refused(terms: tuple[float, float]) -> None:
    with pytest.raises(InputError):
        Terms(*terms)
