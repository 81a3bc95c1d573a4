"""Benchmark: the latency distribution of an engine, alone or interleaved with another.

``measure`` and ``streams`` look at the clock, ``run`` is one measurement in one process, ``fresh``
has other processes do it, ``stage`` and ``sweep`` put runs together. ``report`` derives the
numbers and ``stability`` says whether they can be trusted; what is fast enough is judged by
validation's gates.
"""

from edgedense.benchmark.export import check_export, export_samples, write_report
from edgedense.benchmark.measure import measure, warm_up
from edgedense.benchmark.options import BenchmarkOptions
from edgedense.benchmark.plan import Plan, plan, sweep_plan
from edgedense.benchmark.report import BenchmarkReport, ComparisonReport
from edgedense.benchmark.stage import (
    benchmark,
    benchmark_fresh,
    compare,
    compare_all,
    compare_fresh,
)
from edgedense.benchmark.subject import Subject, engine_name, engine_subject, other_subject
from edgedense.benchmark.sweep import SweepReport, sweep
from edgedense.board import describe_device

__all__ = [
    "BenchmarkOptions",
    "BenchmarkReport",
    "ComparisonReport",
    "Plan",
    "Subject",
    "SweepReport",
    "benchmark",
    "benchmark_fresh",
    "check_export",
    "compare",
    "compare_all",
    "compare_fresh",
    "describe_device",
    "engine_name",
    "engine_subject",
    "export_samples",
    "measure",
    "other_subject",
    "plan",
    "sweep",
    "sweep_plan",
    "warm_up",
    "write_report",
]
