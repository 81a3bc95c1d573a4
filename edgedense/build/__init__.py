"""Build an engine for a target: ONNX Runtime, TensorRT, or TensorRT for RTX ahead of time."""

from edgedense.build.options import BuildOptions, BuildReport, BuiltEngine
from edgedense.build.stage import build_engine

__all__ = ["BuildOptions", "BuildReport", "BuiltEngine", "build_engine"]
