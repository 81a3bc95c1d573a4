"""Validate: prove an engine against its FP32 reference on an evaluation set, and judge it.

``measure`` looks, ``judge`` decides, ``baseline`` remembers; ``stage`` joins them.
"""

from edgedense.validate.baseline import (
    Baseline,
    BaselineTolerance,
    baseline_of,
    compare_baseline,
    no_baseline,
    read_baseline,
    write_baseline,
)
from edgedense.validate.judge import Gates, Judgement, Verdict, combine, judge
from edgedense.validate.masks import measure_segmentation
from edgedense.validate.measure import Accuracy, Measurement, measure
from edgedense.validate.report import ValidateReport, write_report
from edgedense.validate.segmentation import Segmentation, SegmentationMeasurement
from edgedense.validate.stage import ValidateOptions, validate

__all__ = [
    "Accuracy",
    "Baseline",
    "BaselineTolerance",
    "Gates",
    "Judgement",
    "Measurement",
    "Segmentation",
    "SegmentationMeasurement",
    "ValidateOptions",
    "ValidateReport",
    "Verdict",
    "baseline_of",
    "combine",
    "compare_baseline",
    "judge",
    "measure",
    "measure_segmentation",
    "no_baseline",
    "read_baseline",
    "validate",
    "write_baseline",
    "write_report",
]
