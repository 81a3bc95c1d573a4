"""Handing an engine to a server: model repositories for NVIDIA Triton."""

from edgedense.serving.options import TritonOptions, TritonReport
from edgedense.serving.stage import export_triton

__all__ = ["TritonOptions", "TritonReport", "export_triton"]
