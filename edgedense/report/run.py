"""A run directory as one JSON object, and the raw samples that its plots are drawn from."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.errors import InputError
from edgedense.insight import look, open_source
from edgedense.report.charts import Doubles
from edgedense.report.facts import finite, items, mapping, text
from edgedense.run import LEDGER

REPORT_FORMAT = "edgedense-report/1"
QUANTIZE, ENGINE, LATENCY = "quantize", "build-engine", "latency"
SWEEP_FILE = "sweep.json"
_LARGEST = 1 << 26  # bytes of one payload: what is larger is no record of ours


def read_run(run: Path) -> dict[str, Any]:
    """Everything that a run directory proves, as plain JSON values: what ``report.json`` holds.

    Its schema is ``report/schema/report-1.json``. Errors: InputError where ``run`` holds no stages.
    """
    stages = {path.name: artifact.read(path) for path in artifact.stages_in(run)}
    if not stages:
        raise InputError(
            f"{run} holds no stages of a run", "Give the directory that edgedense deploy wrote."
        )
    stages = _current(stages)
    found = {
        "format": REPORT_FORMAT,
        "run": run.resolve().name,
        "verdicts": {
            name.removeprefix("validate-"): text(stage.manifest.report, "verdict")
            for name, stage in stages.items()
            if stage.manifest.stage == "validate"
        },
        "stages": {name: _stage(stage) for name, stage in stages.items()},
    }
    found["not_built"] = _not_built(run, found)
    if sweep := _sweep(run):
        found["sweep"] = sweep
    plain: dict[str, Any] = finite(found)
    return plain


@dataclass(frozen=True)
class Raw:
    """What is too much for ``report.json``; each is empty where nothing was recorded.

    ``samples_ms`` by stage and series; ``histograms`` by quantize stage and value: counts of
    magnitudes, and the upper end of the last bin; ``calibration`` and ``sensitivity`` are the JSON
    files of these names by stage; ``insight`` is what became of an engine's layers.
    """

    samples_ms: dict[str, dict[str, Doubles]] = field(default_factory=dict)
    histograms: dict[str, dict[str, tuple[list[int], float]]] = field(default_factory=dict)
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    sensitivity: dict[str, dict[str, Any]] = field(default_factory=dict)
    insight: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_raw(run: Path, stages: dict[str, Any]) -> Raw:
    """The records of ``stages`` of the run. Errors: InputError where one was damaged."""
    raw = Raw()
    for name in stages:
        stage = artifact.read(run / name)
        kind = stage.manifest.stage
        if kind == QUANTIZE:
            for file, kept in (
                (artifact.CALIBRATION_FILE, raw.calibration),
                ("sensitivity.json", raw.sensitivity),
            ):
                if stage.has(file):
                    kept[name] = _json(stage, file)
            if stage.has(artifact.HISTOGRAMS_FILE):
                raw.histograms[name] = _histograms(stage)
        if kind == ENGINE and stage.has(artifact.INSPECTOR_FILE):
            raw.insight[name] = finite(look(open_source(stage.path)).to_dict())
        if stage.has("samples.json"):
            raw.samples_ms[name] = _samples(_json(stage, "samples.json"))
    return raw


def _current(stages: dict[str, Artifact]) -> dict[str, Artifact]:
    """Without what earlier options left behind: stages whose origin was replaced or left out."""
    kept = dict(stages)
    for kind, role, origin in _ORIGINS:
        made = {stage.sha256 for stage in kept.values() if stage.manifest.stage == origin}
        if any(stage.manifest.stage == origin for stage in stages.values()):
            kept = {
                name: stage
                for name, stage in kept.items()
                if stage.manifest.stage != kind or _parent(stage, role) in made
            }
    engines = {stage.sha256 for stage in kept.values() if stage.manifest.stage == ENGINE}
    kept = {
        name: s for name, s in kept.items() if s.manifest.stage != LATENCY or _timed(s) <= engines
    }
    for kind, readers in (("finetune", {QUANTIZE}), ("prune", {QUANTIZE, "finetune"})):
        used = {_parent(s, "model") for s in kept.values() if s.manifest.stage in readers}
        kept = {
            name: stage
            for name, stage in kept.items()
            if stage.manifest.stage != kind or not used or stage.sha256 in used
        }
    return kept


# a stage of the first kind was made from the third, which its parents hold by the second name
_ORIGINS = (
    (ENGINE, "model", QUANTIZE),
    ("benchmark", "engine", ENGINE),
    ("validate", "engine", ENGINE),
)


def _timed(latency: Artifact) -> set[str]:
    return {_parent(latency, role) for role in latency.manifest.parents if role != "against"}


def _parent(stage: Artifact, role: str) -> str:
    return str(stage.manifest.parents.get(role, ""))


def _stage(stage: Artifact) -> dict[str, Any]:
    manifest = stage.manifest
    return {
        "stage": manifest.stage,
        "manifest_sha256": stage.sha256,
        "parents": {role: _parent(stage, role) for role in manifest.parents},
        "files": {name: vars(record) for name, record in manifest.files.items()},
        "options": manifest.options,
        "report": manifest.report,
        "model": manifest.model,
        "interface": manifest.interface,
        "preprocess": manifest.preprocess,
        "environment": manifest.environment,
    }


def _sweep(run: Path) -> dict[str, Any]:
    """The sweep's own summary; empty where there is none, or none that can be read."""
    found = _beside(run / SWEEP_FILE)
    return found if text(found, "format").startswith("edgedense-sweep/") else {}


def _not_built(run: Path, found: dict[str, Any]) -> list[str]:
    """Targets that the run was asked for, and of which it has neither an engine nor a verdict."""
    stages = mapping(found, "stages").values()
    here = {text(stage, "report", "target") for stage in stages} | set(mapping(found, "verdicts"))
    asked = items(_beside(run / LEDGER), "asked", "targets")
    return list(dict.fromkeys(n for n in asked if isinstance(n, str) and n not in here))


def _beside(path: Path) -> Any:
    """A JSON file that is no stage's; None where there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _json(stage: Artifact, name: str) -> dict[str, Any]:
    try:
        found = json.loads(_payload(stage, name))
    except (ValueError, RecursionError) as error:
        raise _damaged(stage, name, error) from error
    return found if isinstance(found, dict) else {}


def _payload(stage: Artifact, name: str) -> bytes:
    record = stage.manifest.files[name]
    if record.bytes > _LARGEST:
        raise _damaged(stage, name, f"{record.bytes:,} bytes")
    return stage.data(name)


def _damaged(stage: Artifact, name: str, why: object) -> InputError:
    return InputError(f"{stage.path / name} is damaged ({why})", "Make the artifact again.")


def _samples(found: dict[str, Any]) -> dict[str, Doubles]:
    """Series by name; those of a sweep's points lie one level deeper."""
    lists: dict[str, Any] = {**found, **mapping(found, "samples_ms")}
    series = {name: _floats(items(lists, name)) for name in lists}
    return {name: values for name, values in series.items() if len(values)}


def _floats(values: list[Any]) -> Doubles:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    found = np.array(numbers, np.float64)
    return found[np.isfinite(found) & (found > 0)]


def _histograms(stage: Artifact) -> dict[str, tuple[list[int], float]]:
    data = _payload(stage, artifact.HISTOGRAMS_FILE)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            names, counts, tops = arrays["names"], arrays["counts"], arrays["top"]
        if counts.ndim != 2 or not len(names) == len(counts) == len(tops):
            raise ValueError("arrays of different length")
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(stage, artifact.HISTOGRAMS_FILE, error) from error
    rows = zip(names.tolist(), counts.tolist(), tops.tolist(), strict=True)
    return {str(name): (row, float(top)) for name, row, top in rows}
