"""Two engines by what was recorded of them elsewhere: validate artifacts, and a benchmark."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.compare.report import (
    Contender,
    Facts,
    Speed,
    VerdictReport,
    candidate_first,
    facts_of,
)
from edgedense.compare.verdict import Terms
from edgedense.errors import InputError
from edgedense.stats import Estimate
from edgedense.validate import Measurement, SegmentationMeasurement
from edgedense.validate.judge import Measured
from edgedense.validate.report import PREDICTIONS_FILE

VALIDATE, BENCHMARK = "validate", "benchmark"
_AGAIN = "Validate again with this edgedense: edgedense validate ENGINE --data SET -o DIR"
_TIME_AGAIN = "In turns: edgedense benchmark ENGINE --against ENGINE -o DIR"
# what numpy and zipfile raise on damaged archives, and on arrays that do not fit
_DAMAGED = (
    *(OSError, KeyError, TypeError, ValueError, EOFError, RuntimeError, IndexError),
    *(zipfile.BadZipFile, zlib.error, MemoryError),
)


def compare_recorded(
    first: Artifact, second: Artifact, timed: Artifact | None, terms: Terms
) -> VerdictReport:
    """The verdict from two validate artifacts and, for speed, a benchmark of one against the other.

    No engine runs. What the engines are is read from their own artifacts where these lie beside
    the others, as in a run. Errors: InputError where the three do not belong together.
    """
    facts = [_facts(validated) for validated in (first, second)]
    if not candidate_first(*facts):
        first, second = second, first
        facts.reverse()
    speed = _speed(timed, facts[0], facts[1]) if timed is not None else None
    energies = [_energy(speed.candidate), _energy(speed.incumbent)] if speed else [None, None]
    return VerdictReport(
        candidate=Contender(facts[0], read_measured(first), energies[0]),
        incumbent=Contender(facts[1], read_measured(second), energies[1]),
        speed=speed,
        terms=terms,
    )


def read_measured(validated: Artifact) -> Measured:
    """What an engine answered, from a validate artifact. Errors: InputError where damaged."""
    data = validated.data(PREDICTIONS_FILE)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        dense = validated.manifest.report.get("task") == "segmentation"
        return _segmentation(kept, validated) if dense else _classification(kept)
    except _DAMAGED as error:
        place = validated.path / PREDICTIONS_FILE
        raise InputError(f"{place} is not readable ({error})", _AGAIN) from error


def _classification(kept: Mapping[str, NDArray[Any]]) -> Measurement:
    content, labels = kept["content"], kept["labels"].astype(np.int64)
    logits = kept["engine_logits"].astype(np.float32)
    known = kept.get("reference_logits")
    reference = None if known is None else known.astype(np.float32)
    shapes = {logits.shape, *([] if reference is None else [reference.shape])}
    counted = {len(content), len(labels), len(logits)}
    if logits.ndim != 2 or len(counted) != 1 or len(shapes) != 1:
        raise ValueError("images, labels and logits differ in number")
    return Measurement(tuple(map(str, content)), labels, logits, reference)


def _segmentation(kept: Mapping[str, NDArray[Any]], validated: Artifact) -> SegmentationMeasurement:
    report = validated.manifest.report
    height, width = validated.fact("preprocess", "input_size")
    pixels = kept["engine_pixels"].astype(np.int64)
    if pixels.ndim != 3 or len(pixels) != len(kept["content"]):
        raise ValueError("images and their pixels differ in number")
    optional = ("reference_pixels", "reference_confusion", "agreeing", "signal", "noise")
    return SegmentationMeasurement(
        content=tuple(map(str, kept["content"])),
        class_names=tuple(map(str, kept["class_names"])),
        void=tuple(report["void"]),
        pixels=int(height) * int(width),
        not_finite=int(report["not_finite"]),
        engine_pixels=pixels,
        engine_confusion=kept["engine_confusion"],
        **{name: kept.get(name) for name in optional},
    )


def _facts(validated: Artifact) -> Facts:
    """Of the engine that was validated: its artifact lies beside, else only its hash is known."""
    sha256 = str(validated.fact("parents", "engine"))
    for neighbour in sorted(validated.path.absolute().parent.glob(f"*/{artifact.MANIFEST}")):
        if artifact.sha256_file(neighbour) == sha256:
            return facts_of(artifact.read(neighbour.parent))
    return Facts(validated.path.absolute().name, sha256)


def _speed(timed: Artifact, candidate: Facts, incumbent: Facts) -> Speed:
    parents, report = timed.manifest.parents, timed.manifest.report
    if "speedup" not in report or "against" not in report:
        raise InputError(
            f"{timed.path} measured one engine alone: two days are no comparison",
            _TIME_AGAIN,
        )
    pair = [str(parents.get("engine")), str(parents.get("against"))]
    wanted = [candidate.sha256, incumbent.sha256]
    if sorted(pair) != sorted(wanted):
        raise InputError(
            f"{timed.path} timed other engines than those that were validated",
            "Take all three from the same two engine artifacts.",
        )
    try:
        speedup = Estimate(float(report["speedup"]), *map(float, report["speedup_ci95"]))
        rounds = int(report["rounds"])
        own, others = dict(report), dict(report["against"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"{timed.path}: its report is damaged ({error})"
        raise InputError(what, _TIME_AGAIN) from error
    if not all(0 < end < math.inf for end in (speedup.value, *speedup.interval)):
        raise InputError(f"{timed.path}: {speedup} is no speed-up", _TIME_AGAIN)
    for key in ("against", "speedup", "speedup_ci95", "rounds", "fresh_processes"):
        own.pop(key, None)
    if pair == wanted:
        return Speed(speedup, rounds, own, others)
    inverse = Estimate(1 / speedup.value, 1 / speedup.high, 1 / speedup.low)
    return Speed(inverse, rounds, others, own)


def _energy(side: Mapping[str, Any]) -> float | None:
    found = side.get("energy_mj")
    return float(found) if isinstance(found, int | float) else None


def read_stage(path: Path, stage: str) -> Artifact:
    """An artifact that must be of one stage. Errors: InputError where it is of another."""
    found = artifact.read(path)
    if found.manifest.stage != stage:
        raise InputError(
            f"{path} is a {found.manifest.stage} artifact, not one of {stage}",
            "Name the directory that edgedense benchmark wrote with -o.",
        )
    return found
