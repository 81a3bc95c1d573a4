"""Artifacts of engines that were never built: what they would have recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.validate import (
    Gates,
    Measurement,
    ValidateReport,
    judge,
)
from edgedense.validate import write_report as write_validated

IMAGES = 2000


def engine(path: Path, precision: str, target: str = "jetson-orin-nano") -> Artifact:
    with artifact.create(path, "build-engine", parents={}, options={"batch": [1, 1, 8]}) as draft:
        (draft.path / "model.engine").write_bytes(precision.encode())
        draft.report = {"precision": precision, "target": target, "engine_bytes": 1000}
    return artifact.read(path)


def measured(wrong: int, images: int = IMAGES, shift: int = 0) -> Measurement:
    """A perfect FP32 network, and an engine that is wrong on ``wrong`` images from ``shift`` on."""
    labels = np.arange(images) % 3
    answers = labels.copy()
    answers[shift : shift + wrong] = (answers[shift : shift + wrong] + 1) % 3
    logits = np.eye(3, dtype=np.float32)
    content = tuple(f"{number:064x}" for number in range(images))
    return Measurement(content, labels, logits[answers], logits[labels])


def validated(path: Path, of: Artifact, found: Measurement) -> Artifact:
    gates = Gates(1.0)
    report = ValidateReport("tensorrt", "FP32", found, gates, judge(found, gates))
    write_validated(path, report, parents={"engine": of.sha256}, options={"max_drop_pp": 1.0})
    return artifact.read(path)


def timed(
    path: Path,
    of: Artifact,
    against: Artifact,
    speedup: tuple[float, float, float] = (1.5, 1.4, 1.6),
    **more: Any,
) -> Artifact:
    side = {
        "p50_ms": 2.0,
        "p50_ci95_ms": [1.9, 2.1],
        "stable": True,
        "reasons": [],
        "energy_mj": 9.0,
    }
    slower = {**side, "p50_ms": 3.0, "energy_mj": 14.0}
    parents = {"engine": of.sha256, "against": against.sha256}
    with artifact.create(path, "benchmark", parents=parents, options={"batch": 1}) as draft:
        draft.report = {
            **side,
            "device": {"name": "Orin Nano", "load_1min": 0.1},
            "against": slower,
            "speedup": speedup[0],
            "speedup_ci95": list(speedup[1:]),
            "rounds": 6,
            **more,
        }
    return artifact.read(path)


def run(path: Path, wrong: int = 4, precision: str = "int8", p50_ms: float = 2.0) -> Path:
    """A run directory as deploy leaves it."""
    path.mkdir()
    built = engine(path / "engine-orin", precision)
    validated(path / "validate-orin", built, measured(wrong))
    other = engine(path / "engine-other", "fp16")
    timed(path / "benchmark-orin", built, other, p50_ms=p50_ms)
    names = ("engine-orin", "validate-orin", "benchmark-orin")
    artifact.write_json(path / "run.json", {"stages": {name: {} for name in names}})
    return path
