"""What stays of a benchmark: an artifact, and raw samples for other programs, a row a sample."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact
from edgedense.benchmark.measure import Milliseconds
from edgedense.benchmark.report import BenchmarkReport, ComparisonReport
from edgedense.benchmark.sweep import SweepReport
from edgedense.errors import InputError

SAMPLES_FILE = "samples.json"
SUFFIXES = (".csv", ".json", ".npz")
COLUMNS = ("engine", "batch", "streams", "repeat", "kind", "ms")

Report = BenchmarkReport | ComparisonReport | SweepReport


@dataclass(frozen=True, eq=False)
class Series:
    """Samples in ms of one kind, in the order of time.

    ``kind`` is ``end_to_end`` for whole calls, or ``copy_in``, ``compute`` or ``copy_out``, which
    are of other calls, all repeats in one.
    """

    engine: str
    batch: int
    streams: int
    repeat: int
    kind: str
    ms: Milliseconds


def write_report(
    path: Path,
    report: Report,
    *,
    parents: Mapping[str, str],
    options: Mapping[str, Any],
    seed: int | None = None,
) -> None:
    """Write a ``benchmark`` artifact: the report, and every sample in ``samples.json``.

    Errors: InputError where ``path`` exists; MachineError on a full disk.
    """
    with artifact.create(path, "benchmark", parents=parents, options=options, seed=seed) as draft:
        artifact.write_json(draft.path / SAMPLES_FILE, _kept(report))
        draft.report = report.to_dict()


def _kept(report: Report) -> dict[str, Any]:
    if isinstance(report, ComparisonReport):
        return {**_side("samples", report.engine), **_side("against", report.against)}
    if isinstance(report, SweepReport):
        told = [(cell.batch, cell.streams, cell.samples_ms.tolist()) for cell in report.cells]
        return {"cells": [{"batch": b, "streams": s, "samples_ms": ms} for b, s, ms in told]}
    return _side("samples", report)


def _side(name: str, report: BenchmarkReport) -> dict[str, Any]:
    kept: dict[str, Any] = {f"{name}_ms": report.samples_ms.tolist()}
    if len(report.repeats) > 1:
        kept[f"{name}_repeats"] = list(report.repeats)
    for phase, ms in report.phases.items() if report.phases else ():
        kept[f"{name}_{phase}_ms"] = ms.tolist()
    return kept


def check_export(path: Path) -> None:
    """Raise InputError where samples cannot be written to ``path``: before the work, not after."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path}: samples are written as {', '.join(SUFFIXES)}", "Choose one of these endings."
        )
    artifact.check_absent(path)


def export_samples(path: Path, report: Report) -> None:
    """Write every sample as CSV, JSON or NPZ, by the suffix: whole, or not at all.

    CSV and NPZ have the columns ``engine, batch, streams, repeat, kind, ms``; JSON has an object a
    series, its ``ms`` a list. Errors: InputError where ``path`` is no good; MachineError on a full
    disk.
    """
    check_export(path)
    series = list(series_of(report))
    written = {".csv": _csv, ".json": _json, ".npz": _npz}[path.suffix](series)
    with artifact.disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_whole(path, written)


def series_of(report: Report) -> Iterator[Series]:
    """The samples of a report, series by series."""
    if isinstance(report, ComparisonReport):
        yield from series_of(report.engine)
        yield from series_of(report.against)
    elif isinstance(report, SweepReport):
        for cell in report.cells:
            place = (report.engine_name, cell.batch, cell.streams, 0)
            yield Series(*place, "end_to_end", cell.samples_ms)
    else:
        for repeat, ms in enumerate(report.repeats_ms):
            yield Series(report.engine_name, report.batch, 1, repeat, "end_to_end", ms)
        for kind, ms in report.phases.items() if report.phases else ():
            yield Series(report.engine_name, report.batch, 1, 0, kind, ms)


def _csv(series: Sequence[Series]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in series:
        place = [getattr(one, name) for name in COLUMNS[:-1]]
        rows.writerows([*place, repr(float(ms))] for ms in one.ms)
    return text.getvalue().encode()


def _json(series: Sequence[Series]) -> bytes:
    rows = [{**vars(one), "ms": one.ms.tolist()} for one in series]
    return (json.dumps({"series": rows}, allow_nan=False) + "\n").encode()


def _npz(series: Sequence[Series]) -> bytes:
    lengths = [len(one.ms) for one in series]
    columns: dict[str, Any] = {
        name: np.repeat(np.array([getattr(one, name) for one in series]), lengths)
        for name in COLUMNS[:-1]
    }
    columns["ms"] = np.concatenate([one.ms for one in series])
    stream = io.BytesIO()
    np.savez_compressed(stream, **columns)
    return stream.getvalue()
