"""What TensorRT will do with an ONNX file, ours or another's, told before an engine is built.

Rooms: ``file`` (an indexed view of the graph), ``read`` (ONNX to that view), ``device`` (TensorRT
versions of a target), ``rule`` (what a rule is), ``numbers``, ``placement`` (with ``scales``),
``structure`` and ``precision`` (the rules), ``report`` (findings), ``check`` (all of it).
"""

from edgedense.findings import Finding, Group, Severity
from edgedense.lint.check import RULES, lint
from edgedense.lint.report import LintReport

__all__ = ["RULES", "Finding", "Group", "LintReport", "Severity", "lint"]
