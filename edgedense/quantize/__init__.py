"""Post-training quantization to INT8: calibrate, place Q/DQ, check, export.

Rooms: ``observe`` (histograms), ``calibrate`` (the streaming pass), ``ranges`` (amax), ``place``
(where the pairs go), ``verify`` (the files compute what they should), ``stage`` (all of it).
"""

from edgedense.quantize.ranges import CALIBRATORS
from edgedense.quantize.stage import QuantizeOptions, QuantizeReport, draw_calibration, quantize

__all__ = ["CALIBRATORS", "QuantizeOptions", "QuantizeReport", "draw_calibration", "quantize"]
