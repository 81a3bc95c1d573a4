"""What lint found in a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgedense.findings import SEVERITIES, Finding, Group, Severity, count, grouped


@dataclass(frozen=True)
class LintReport:
    """What was found in ``file``, worst first; ``target`` None means any TensorRT."""

    file: str
    target: str | None
    opset: int
    operators: int
    int8_operators: int
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Number of findings of one severity."""
        return count(self.findings, severity)

    @property
    def exit_code(self) -> int:
        """1 where there are errors, otherwise 0."""
        return 1 if self.count("error") else 0

    def groups(self) -> tuple[Group, ...]:
        """Findings of one kind together, worst kind first."""
        return grouped(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        counts = {f"{severity}s": self.count(severity) for severity in SEVERITIES}
        findings = [asdict(found) for found in self.findings]
        return asdict(self) | counts | {"findings": findings}
