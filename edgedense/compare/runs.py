"""Two run directories side by side: accuracy, latency, sizes, and everything that differs.

Nothing is judged: two runs are two days, perhaps two machines. Accuracy of the same images is
compared pair by pair all the same, for that does not depend on the day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.compare.paired import Difference, difference, same_images
from edgedense.compare.recorded import BENCHMARK, VALIDATE, read_measured
from edgedense.errors import InputError
from edgedense.run import LEDGER

Stages = Mapping[str, Artifact]
Kind = Literal["option", "environment", "device"]
ENGINE = "build-engine"
# what a stage's report has of sizes and of quality, under the names of tables
_FIGURES = {
    ENGINE: ("engine_bytes", "weights_bytes", "activation_bytes", "layers"),
    "quantize": ("sqnr_db", "quantized", "images"),
    "prune": ("macs_after", "params_after"),
}
_ABSENT = "-"


@dataclass(frozen=True)
class AccuracyRow:
    """Top-1 or mean IoU of one engine in both runs, in percent, with what is paired.

    ``drop_pp`` of each is against FP32. ``between`` is None where the images are not the same.
    """

    stage: str
    metric: str
    values: tuple[float | None, float | None]
    intervals: tuple[list[float] | None, list[float] | None]
    drops_pp: tuple[float | None, float | None]
    drop_intervals: tuple[list[float] | None, list[float] | None]
    verdicts: tuple[str, str]
    between: Difference | None


@dataclass(frozen=True)
class LatencyRow:
    """Median of one engine in both runs, in ms; ``ratio`` is the second over the first.

    It has no interval: the two were measured on different days, not in turns.
    """

    stage: str
    p50_ms: tuple[float | None, float | None]
    intervals: tuple[list[float] | None, list[float] | None]
    speedups: tuple[float | None, float | None]
    stable: tuple[bool | None, bool | None]
    ratio: float | None
    same_device: bool


@dataclass(frozen=True)
class FigureRow:
    """One figure of a stage in both runs, and the second over the first."""

    stage: str
    figure: str
    values: tuple[float | None, float | None]
    ratio: float | None


@dataclass(frozen=True)
class Differing:
    """Something that is not the same in both runs; ``-`` where one has it not."""

    kind: Kind
    stage: str
    name: str
    values: tuple[Any, Any]


@dataclass(frozen=True)
class Origin:
    """What a stage of both runs was made from, and whether it came out the same, by SHA-256."""

    stage: str
    manifests: tuple[str, str]
    same: bool
    parents: tuple[dict[str, str], dict[str, str]]


@dataclass(frozen=True)
class RunsReport:
    """Two runs; ``only`` are the stages that one of them has alone."""

    names: tuple[str, str]
    accuracy: tuple[AccuracyRow, ...]
    latency: tuple[LatencyRow, ...]
    figures: tuple[FigureRow, ...]
    differing: tuple[Differing, ...]
    lineage: tuple[Origin, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        found = asdict(self)
        for row, kept in zip(found["accuracy"], self.accuracy, strict=True):
            row["between"] = kept.between.to_dict() if kept.between else None
        return found


def compare_runs(first: Path, second: Path) -> RunsReport:
    """Two runs of deploy, sweep or run-bundle. Errors: InputError where one holds no stages."""
    runs = read_stages(first), read_stages(second)
    shared = [name for name in runs[0] if name in runs[1]]
    pairs = [(name, runs[0][name], runs[1][name]) for name in shared]
    pairs = [pair for pair in pairs if pair[1].manifest.stage == pair[2].manifest.stage]
    return RunsReport(
        names=(_name(first, second), _name(second, first)),
        accuracy=tuple(_accuracy(*pair) for pair in pairs if _is(pair, VALIDATE)),
        latency=tuple(_latency(*pair) for pair in pairs if _is(pair, BENCHMARK)),
        figures=tuple(row for pair in pairs for row in _figures(*pair)),
        differing=tuple(row for row in _differing(pairs)),
        lineage=tuple(_origin(*pair) for pair in pairs),
        only=(
            tuple(name for name in runs[0] if name not in runs[1]),
            tuple(name for name in runs[1] if name not in runs[0]),
        ),
    )


def write_runs(path: Path, report: RunsReport, first: Path, second: Path) -> None:
    """Write a ``compare`` artifact of two runs. Errors: InputError where ``path`` exists."""
    parents = {
        f"{side}:{name}": stage.sha256
        for side, run in (("first", first), ("second", second))
        for name, stage in read_stages(run).items()
    }
    with artifact.create(path, "compare", parents=parents, options={}) as draft:
        draft.report = report.to_dict()


def read_stages(run: Path) -> dict[str, Artifact]:
    """The stages of a run by name: those in its ledger, or all where it has none."""
    found = {path.name: artifact.read(path) for path in artifact.stages_in(run)}
    noted = _noted(run / LEDGER)
    kept = {name: stage for name, stage in found.items() if noted is None or name in noted}
    if not kept:
        raise InputError(
            f"{run} holds no stages of a run",
            "Give what edgedense deploy, sweep or run-bundle wrote with -o.",
        )
    return kept


def _noted(ledger: Path) -> set[str] | None:
    try:
        stages = json.loads(ledger.read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return set(stages) if isinstance(stages, dict) else None


def _name(run: Path, other: Path) -> str:
    """The directory's name, with as much of its path as tells it from the other."""
    own, others = run.absolute(), other.absolute()
    return own.name if own.name != others.name else str(run)


def _is(pair: tuple[str, Artifact, Artifact], stage: str) -> bool:
    return pair[1].manifest.stage == stage


def _accuracy(name: str, first: Artifact, second: Artifact) -> AccuracyRow:
    reports = first.manifest.report, second.manifest.report
    dense = reports[0].get("task") == "segmentation"
    key = "miou" if dense else "top1"
    engines = [report.get("engine") or {} for report in reports]
    measured = read_measured(first), read_measured(second)
    same = same_images(measured[0].content, measured[1].content)
    return AccuracyRow(
        stage=name,
        metric="mIoU" if dense else "top-1",
        values=(engines[0].get(key), engines[1].get(key)),
        intervals=(engines[0].get(f"{key}_ci95"), engines[1].get(f"{key}_ci95")),
        drops_pp=(reports[0].get("drop_pp"), reports[1].get("drop_pp")),
        drop_intervals=(reports[0].get("drop_ci95"), reports[1].get("drop_ci95")),
        verdicts=(str(reports[0].get("verdict")), str(reports[1].get("verdict"))),
        between=difference(*measured) if same else None,
    )


def _latency(name: str, first: Artifact, second: Artifact) -> LatencyRow:
    reports = first.manifest.report, second.manifest.report
    medians = reports[0].get("p50_ms"), reports[1].get("p50_ms")
    devices = [(report.get("device") or {}).get("name") for report in reports]
    return LatencyRow(
        stage=name,
        p50_ms=medians,
        intervals=(reports[0].get("p50_ci95_ms"), reports[1].get("p50_ci95_ms")),
        speedups=(reports[0].get("speedup"), reports[1].get("speedup")),
        stable=(reports[0].get("stable"), reports[1].get("stable")),
        ratio=_ratio(*medians),
        same_device=devices[0] is not None and devices[0] == devices[1],
    )


def _figures(name: str, first: Artifact, second: Artifact) -> Iterator[FigureRow]:
    reports = first.manifest.report, second.manifest.report
    for figure in _FIGURES.get(first.manifest.stage, ()):
        values = _number(reports[0].get(figure)), _number(reports[1].get(figure))
        if values != (None, None):
            yield FigureRow(name, figure, values, _ratio(*values))


def _differing(pairs: list[tuple[str, Artifact, Artifact]]) -> Iterator[Differing]:
    seen: set[tuple[str, str]] = set()
    for name, first, second in pairs:
        yield from _unequal("option", name, first.manifest.options, second.manifest.options)
        devices = [stage.manifest.report.get("device") or {} for stage in (first, second)]
        if first.manifest.stage == BENCHMARK:
            yield from _unequal("device", name, *({**d, "load_1min": None} for d in devices))
        sides = first.manifest.environment, second.manifest.environment
        for row in _unequal("environment", name, *sides):
            # what is the same difference in every stage is told once
            key = (row.name, json.dumps(row.values, default=str))
            if key not in seen:
                seen.add(key)
                yield row


def _unequal(
    kind: Kind, stage: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[Differing]:
    one, other = _flat(first), _flat(second)
    for key in dict.fromkeys((*one, *other)):
        values = one.get(key, _ABSENT), other.get(key, _ABSENT)
        if values[0] != values[1]:
            yield Differing(kind, stage, key, values)


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{above}{key}"
        found |= _flat(inner, f"{name}.") if isinstance(inner, dict) else {name: inner}
    return found


def _origin(name: str, first: Artifact, second: Artifact) -> Origin:
    return Origin(
        stage=name,
        manifests=(first.sha256, second.sha256),
        same=_payload(first) == _payload(second),
        parents=(first.manifest.parents, second.manifest.parents),
    )


def _payload(stage: Artifact) -> dict[str, str]:
    """Hashes of the files, which say whether it came out the same: a manifest has times in it."""
    return {name: record.sha256 for name, record in stage.manifest.files.items()}


def _number(value: object) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if plain else None  # type: ignore[return-value]


def _ratio(first: float | None, second: float | None) -> float | None:
    return second / first if first and second is not None else None
