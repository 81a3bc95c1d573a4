"""What validation found: numbers derived from the raw logits, and the judgement on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact, stats
from edgedense.engines.runner import Floats
from edgedense.validate.judge import Gates, Judgement, Verdict, combine
from edgedense.validate.measure import Measurement

PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers in percent (0 … 100).

    ``top1_ci95`` is Wilson's interval. ``top5`` is None with five classes or fewer, where it says
    nothing; everything is None where no image has a label.
    """

    top1: float | None
    top5: float | None
    top1_ci95: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        interval = list(self.top1_ci95) if self.top1_ci95 else None
        return {"top1": self.top1, "top5": self.top5, "top1_ci95": interval}


@dataclass(frozen=True, eq=False)
class ValidateReport:
    """A measurement, its judgement, and the gates that it was held against.

    Shares are in percent, differences in percentage points (pp), SQNR in dB.
    """

    engine_name: str
    reference_name: str | None
    measured: Measurement
    gates: Gates
    judgement: Judgement
    speedup: stats.Estimate | None = None

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.measured.labels)

    @cached_property
    def engine(self) -> Accuracy:
        """Accuracy of the engine."""
        return _accuracy(self.measured, self.measured.engine_logits)

    @cached_property
    def reference(self) -> Accuracy | None:
        """Accuracy of the reference; None without one."""
        logits = self.measured.reference_logits
        return None if logits is None else _accuracy(self.measured, logits)

    @cached_property
    def drop(self) -> stats.Estimate | None:
        """Top-1 of the reference minus top-1 of the engine, in pp, with Tango's 95 % interval.

        Positive where the engine is worse; None without labels or reference.
        """
        counts = self.measured.counts
        return None if counts is None else stats.paired_difference(counts).scaled(100)

    @cached_property
    def agreement(self) -> float | None:
        """Percent of images where engine and reference name the same class."""
        logits = self.measured.reference_logits
        if logits is None:
            return None
        return 100 * float(np.mean(stats.agreeing(self.measured.engine_logits, logits)))

    @cached_property
    def logit_sqnr_db(self) -> float | None:
        """Logit SQNR in dB over all images; None without a reference or with NaN or infinity."""
        logits = self.measured.reference_logits
        return None if logits is None else stats.logit_sqnr_db(logits, self.measured.engine_logits)

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

    def judged_also(self, judgement: Judgement) -> ValidateReport:
        """The same report with one more judgement, such as that against a baseline."""
        return replace(self, judgement=combine([self.judgement, judgement]))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; unknown numbers are None, never NaN."""
        counts = self.measured.counts
        drop = self.drop
        found: dict[str, Any] = {
            "samples": self.samples,
            "labelled": int(np.count_nonzero(self.measured.labelled)),
            "engine_name": self.engine_name,
            "reference_name": self.reference_name,
            "reference": self.reference.to_dict() if self.reference else None,
            "engine": self.engine.to_dict(),
            "drop_pp": drop.value if drop else None,
            "drop_ci95": list(drop.interval) if drop else None,
            "lost": counts.lost if counts else None,
            "gained": counts.gained if counts else None,
            "mcnemar_p": stats.mcnemar_p(counts) if counts else None,
            "agreement": self.agreement,
            "logit_sqnr_db": self.logit_sqnr_db,
            "not_finite": self.measured.not_finite,
            "max_drop_pp": self.gates.max_drop_pp,
            "min_speedup": self.gates.min_speedup,
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
    """Write a ``validate`` artifact: the report, and every logit in ``predictions.npz``.

    Errors: InputError where ``path`` exists; MachineError on a full disk.
    """
    measured = report.measured
    arrays: dict[str, Any] = {
        "content": np.array(measured.content, dtype="U64"),
        "labels": measured.labels,
        "engine_logits": measured.engine_logits,
    }
    if measured.reference_logits is not None:
        arrays["reference_logits"] = measured.reference_logits
    with artifact.create(
        path, "validate", parents=parents, options=options, preprocess=preprocess
    ) as draft:
        np.savez_compressed(draft.path / PREDICTIONS_FILE, **arrays)
        draft.report = report.to_dict()


def _accuracy(measured: Measurement, logits: Floats) -> Accuracy:
    labels = measured.labels[measured.labelled]
    n = len(labels)
    if not n:
        return Accuracy(None, None, None)
    known = logits[measured.labelled]
    top1 = stats.wilson(int(np.count_nonzero(stats.top_k(known, labels, 1))), n)
    top5 = None
    if known.shape[1] > 5:
        top5 = 100 * float(np.mean(stats.top_k(known, labels, 5)))
    return Accuracy(100 * top1.value, top5, top1.scaled(100).interval)
