"""Whether numbers can be held against those of another day: what speaks against it, in words.

The field's rule is that the coefficient of variation of a GPU's compute times stays below 2.5 %.
Times of whole calls have a tail that is not the engine's: on a processor that others use too, a few
calls in a hundred are late, and one of twice the length in a thousand spoils the coefficient while
no percentile but the last has moved. So for whole calls the medians of consecutive blocks are held
against the same limit: single late calls do not move them; heat, changing clocks and other load do,
and these are what spoils a comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgedense import stats
from edgedense.benchmark.measure import Milliseconds, PhaseSamples
from edgedense.board import Summary

LARGEST_VARIATION = 0.025
LARGEST_CLOCK_DRIFT = LARGEST_VARIATION  # what is bound by a clock moves as much as the clock
LARGEST_RISE_C = 10.0  # more: the device is still warming up, and will be slower when it is warm


def unstable_reasons(
    repeats: Sequence[Milliseconds],
    phases: PhaseSamples | None = None,
    watched: Iterable[Summary] = (),
) -> tuple[str, ...]:
    """Plain sentences, none where all is well; ``repeats`` are samples in ms in order of time."""
    return (
        *_variation(repeats, phases),
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
