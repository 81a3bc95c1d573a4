"""What is asked of the stage ``quantize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgedense.errors import InputError
from edgedense.quantize.ranges import CALIBRATORS, Calibrator

Float = Literal["fp32", "fp16"]
Placement = Literal["conv", "block"]
PLACEMENTS: tuple[str, ...] = get_args(Placement)


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize.

    ``placement`` says what is INT8: ``conv`` the inputs of all convolutions and of the classifier,
    ``block`` the concats too, each dense block's under one scale.
    ``images`` is the most calibration images used, drawn by class with ``seed``; ``percentile`` is
    for that calibrator only; ``rest`` is the type of everything that is not INT8 in the file meant
    for GPUs (with ``fp32`` no FP16 file is written); ``skip`` names convolutions to leave
    unquantized (``conv0`` is the stem).
    """

    calibrator: Calibrator = "mse"
    percentile: float = 99.999
    placement: Placement = "conv"
    rest: Float = "fp16"
    skip: tuple[str, ...] = ()
    images: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise InputError(
                f"--percentile {self.percentile:g} is not in 0 … 100", "Give one such as 99.99."
            )
        if self.placement not in PLACEMENTS:
            raise InputError(
                f"--placement {self.placement}: unknown", f"Use {' or '.join(PLACEMENTS)}."
            )
        if self.calibrator not in CALIBRATORS:
            raise InputError(
                f"--calibrator {self.calibrator}: unknown", f"Use {', '.join(CALIBRATORS)}."
            )
