"""What validation found: a measurement and the judgement on it, as one report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact, stats
from edgedense.validate.judge import (
    Gates,
    Judgement,
    Measured,
    Verdict,
    combine,
    judge_speedup,
)
from edgedense.validate.measure import Accuracy
from edgedense.validate.plan import Plan
from edgedense.validate.segmentation import Segmentation

PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True, eq=False)
class ValidateReport:
    """A measurement, its judgement, and the gates that it was held against.

    Shares are in percent, differences in percentage points (pp), SQNR in dB. ``plan`` is what the
    set could show at all, told before the engine ran; None for segmentation or without a gate.
    """

    engine_name: str
    reference_name: str | None
    measured: Measured
    gates: Gates
    judgement: Judgement
    speedup: stats.Estimate | None = None
    plan: Plan | None = None

    @property
    def samples(self) -> int:
        """Number of images."""
        return self.measured.samples

    @property
    def engine(self) -> Accuracy | Segmentation:
        """How well the engine did."""
        return self.measured.engine

    @property
    def reference(self) -> Accuracy | Segmentation | None:
        """How well the reference did; None without one."""
        return self.measured.reference

    @property
    def drop(self) -> stats.Estimate | None:
        """Top-1 or mean IoU of the reference minus that of the engine, in pp, with its interval.

        Positive where the engine is worse; None where it cannot be told.
        """
        return self.measured.drop

    @property
    def agreement(self) -> float | None:
        """Percent of images, or pixels, where engine and reference name the same class."""
        return self.measured.agreement

    @property
    def logit_sqnr_db(self) -> float | None:
        """Logit SQNR in dB; None without the reference's logits or with NaN or infinity."""
        return self.measured.logit_sqnr_db

    @property
    def verdict(self) -> Verdict:
        """``pass``, ``fail`` or ``inconclusive``."""
        return self.judgement.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Plain sentences that explain the verdict."""
        return self.judgement.reasons

    @property
    def exit_code(self) -> int:
        """0 where every gate is proved to hold, else 1: what is inconclusive has not passed."""
        return 0 if self.verdict == "pass" else 1

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what deserves a look, whatever the verdict."""
        return self.measured.notes

    def sped_up(self, speedup: stats.Estimate, least: float) -> ValidateReport:
        """The same report with a speed-up that was measured since, held against ``least``."""
        judged = self.judged_also(judge_speedup(speedup, least))
        return replace(judged, gates=replace(self.gates, min_speedup=least), speedup=speedup)

    def judged_also(self, judgement: Judgement) -> ValidateReport:
        """The same report with one more judgement, such as that against a baseline."""
        return replace(self, judgement=combine([self.judgement, judgement]))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; unknown numbers are None, never NaN."""
        drop = self.drop
        found: dict[str, Any] = {
            "task": self.measured.task,
            "samples": self.samples,
            "engine_name": self.engine_name,
            "reference_name": self.reference_name,
            "reference": self.reference.to_dict() if self.reference else None,
            "engine": self.engine.to_dict(),
            "drop_pp": drop.value if drop else None,
            "drop_ci95": list(drop.interval) if drop else None,
            **self.measured.details,
            "agreement": self.agreement,
            "logit_sqnr_db": self.logit_sqnr_db,
            "not_finite": self.measured.not_finite,
            "max_drop_pp": self.gates.max_drop_pp,
            "min_speedup": self.gates.min_speedup,
            "plan": self.plan.to_dict() if self.plan else None,
            "notes": list(self.notes),
            "verdict": self.verdict,
            "reasons": list(self.reasons),
        }
        if self.speedup is not None:
            found["speedup"] = self.speedup.value
            found["speedup_ci95"] = list(self.speedup.interval)
        return found


def write_report(
    path: Path,
    report: ValidateReport,
    *,
    parents: Mapping[str, str],
    options: Mapping[str, Any],
    preprocess: Mapping[str, Any] | None = None,
) -> None:
    """Write a ``validate`` artifact: the report, and what it derives from in ``predictions.npz``.

    Errors: InputError where ``path`` exists; MachineError on a full disk.
    """
    with artifact.create(
        path, "validate", parents=parents, options=options, preprocess=preprocess
    ) as draft:
        arrays: dict[str, Any] = dict(report.measured.arrays())
        np.savez_compressed(draft.path / PREDICTIONS_FILE, **arrays)
        draft.report = report.to_dict()
