"""Whether numbers can be held against those of another day: what speaks against it, in words.

The field's rule is that the coefficient of variation of a GPU's compute times stays below 2.5 %.
Times of whole calls have a tail that is not the engine's: on a processor that others use too, a few
calls in a hundred are late, and one of twice the length in a thousand spoils the coefficient while
no percentile but the last has moved. So for whole calls the medians of consecutive blocks are held
against the same limit: single late calls do not move them; heat, changing clocks and other load do,
and these are what spoils a comparison.

Medians are blind to late calls however long they are, so the mean is held against the median too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgedense import stats
from edgedense.benchmark.measure import Milliseconds, PhaseSamples
from edgedense.board import Summary

LARGEST_VARIATION = 0.025
# Then a fifth of the time (1 - 1/1.25) is not the engine's own: throughput and energy an image are
# off by as much. A usual tail stays below: one call in twenty of five times the length adds 20 %.
LARGEST_MEAN_TO_MEDIAN = 1.25
LARGEST_CLOCK_DRIFT = LARGEST_VARIATION  # what is bound by a clock moves as much as the clock
LARGEST_RISE_C = 10.0  # more: the device is still warming up, and will be slower when it is warm


def unstable_reasons(
    repeats: Sequence[Milliseconds],
    phases: PhaseSamples | None = None,
    watched: Iterable[Summary] = (),
    *,
    alone: bool = True,
) -> tuple[str, ...]:
    """Plain sentences, none where all is well; ``repeats`` are samples in ms in order of time.

    ``alone`` is whether calls came one at a time: those of several streams wait for each other, so
    that late ones say nothing of the machine.
    """
    return (
        *_variation(repeats, phases),
        *(_late_calls(np.concatenate(repeats)) if alone else ()),
        *(reason for summary in watched for reason in _device(summary)),
    )


def drift_within(repeats: Sequence[Milliseconds]) -> float:
    """Coefficient of variation of the medians of ten blocks of a repeat; the middle repeat's."""
    return float(np.median([stats.block_variation(samples) for samples in repeats]))


def drift_between(repeats: Sequence[Milliseconds]) -> float:
    """Coefficient of variation of the medians of the repeats; 0 for one."""
    return stats.variation(np.array([np.median(samples) for samples in repeats]))


def _variation(repeats: Sequence[Milliseconds], phases: PhaseSamples | None) -> list[str]:
    found = [
        ("medians of consecutive blocks vary by", drift_within(repeats)),
        (f"medians of the {len(repeats)} repeats vary by", drift_between(repeats)),
    ]
    if phases is not None:
        found.append(("compute times vary by", stats.variation(phases.compute_ms)))
    return [
        f"{what} {100 * value:.1f} % (limit {100 * LARGEST_VARIATION:g} %)"
        for what, value in found
        if value > LARGEST_VARIATION
    ]


def _late_calls(samples_ms: Milliseconds) -> list[str]:
    """The time beyond what as many calls of the median length take."""
    mean, median = float(samples_ms.mean()), float(np.median(samples_ms))
    if mean <= LARGEST_MEAN_TO_MEDIAN * median:
        return []
    return [
        f"slow calls cost {100 * (1 - median / mean):.0f} % of the time (mean {mean:.3f} ms, "
        f"median {median:.3f} ms): something else ran"
    ]


def _device(summary: Summary) -> list[str]:
    found = []
    drift, rise = summary.clock_drift, summary.temperature_rise_c
    if summary.throttled:
        why = ", ".join(summary.throttled_by)
        found.append(f"the device slowed itself down ({why}): cool it, or lower its power mode")
    if drift is not None and drift > LARGEST_CLOCK_DRIFT:
        found.append(
            f"clocks changed by {100 * drift:.1f} % while it was measured: fix them "
            "(on a Jetson: sudo jetson_clocks)"
        )
    if rise is not None and rise > LARGEST_RISE_C:
        found.append(
            f"the device became {rise:.0f} degrees warmer while it was measured: warm it up longer"
        )
    return found
