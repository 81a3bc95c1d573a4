"""The same facts as a Markdown page, for terminals and code review."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from edgedense.report.commands import commands
from edgedense.report.engines import Engine, engines
from edgedense.report.facts import at, interval, items, mapping, number, text
from edgedense.report.html import clean
from edgedense.report.run import Raw
from edgedense.report.verdict import absent, headline, reasons
from edgedense.report.where import left_in_float
from edgedense.report.words import UNSTABLE, listed

REHEARSAL_NOTE = (
    "`cpu` is a rehearsal by ONNX Runtime on the machine named below: neither its accuracy nor its "
    "latency is the device's. Validate and benchmark again on the device."
)
_SPECIAL = re.compile(r"([\\`*|<>]|\](?=[(\[:]))")


def markdown(found: dict[str, Any], raw: Raw | None = None) -> str:
    """The page: verdict first, then accuracy, latency, sizes, lineage and commands."""
    stages = mapping(found, "stages")
    parts = [
        f"# edgedense: {inline(text(found, 'run'))}",
        _verdicts(found),
        _accuracy(stages),
    ]
    parts += [_latency(stages), _engines(stages), _compression(stages), _layers(stages)]
    parts += [_lineage(stages), _again(found, raw or Raw())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of(stages: dict[str, Any], kind: str) -> dict[str, Any]:
    """Reports of the stages of one kind, by target or name."""
    return {
        name.removeprefix(f"{kind}-").removeprefix("engine-"): mapping(stage, "report")
        for name, stage in stages.items()
        if text(stage, "stage") == kind
    }


def _verdicts(found: dict[str, Any]) -> str:
    known = engines(found)
    judged = [engine for engine in known if engine.judged]
    missing = [inline(said) for said in absent(found)]
    if not judged:
        return "\n\n".join(["No engine was validated on this machine.", *missing])
    parts = [_verdict(engine) for engine in judged if engine.verdict != "open"]
    if free := [engine.name for engine in judged if engine.verdict == "open"]:
        parts.append(f"No gate was set for {inline(listed(free))}.")
    parts.append(inline(headline(found, known).sentence))
    if any(engine.rehearsal for engine in judged):
        parts.append(REHEARSAL_NOTE)
    return "\n\n".join([*parts, *missing])


def _verdict(engine: Engine) -> str:
    lines = [f"**{inline(engine.name)}: {inline(engine.verdict.upper())}**"]
    return "\n".join([*lines, *(f"- {inline(reason)}" for reason in reasons(engine))])


def _accuracy(stages: dict[str, Any]) -> str:
    found = _of(stages, "validate")
    dense = any(text(report, "task") == "segmentation" for report in found.values())
    key, name = ("miou", "mIoU") if dense else ("top1", "top-1")
    rows = []
    for target, report in found.items():
        drop = interval(report, "drop_ci95")
        ends = f" ({drop[0]:.2f} to {drop[1]:.2f})" if drop else ""
        rows.append(
            [
                target,
                _number(number(report, "samples"), 0),
                _number(number(report, "reference", key)),
                _number(number(report, "engine", key)),
                _number(number(report, "drop_pp")) + ends,
                _number(number(report, "agreement")),
                _number(number(report, "logit_sqnr_db"), 1),
            ]
        )
    head = ["engine", "images", f"FP32 {name} %", f"engine {name} %", "drop pp (95 %)"]
    same = "same class, % of pixels" if dense else "same top-1 %"
    return _table("Accuracy", [*head, same, "logit SQNR dB"], rows)


def _latency(stages: dict[str, Any]) -> str:
    timed = dict(_of(stages, "benchmark"))
    for report in _of(stages, "latency").values():
        timed |= mapping(report, "points")
    rows = [row for target, report in timed.items() for row in _timed(target, report, len(timed))]
    head = ["what", "batch", "p50 ms", "p90 ms", "p99 ms", "stable", "speed-up (95 %)"]
    return _table("Latency (copies included)", head, rows)


def _timed(target: str, report: Any, count: int) -> Iterable[list[str]]:
    ends = interval(report, "speedup_ci95") or (0.0, 0.0)
    fast = number(report, "speedup")
    said = "" if fast is None else f"{fast:.2f}x ({ends[0]:.2f} to {ends[1]:.2f})"
    if said and Engine(target, timed=mapping({"timed": report}, "timed")).unstable_speedup:
        said += f", {UNSTABLE}"
    yield [*_percentiles(f"{target} engine", report), said]
    if (against := mapping(report, "against")) and count < 3:
        whole = "" if fast is None else "1"
        yield [*_percentiles(text(against, "engine_name"), against), whole]


def _percentiles(name: str, report: Any) -> list[str]:
    figures = [_number(number(report, key)) for key in ("p50_ms", "p90_ms", "p99_ms")]
    stable = {"True": "yes", "False": "no"}.get(str(at(report, "stable")), "-")
    return [name, _number(number(report, "batch"), 0), *figures, stable]


def _engines(stages: dict[str, Any]) -> str:
    rows = [
        [
            target,
            text(report, "precision"),
            f"{text(report, 'backend')} {text(report, 'runtime_version')}",
            _megabytes(number(report, "engine_bytes")),
            _megabytes(number(report, "weights_bytes")),
            _megabytes(number(report, "activation_bytes")),
        ]
        for target, report in _of(stages, "build-engine").items()
    ]
    head = ["target", "precision", "built by", "engine MB", "weights MB", "activations MB"]
    return _table("Engines", head, rows)


def _compression(stages: dict[str, Any]) -> str:
    rows = []
    for name, report in _of(stages, "prune").items():
        before, after = number(report, "macs_before"), number(report, "macs_after")
        share = after / before if before and after is not None else None
        said = f"MACs x{_number(share, 3)}, {_number(number(report, 'seconds'), 1)} s"
        rows.append([name, said])
    for name, report in _of(stages, "quantize").items():
        said = (
            f"placement {text(report, 'placement')}, range by {text(report, 'calibrator')} from "
            f"{_number(number(report, 'images'), 0)} images, "
            f"{_number(number(report, 'seconds'), 1)} s"
        )
        rows.append([name, said])
    return _table("Compression", ["stage", "what"], rows)


def _layers(stages: dict[str, Any]) -> str:
    """What is INT8, what is not and why, and how far what is not reaches."""
    rows = []
    for name, stage in stages.items():
        if text(stage, "stage") != "quantize":
            continue
        report = mapping(stage, "report")
        rows.append([name, f"{_number(number(report, 'quantized'), 0)} layers in INT8"])
        for kind, what, why in left_in_float(stage):
            rows.append([name, f"{kind} {what} in floating point" + (f": {why}" if why else "")])
        worst = items(report, "sensitivity", "worst")[:3]
        for row in worst:
            loss = _number(number(row, "sqnr_db"), 1)
            said = f"{text(row, 'kind')} {text(row, 'name')} alone: {loss} dB"
            rows.append([name, said])
    return _table("Layers by precision", ["stage", "what"], rows)


def _lineage(stages: dict[str, Any]) -> str:
    rows = [
        [
            name,
            text(stage, "manifest_sha256")[:16],
            ", ".join(str(v)[:16] for v in mapping(stage, "parents").values()),
        ]
        for name, stage in stages.items()
    ]
    environment = next((mapping(s, "environment") for s in stages.values()), {})
    packages = ", ".join(f"{k} {v}" for k, v in mapping(environment, "packages").items() if v)
    cores = _number(number(environment, "cores"), 0)
    machine = f"{text(environment, 'cpu')}, {cores} cores, {text(environment, 'platform')}"
    made = f"Made with edgedense {text(environment, 'edgedense')}, {packages}\non {machine}."
    return (
        _table("Lineage (SHA-256)", ["stage", "manifest", "made from"], rows)
        + f"\n\n{inline(made)}"
    )


def _again(found: dict[str, Any], raw: Raw) -> str:
    lines = commands(found, raw)
    if not lines:
        return ""
    body = clean("\n".join(lines))
    fence = "```"
    while fence in body:
        fence += "`"
    return f"## How to reproduce it\n\n{fence}\n{body}\n{fence}"


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    cells = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    body = [[inline(cell) for cell in row] for row in cells]
    lines = [head, ["---"] * len(head), *body]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def inline(told: str) -> str:
    """On one line, with nothing that Markdown or HTML would read as more than text."""
    return _SPECIAL.sub(r"\\\1", " ".join(clean(told).split()))


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f}"
