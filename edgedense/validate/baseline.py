"""Baselines: what an engine once reached, kept as a small JSON file under version control.

Which images were answered rightly is kept as one bit an image, so that a later engine is compared
on the same images pair by pair, without its logits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedense import artifact
from edgedense.errors import InputError
from edgedense.stats import Estimate
from edgedense.validate.measure import Measurement
from edgedense.validate.report import ValidateReport

if TYPE_CHECKING:
    from edgedense.engines.cuda import Gpu

FORMAT = "edgedense-baseline/2"


@dataclass(frozen=True)
class Identity:
    """What was measured, and where.

    ``device`` is the board, or the processor of other machines; ``gpu`` and ``sm`` (87 is 8.7) are
    None for an engine of a CPU.
    ``power_mode`` is a Jetson's. ``network`` names layers, outputs and input.
    """

    device: str
    target: str
    precision: str
    network: str
    engine_sha256: str
    gpu: str | None = None
    sm: int | None = None
    power_mode: str | None = None


@dataclass(frozen=True)
class Timing:
    """Median latency in ms of a call with ``batch`` images, with its 95 % interval.

    ``stable`` is the benchmark's word on whether it can be held against that of another day.
    """

    batch: int
    p50_ms: float
    p50_ci95_ms: tuple[float, float]
    stable: bool = True

    @property
    def estimate(self) -> Estimate:
        """The same as an estimate."""
        return Estimate(self.p50_ms, *self.p50_ci95_ms)


@dataclass(frozen=True)
class Baseline:
    """What an engine reached on which images.

    ``set_sha256`` is over the sorted (content, label) of the labelled images; ``correct`` holds
    one bit for each of them in that order, packed and in hex. Shares are in percent.
    """

    identity: Identity
    set_sha256: str
    samples: int
    correct: str
    top1: float | None
    agreement: float | None
    logit_sqnr_db: float | None
    timing: Timing | None = None
    format: str = FORMAT

    @property
    def answers(self) -> NDArray[np.bool_]:
        """Whether each image was answered rightly (samples,), in the order of ``set_sha256``."""
        packed = np.frombuffer(bytes.fromhex(self.correct), dtype=np.uint8)
        return np.unpackbits(packed, count=self.samples).astype(np.bool_)


def identity_of(
    engine: artifact.Artifact, device: Mapping[str, Any], gpu: Gpu | None = None
) -> Identity:
    """Who an engine artifact is, on a ``device`` (see ``edgedense.benchmark.describe_device``).

    ``gpu`` is the one that it runs on; None takes the one that it was built on, if any.
    Errors: InputError where the manifest lacks what tells it.
    """
    report, model = engine.manifest.report, engine.manifest.model
    payload = Path(engine.fact("report", "engine")).name
    if payload not in engine.manifest.files:
        raise InputError(
            f"{engine.path}: payload {payload} is missing", "Make the engine again: build-engine."
        )
    return Identity(
        device=device["name"],
        target=engine.fact("report", "target"),
        precision=engine.fact("report", "precision"),
        network=_network(model, engine.manifest.interface),
        engine_sha256=engine.manifest.files[payload].sha256,
        gpu=gpu.name if gpu else report.get("gpu"),
        sm=gpu.sm if gpu else report.get("sm"),
        power_mode=device.get("power_mode"),
    )


def baseline_of(
    report: ValidateReport, identity: Identity, timing: Timing | None = None
) -> Baseline:
    """What to remember of a report; ``timing`` where latency was measured too.

    Errors: InputError for segmentation.
    """
    measured = report.measured
    if not isinstance(measured, Measurement):
        raise no_baseline()
    order, digest = _order(measured)
    return Baseline(
        identity=identity,
        set_sha256=digest,
        samples=len(order),
        correct=np.packbits(measured.engine_correct[order]).tobytes().hex(),
        top1=measured.engine.top1,
        agreement=report.agreement,
        logit_sqnr_db=report.logit_sqnr_db,
        timing=timing,
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
        if isinstance(raw, dict) and raw.get("format", FORMAT) != FORMAT:
            raise InputError(f"baseline {path}: format {raw['format']!r}, not {FORMAT!r}", remedy)
        baseline = _parsed(raw)
    except OSError as error:
        raise InputError(f"baseline {path}: {error.strerror}", remedy) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"baseline {path} is damaged ({error})", remedy) from error
    return baseline


def _parsed(raw: dict[str, Any]) -> Baseline:
    timing = raw.pop("timing", None)
    if timing is not None:
        low, high = timing.pop("p50_ci95_ms")
        timing = Timing(p50_ci95_ms=(float(low), float(high)), **timing)
        if not 0 < low <= float(timing.p50_ms) <= high < math.inf:
            raise ValueError("latency")
    baseline = Baseline(identity=Identity(**raw.pop("identity")), timing=timing, **raw)
    _check_kinds(baseline)
    bits = 8 * len(bytes.fromhex(baseline.correct))
    if not 0 <= baseline.samples <= bits < baseline.samples + 8:
        raise ValueError("samples and answers")
    return baseline


def _check_kinds(baseline: Baseline) -> None:
    who, timing = baseline.identity, baseline.timing
    words = (who.device, who.target, who.precision, who.network, who.engine_sha256)
    if not all(isinstance(word, str) for word in (*words, baseline.set_sha256)):
        raise TypeError("names and hashes")
    counts = [baseline.samples, *([timing.batch] if timing else [])]
    if any(type(count) is not int for count in counts):
        raise TypeError("counts")


def _network(model: Mapping[str, Any], interface: Mapping[str, Any]) -> str:
    spec = model.get("spec") or {}
    blocks = spec.get("blocks") or [
        *spec.get("down", ()),
        spec.get("middle", ()),
        *spec.get("up", ()),
    ]
    layers = "-".join(str(len(block)) for block in blocks)
    shapes = (interface.get("input_shape") or (), interface.get("output_shape") or ())
    taken, given = ("x".join(map(str, shape)) for shape in shapes)
    return f"DenseNet {layers}, {taken} to {given}"


def _order(measured: Measurement) -> tuple[list[int], str]:
    """Order of the labelled images by content and label, and the SHA-256 of both."""
    known = np.flatnonzero(measured.labelled)
    keys = [(measured.content[row], int(measured.labels[row])) for row in known]
    order = sorted(range(len(keys)), key=lambda position: keys[position])
    return order, artifact.sha256_json([keys[position] for position in order])
