"""All rules on one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgedense.findings import Finding, worst_first
from edgedense.lint import numbers, placement, precision, structure
from edgedense.lint.device import Device
from edgedense.lint.file import File
from edgedense.lint.read import read_file
from edgedense.lint.report import LintReport
from edgedense.lint.rule import Rule
from edgedense.targets import Target

RULES: tuple[Rule, ...] = (
    *numbers.RULES,
    *precision.RULES,
    *placement.RULES,
    *structure.RULES,
)


def lint(path: Path, target: Target | None = None) -> LintReport:
    """Check the ONNX file ``path`` against every rule that holds for ``target`` (None: for any).

    Weights are not loaded, but where their values matter (FP16 overflow). Errors: InputError for
    a file that is no ONNX, truncated, or whose external data are missing.
    """
    file = read_file(path)
    device = Device(target)
    return LintReport(
        file=str(path),
        target=target.name if target else None,
        opset=file.opset,
        operators=len(file.ops),
        int8_operators=sum(file.is_int8(op) for op in file.weighted),
        findings=worst_first(_findings(file, device)),
    )


def _findings(file: File, device: Device) -> Iterator[Finding]:
    for rule in RULES:
        if not (rule.everywhere or device.runs_tensorrt):
            continue
        for hit in rule.find(file, device):
            yield Finding(
                rule=rule.name,
                severity=hit.severity or rule.severity,
                hazard=rule.hazard,
                node=(hit.op.name or hit.op.output) if hit.op else "",
                tensor=hit.tensor,
                op=hit.op.kind if hit.op else "",
                detail=hit.detail,
                remedy=rule.remedy,
            )
