"""What a network's latency on a device will be: a roofline, or a table measured on the device.

``kernels`` is what an engine launches, ``roofline`` what each launch takes by the device's data
sheet, ``table`` what it takes by a measurement, ``predict`` their sum.
"""

from edgedense.latency.kernels import Form, Placement, Precision
from edgedense.latency.predict import LayerTime, Prediction, Predictor, predict
from edgedense.latency.table import LatencyTable, Row, RowKind, read_table

__all__ = [
    "Form",
    "LatencyTable",
    "LayerTime",
    "Placement",
    "Precision",
    "Prediction",
    "Predictor",
    "Row",
    "RowKind",
    "predict",
    "read_table",
]
