"""Baselines: what an engine once reached, kept as a small JSON file under version control.

Which images were answered rightly is kept as one bit an image, so that a later engine is compared
on the same images pair by pair, without its logits.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedense import artifact
from edgedense.errors import InputError
from edgedense.stats import PairedCounts, paired_difference
from edgedense.validate.judge import Judgement, combine
from edgedense.validate.measure import Measurement
from edgedense.validate.report import ValidateReport

FORMAT = "edgedense-baseline/1"


@dataclass(frozen=True)
class Baseline:
    """What an engine reached, on which device and which images.

    ``set_sha256`` is over the sorted (content, label) of the labelled images; ``correct`` holds
    one bit for each of them in that order, packed and in hex. Shares are in percent.
    """

    device: str
    target: str
    engine_sha256: str
    set_sha256: str
    samples: int
    correct: str
    top1: float | None
    agreement: float | None
    logit_sqnr_db: float | None
    batch: int | None = None
    p50_ms: float | None = None
    format: str = FORMAT


@dataclass(frozen=True)
class BaselineTolerance:
    """How far an engine may fall behind its baseline.

    ``drop_pp``: a fall in top-1 fails only where its whole 95 % interval exceeds this.
    ``latency_percent``: how much p50 may grow, on the same device.
    """

    drop_pp: float = 0.0
    latency_percent: float = 10.0


def baseline_of(
    report: ValidateReport,
    *,
    device: str,
    target: str,
    engine_sha256: str,
    batch: int | None = None,
    p50_ms: float | None = None,
) -> Baseline:
    """What to remember of a report; ``batch`` and ``p50_ms`` where latency was measured too.

    Errors: InputError for segmentation.
    """
    measured = report.measured
    if not isinstance(measured, Measurement):
        raise no_baseline()
    order, digest = _order(measured)
    return Baseline(
        device=device,
        target=target,
        engine_sha256=engine_sha256,
        set_sha256=digest,
        samples=len(order),
        correct=np.packbits(measured.engine_correct[order]).tobytes().hex(),
        top1=measured.engine.top1,
        agreement=report.agreement,
        logit_sqnr_db=report.logit_sqnr_db,
        batch=batch,
        p50_ms=p50_ms,
    )


def no_baseline() -> InputError:
    """What to raise where a baseline is asked of segmentation."""
    return InputError(
        "a baseline keeps one right or wrong an image, which segmentation does not have",
        "Leave --baseline and --write-baseline away; keep the report with -o DIR instead.",
    )


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline; one that is there is replaced. Errors: MachineError on a full disk."""
    with artifact.disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_json(path, asdict(baseline))


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Errors: InputError where it is missing, damaged or of another format."""
    remedy = "Write it again with --write-baseline FILE."
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        baseline = Baseline(**raw)
        bits = 8 * len(bytes.fromhex(baseline.correct))
        whole = baseline.samples <= bits < baseline.samples + 8
        timed = baseline.p50_ms is None or float(baseline.p50_ms) > 0
    except OSError as error:
        raise InputError(f"baseline {path}: {error.strerror}", remedy) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"baseline {path} is damaged ({error})", remedy) from error
    if baseline.format != FORMAT:
        raise InputError(f"baseline {path}: format {baseline.format!r}, not {FORMAT!r}", remedy)
    if not (whole and timed):
        raise InputError(f"baseline {path} is damaged (samples, answers or latency)", remedy)
    return baseline


def compare_baseline(
    current: Baseline,
    baseline: Baseline,
    tolerance: BaselineTolerance | None = None,
    *,
    force: bool = False,
) -> Judgement:
    """Whether an engine fell behind its baseline, in accuracy (paired) or latency.

    Errors: InputError where device, target or images differ; with ``force`` what can still be
    compared is compared, and the reasons say what was not.
    """
    tolerance = tolerance or BaselineTolerance()
    differing = _differing(current, baseline)
    if differing and not force:
        raise InputError(
            f"the baseline is for another {' and another '.join(differing)}: "
            + "; ".join(differing.values()),
            "Compare like with like, or write a new one with --write-baseline FILE.",
        )
    return combine(
        [
            _judge_accuracy(current, baseline, tolerance.drop_pp),
            _judge_latency(current, baseline, tolerance.latency_percent),
        ]
    )


def _order(measured: Measurement) -> tuple[list[int], str]:
    """Order of the labelled images by content and label, and the SHA-256 of both."""
    known = np.flatnonzero(measured.labelled)
    keys = [(measured.content[row], int(measured.labels[row])) for row in known]
    order = sorted(range(len(keys)), key=lambda position: keys[position])
    return order, artifact.sha256_json([keys[position] for position in order])


def _differing(current: Baseline, baseline: Baseline) -> dict[str, str]:
    pairs = {
        "device": (baseline.device, current.device),
        "target": (baseline.target, current.target),
        "evaluation set": (baseline.set_sha256[:12], current.set_sha256[:12]),
    }
    return {what: f"{was} then, {now} now" for what, (was, now) in pairs.items() if was != now}


def _judge_accuracy(current: Baseline, baseline: Baseline, tolerance_pp: float) -> Judgement:
    if current.set_sha256 != baseline.set_sha256:
        return Judgement("inconclusive", ("Baseline: other images, so accuracy was not compared.",))
    if not current.samples:
        return Judgement("inconclusive", ("Baseline: no labels, so accuracy was not compared.",))
    counts = PairedCounts.of(_answers(baseline), _answers(current))
    drop = paired_difference(counts).scaled(100)
    said = (
        f"Baseline: top-1 drop since then {drop.value:.2f} pp, "
        f"95 % interval [{drop.low:.2f}, {drop.high:.2f}] pp"
    )
    if drop.low > tolerance_pp:
        return Judgement("fail", (f"{said}: a regression (tolerance {tolerance_pp:g} pp).",))
    return Judgement("pass", (f"{said}: no proven regression (tolerance {tolerance_pp:g} pp).",))


def _answers(baseline: Baseline) -> NDArray[np.bool_]:
    packed = np.frombuffer(bytes.fromhex(baseline.correct), dtype=np.uint8)
    return np.unpackbits(packed, count=baseline.samples).astype(np.bool_)


def _judge_latency(current: Baseline, baseline: Baseline, tolerance_percent: float) -> Judgement:
    if current.p50_ms is None or baseline.p50_ms is None:
        return Judgement("pass", ())
    if (current.device, current.batch) != (baseline.device, baseline.batch):
        return Judgement("pass", ("Baseline: other device or batch, so latency was not compared.",))
    change = 100 * (current.p50_ms / baseline.p50_ms - 1)
    said = (
        f"Baseline: p50 {baseline.p50_ms:.3f} ms then, {current.p50_ms:.3f} ms now "
        f"({change:+.1f} %)"
    )
    if change > tolerance_percent:
        return Judgement("fail", (f"{said}: a regression (tolerance {tolerance_percent:g} %).",))
    return Judgement("pass", (f"{said}: within {tolerance_percent:g} %.",))
