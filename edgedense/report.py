"""A run's evidence as one JSON file and one Markdown page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.errors import InputError

REPORT_FORMAT = "edgedense-report/1"
REHEARSAL_NOTE = (
    "`cpu` is a rehearsal by ONNX Runtime on the machine named below: neither its accuracy nor its "
    "latency is the device's. Validate and benchmark again on the device."
)


def read_run(run: Path) -> dict[str, Any]:
    """Everything that a run directory proves, as plain JSON values.

    Errors: InputError where ``run`` holds no stages.
    """
    stages = {
        path.parent.name: artifact.read(path.parent)
        for path in sorted(run.glob(f"*/{artifact.MANIFEST}"))
        if not path.parent.name.startswith(".")
    }
    if not stages:
        raise InputError(
            f"{run} holds no stages of a run", "Give the directory that edgedense deploy wrote."
        )
    stages = _current(stages)
    return {
        "format": REPORT_FORMAT,
        "run": run.resolve().name,
        "verdicts": {
            name.removeprefix("validate-"): stage.manifest.report["verdict"]
            for name, stage in stages.items()
            if stage.manifest.stage == "validate"
        },
        "stages": {name: _stage(stage) for name, stage in stages.items()},
    }


def write_reports(found: dict[str, Any], run: Path, page: Path | None = None) -> tuple[Path, Path]:
    """Write ``RUN/report.json`` and the Markdown page; existing ones are replaced."""
    json_path, page_path = run / "report.json", page or run / "report.md"
    with artifact.disk_errors(page_path):
        page_path.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_json(json_path, found)
        artifact.write_whole(page_path, markdown(found).encode())
    return json_path, page_path


def markdown(found: dict[str, Any]) -> str:
    """The page: verdict first, then accuracy, latency, sizes and lineage."""
    stages = found["stages"]
    parts = [f"# edgedense: {found['run']}", _verdicts(stages), _accuracy(stages)]
    parts += [_latency(stages), _engines(stages), _compression(stages), _lineage(stages)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _current(stages: dict[str, Artifact]) -> dict[str, Artifact]:
    """Without what earlier options left behind: stages whose origin was replaced or left out."""
    kept = dict(stages)
    for kind, role, origin in _ORIGINS:
        made = {stage.sha256 for stage in kept.values() if stage.manifest.stage == origin}
        if any(stage.manifest.stage == origin for stage in stages.values()):
            kept = {
                name: stage
                for name, stage in kept.items()
                if stage.manifest.stage != kind or stage.manifest.parents.get(role) in made
            }
    used = {s.manifest.parents.get("model") for s in kept.values() if s.manifest.stage == QUANTIZE}
    return {
        name: stage
        for name, stage in kept.items()
        if stage.manifest.stage != "prune" or not used or stage.sha256 in used
    }


QUANTIZE, ENGINE = "quantize", "build-engine"
# a stage of the first kind was made from the third, which its parents hold by the second name
_ORIGINS = (
    (ENGINE, "model", QUANTIZE),
    ("benchmark", "engine", ENGINE),
    ("validate", "engine", ENGINE),
)


def _stage(stage: Artifact) -> dict[str, Any]:
    manifest = stage.manifest
    return {
        "stage": manifest.stage,
        "manifest_sha256": stage.sha256,
        "parents": manifest.parents,
        "files": {name: vars(record) for name, record in manifest.files.items()},
        "options": manifest.options,
        "report": manifest.report,
        "preprocess": manifest.preprocess,
        "environment": manifest.environment,
    }


def _of(stages: dict[str, Any], kind: str) -> dict[str, Any]:
    """Reports of the stages of one kind, by target or name."""
    return {
        name.removeprefix(f"{kind}-").removeprefix("engine-"): stage["report"]
        for name, stage in stages.items()
        if stage["stage"] == kind
    }


def _verdicts(stages: dict[str, Any]) -> str:
    lines = []
    for target, report in _of(stages, "validate").items():
        lines.append(f"**{target}: {report['verdict'].upper()}**")
        lines += [f"- {reason}" for reason in report["reasons"]]
    if not lines:
        return "No engine was validated on this machine."
    return "\n".join([*lines, "", REHEARSAL_NOTE])


def _accuracy(stages: dict[str, Any]) -> str:
    found = _of(stages, "validate")
    dense = any(report.get("task") == "segmentation" for report in found.values())
    key, name = ("miou", "mIoU") if dense else ("top1", "top-1")
    rows = []
    for target, report in found.items():
        reference = report["reference"] or {}
        drop = report["drop_ci95"]
        interval = f" ({drop[0]:.2f} to {drop[1]:.2f})" if drop else ""
        rows.append(
            [
                target,
                str(report["samples"]),
                _number(reference.get(key)),
                _number(report["engine"][key]),
                _number(report["drop_pp"]) + interval,
                _number(report["agreement"]),
                _number(report["logit_sqnr_db"], 1),
            ]
        )
    head = ["engine", "images", f"FP32 {name} %", f"engine {name} %", "drop pp (95 %)"]
    same = "same class, % of pixels" if dense else "same top-1 %"
    return _table("Accuracy", [*head, same, "logit SQNR dB"], rows)


def _latency(stages: dict[str, Any]) -> str:
    rows = []
    for target, report in _of(stages, "benchmark").items():
        named = [(f"{target} engine", report)]
        named += [(report["against"]["engine_name"], report["against"])] * ("against" in report)
        for name, row in named:
            figures = [_number(row[key]) for key in ("p50_ms", "p90_ms", "p99_ms")]
            stable = "yes" if row["stable"] else "no"
            rows.append([name, str(row["batch"]), *figures, stable])
        if "speedup" in report:
            low, high = report["speedup_ci95"]
            rows[-2].append(f"{report['speedup']:.2f}x ({low:.2f} to {high:.2f})")
            rows[-1].append("1")
    head = ["what", "batch", "p50 ms", "p90 ms", "p99 ms", "stable", "speed-up (95 %)"]
    return _table("Latency (copies included)", head, rows)


def _engines(stages: dict[str, Any]) -> str:
    rows = [
        [
            target,
            report["precision"],
            f"{report['backend']} {report['runtime_version']}",
            _megabytes(report["engine_bytes"]),
            _megabytes(report["weights_bytes"]),
            _megabytes(report["activation_bytes"]),
        ]
        for target, report in _of(stages, "build-engine").items()
    ]
    head = ["target", "precision", "built by", "engine MB", "weights MB", "activations MB"]
    return _table("Engines", head, rows)


def _compression(stages: dict[str, Any]) -> str:
    rows = []
    for report in _of(stages, "prune").values():
        share = report["macs_after"] / report["macs_before"]
        rows.append(["prune", f"MACs x{share:.3f}, {report['seconds']:.1f} s"])
    for report in _of(stages, "quantize").values():
        text = (
            f"placement {report['placement']}, range by {report['calibrator']} from "
            f"{report['images']} images, {report['seconds']:.1f} s"
        )
        rows.append(["quantize", text])
    return _table("Compression", ["stage", "what"], rows)


def _lineage(stages: dict[str, Any]) -> str:
    rows = [
        [name, stage["manifest_sha256"][:16], ", ".join(v[:16] for v in stage["parents"].values())]
        for name, stage in stages.items()
    ]
    environment = next(iter(stages.values()))["environment"]
    packages = ", ".join(f"{k} {v}" for k, v in environment["packages"].items() if v)
    machine = f"{environment['cpu']}, {environment['cores']} cores, {environment['platform']}"
    made = f"Made with edgedense {environment['edgedense']}, {packages}\non {machine}."
    return _table("Lineage (SHA-256)", ["stage", "manifest", "made from"], rows) + f"\n\n{made}"


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    cells = [[*row, *[""] * (len(head) - len(row))] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _megabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.2f}"
