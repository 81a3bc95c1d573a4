"""What this machine is, which engines it can build and run, what is missing and what mends it.

Nothing heavy is imported and no GPU is opened: it only looks. ``machine`` has the facts, ``matrix``
what is known of JetPacks and TensorRT, ``problems`` and ``abilities`` what follows.
"""

from edgedense.doctor.abilities import NotHere, Remedy
from edgedense.doctor.diagnosis import Diagnosis, examine
from edgedense.doctor.machine import Gpu, Interpreter, parse_smi
from edgedense.doctor.problems import Ability, Problem

__all__ = [
    "Ability",
    "Diagnosis",
    "Gpu",
    "Interpreter",
    "NotHere",
    "Problem",
    "Remedy",
    "examine",
    "parse_smi",
]
