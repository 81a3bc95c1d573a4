"""What a TensorRT engine became: which layer runs in which precision, and what stands around it.

Rooms: ``layers`` (one layer, as the inspector tells it), ``read`` (the inspector's JSON, every
TensorRT's), ``profile`` (times of layers), ``rules`` (findings), ``report`` (the sums),
``look`` (all of it). Nothing is deserialized: only JSON is read.
"""

from edgedense.insight.look import Source, look, open_source
from edgedense.insight.read import Inspected, read_layers
from edgedense.insight.report import InsightReport

__all__ = ["InsightReport", "Inspected", "Source", "look", "open_source", "read_layers"]
