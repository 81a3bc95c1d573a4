"""Bundles: a run as one file, which a device builds, measures and judges without torch.

``form`` says what may be in it, ``archive`` and ``seal`` write and distrust the file, ``pack``
makes it of a run, ``run`` proves it on the device.
"""

from edgedense.bundle.archive import Bundle, open_bundle
from edgedense.bundle.keys import KeyReport, new_key
from edgedense.bundle.pack import PackReport, pack
from edgedense.bundle.run import PlannedStage, RunBundleReport, plan_bundle, run_bundle
from edgedense.bundle.source import PackOptions
from edgedense.bundle.steps import Timing

__all__ = [
    "Bundle",
    "KeyReport",
    "PackOptions",
    "PackReport",
    "PlannedStage",
    "RunBundleReport",
    "Timing",
    "new_key",
    "open_bundle",
    "pack",
    "plan_bundle",
    "run_bundle",
]
