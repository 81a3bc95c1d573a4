"""Post-training quantization to INT8: rewrite, calibrate, place Q/DQ, check, export.

Rooms: ``observe`` (histograms), ``calibrate`` (the streaming pass), ``ranges`` (amax), ``concats``
(what must share a scale), ``pixels``, ``migrate``, ``equalize`` with ``spans``, and ``fullrange``
(the exact rewrites), ``rounding`` (the weights' integers), ``prepare`` (these in their order),
``place`` (where the pairs go), ``forks`` and ``sensitivity`` (what each of them costs alone),
``labelled`` and ``budget`` (what must stay in floating point), ``choose`` (these where they are
asked), ``verify`` (the files compute what they should), ``options`` and ``stage`` (all of it).
"""

from edgedense.quantize.options import QuantizeOptions
from edgedense.quantize.ranges import CALIBRATORS
from edgedense.quantize.stage import QuantizeReport, draw_calibration, quantize

__all__ = ["CALIBRATORS", "QuantizeOptions", "QuantizeReport", "draw_calibration", "quantize"]
