"""Measure, on a device, the kernels that predictions of latency are summed up from."""

from edgedense.profiling.grid import Shape, shapes
from edgedense.profiling.stage import Plan, ProfileReport, plan, profile_target

__all__ = ["Plan", "ProfileReport", "Shape", "plan", "profile_target", "shapes"]
