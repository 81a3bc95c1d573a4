"""Benchmark: the latency distribution of an engine, alone or interleaved with another.

``measure`` looks at the clock, ``report`` derives the numbers; what is fast enough is judged by
validation's gates.
"""

from edgedense.benchmark.device import describe_device
from edgedense.benchmark.measure import measure, warm_up
from edgedense.benchmark.report import BenchmarkReport, ComparisonReport, write_report
from edgedense.benchmark.stage import BenchmarkOptions, benchmark, compare, compare_all

__all__ = [
    "BenchmarkOptions",
    "BenchmarkReport",
    "ComparisonReport",
    "benchmark",
    "compare",
    "compare_all",
    "describe_device",
    "measure",
    "warm_up",
    "write_report",
]
