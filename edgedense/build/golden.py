"""The golden images that travel with an artifact: what a new engine makes of them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from edgedense.artifact import GOLDEN_FILE, Artifact
from edgedense.engines.runner import Floats, Interface, Runner
from edgedense.errors import InputError
from edgedense.stats.logits import logit_sqnr_db

# Below 20 dB the error is a tenth of the logits; the 10 bits of FP16 and TF32 give 40 dB and more.
FLOAT_DB = 20.0
# Where the error is 0.7 times the logits, no promise of the simulation can hold.
INT8_DB = 3.0
# An engine rounds elsewhere than the simulation; three times its error is another network.
MARGIN_DB = 10.0


@dataclass(frozen=True)
class Golden:
    """Images (N, channels, height, width) and the FP32 network's logits (N, *output_shape).

    ``promised_db`` is the SQNR that the stage ``quantize`` simulated for INT8, where it is known.
    """

    images: Floats
    logits: Floats
    promised_db: float | None = None


def load_golden(source: Artifact, interface: Interface) -> Golden | None:
    """The golden images of ``source``; None where it has none. Errors: InputError: damaged."""
    if not source.has(GOLDEN_FILE):
        return None
    try:
        with np.load(io.BytesIO(source.data(GOLDEN_FILE)), allow_pickle=False) as file:
            images, logits = (file[name].astype(np.float32) for name in ("images", "logits"))
        shapes = [(len(images), *interface.input_shape), (len(images), *interface.output_shape)]
        if [images.shape, logits.shape] != shapes:
            raise ValueError(f"shapes {images.shape} and {logits.shape}")
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{source.path / GOLDEN_FILE} is damaged ({error})", "Quantize again."
        ) from error
    promised = source.manifest.report.get("sqnr_db")
    return Golden(images, logits, promised if isinstance(promised, int | float) else None)


def golden_sqnr(runner: Runner, golden: Golden) -> float | None:
    """SQNR in dB of the engine's logits against the FP32 network's; None where all those are 0.

    Errors: InputError where the engine computes NaN or infinity.
    """
    logits = runner(golden.images)
    if not np.isfinite(logits).all():
        raise InputError(
            "the new engine computes NaN or infinity from the golden images",
            "Build it with --rest fp32 or --precision fp32: FP16 may be too narrow for it.",
        )
    return logit_sqnr_db(golden.logits, logits)


def golden_warnings(found: float | None, golden: Golden, precision: str) -> tuple[str, ...]:
    """What to say where an engine of ``precision`` is farther from FP32 than it ought to be."""
    if found is None:
        return ()
    wanted, why = FLOAT_DB, f"that {precision} gives at the least"
    if precision == "int8":
        wanted, why = INT8_DB, "that INT8 gives at the least"
        if golden.promised_db is not None and golden.promised_db - MARGIN_DB > wanted:
            wanted = golden.promised_db - MARGIN_DB
            why = f"which the simulation's {golden.promised_db:.1f} dB leave room for"
    if found >= wanted:
        return ()
    return (
        f"the engine's logits are {found:.1f} dB from FP32 on the golden images, less than the"
        f" {wanted:.1f} dB {why}: validate it before you use it",
    )
