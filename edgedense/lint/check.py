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
from edgedense.lint.rule import Hit, Rule
from edgedense.targets import Target

RULES: tuple[Rule, ...] = (
    *numbers.RULES,
    *precision.RULES,
    *placement.RULES,
    *structure.RULES,
)


def _for_cpu(file: File, device: Device) -> Iterator[Hit]:
    integer = [op for op in file.ops if op.kind.startswith("QLinear")]
    if integer and file.producer == "edgedense":
        yield Hit(integer[0], "", f"{integer[0].kind}, one of {len(integer)} such")


FOR_CPU = Rule(
    "cpu-file",
    "error",
    "This is the file of the cpu engine, in integer operators of ONNX Runtime that no TensorRT "
    "reads.",
    "Give int8.fp16.onnx or int8.fp32.onnx, which quantize writes beside it; or: --target cpu.",
    _for_cpu,
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
    rules = RULES if device.runs_tensorrt else tuple(rule for rule in RULES if rule.everywhere)
    if device.runs_tensorrt and any(FOR_CPU.find(file, device)):
        rules = (FOR_CPU,)  # the others would find its every operator
    for rule in rules:
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
