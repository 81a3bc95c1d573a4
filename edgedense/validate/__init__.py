"""Validate: prove an engine against its FP32 reference on an evaluation set, and judge it.

``plan`` foresees, ``measure`` looks, ``judge`` decides, ``evidence`` stands beside, ``baseline``
remembers and ``regression`` holds against it; ``stage`` joins them, ``summary`` tells it.
"""

from edgedense.validate.baseline import (
    Baseline,
    Identity,
    Timing,
    baseline_of,
    identity_of,
    no_baseline,
    read_baseline,
    write_baseline,
)
from edgedense.validate.judge import Gates, Judgement, Verdict, combine, judge
from edgedense.validate.masks import measure_segmentation
from edgedense.validate.measure import Accuracy, Measurement, measure
from edgedense.validate.plan import Plan, plan
from edgedense.validate.regression import BaselineTolerance, compare_baseline, refuse_strangers
from edgedense.validate.report import ValidateReport, write_report
from edgedense.validate.segmentation import Segmentation, SegmentationMeasurement
from edgedense.validate.stage import ValidateOptions, validate
from edgedense.validate.summary import markdown

__all__ = [
    "Accuracy",
    "Baseline",
    "BaselineTolerance",
    "Gates",
    "Identity",
    "Judgement",
    "Measurement",
    "Plan",
    "Segmentation",
    "SegmentationMeasurement",
    "Timing",
    "ValidateOptions",
    "ValidateReport",
    "Verdict",
    "baseline_of",
    "combine",
    "compare_baseline",
    "identity_of",
    "judge",
    "markdown",
    "measure",
    "measure_segmentation",
    "no_baseline",
    "plan",
    "read_baseline",
    "refuse_strangers",
    "validate",
    "write_baseline",
    "write_report",
]
