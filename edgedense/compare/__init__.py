"""Two against each other: which of two engines to ship, or how two runs differ.

Rooms: ``paired`` (two engines on the same images), ``verdict`` (the rules), ``engines`` (measure on
this device), ``recorded`` (from what was measured elsewhere), ``report`` (what came out), ``runs``
(two run directories side by side).
"""

from edgedense.compare.engines import CompareOptions, compare_engines
from edgedense.compare.paired import Difference, difference
from edgedense.compare.recorded import compare_recorded
from edgedense.compare.report import Contender, VerdictReport, write_report
from edgedense.compare.runs import RunsReport, compare_runs, write_runs
from edgedense.compare.verdict import Decision, Terms, decide

__all__ = [
    "CompareOptions",
    "Contender",
    "Decision",
    "Difference",
    "RunsReport",
    "Terms",
    "VerdictReport",
    "compare_engines",
    "compare_recorded",
    "compare_runs",
    "decide",
    "difference",
    "write_report",
    "write_runs",
]
