"""What is asked of the stage ``quantize``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgedense.errors import InputError
from edgedense.quantize.ranges import CALIBRATORS, Calibrator

Float = Literal["fp32", "fp16"]
Placement = Literal["conv", "block"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
Effort = Literal["fast", "default", "best"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize.

    ``placement`` says what is INT8: ``conv`` the inputs of all convolutions and of the classifier,
    ``block`` the concats too, each dense block's under one scale.
    ``effort`` is how much is done for accuracy: ``fast`` only what one pass over the images gives,
    ``default`` also migration, weights rounded for the layers' outputs and (``block``) one or two
    channels of a concat stored again, ``best`` all there is.
    ``images`` is the most calibration images used, drawn by class with ``seed``; ``percentile`` is
    for that calibrator only; ``rest`` is the type of everything that is not INT8 in the file meant
    for GPUs (with ``fp32`` no FP16 file is written), ``io`` the type of that file's input and
    output: with ``fp16`` it has no Cast at its ends. ``skip`` names convolutions to leave
    unquantized; ``int8_stem`` None quantizes the first convolution in ``conv`` and not in
    ``block`` (GPUs pad its few input channels to 32); ``float_concats`` dense blocks whose concat
    stays in floating point in ``block``. ``sensitivity`` asks what each quantized tensor costs, on
    ``sensitivity_images`` of the calibration images; ``max_drop_pp`` leaves the fewest layers
    unquantized that keep the loss of top-1 (segmentation: mean IoU) within so many percentage
    points.
    """

    calibrator: Calibrator = "mse"
    percentile: float = 99.999
    placement: Placement = "conv"
    effort: Effort = "default"
    rest: Float = "fp16"
    io: Float = "fp32"
    skip: tuple[str, ...] = ()
    int8_stem: bool | None = None
    images: int = 512
    seed: int = 0
    float_concats: tuple[str, ...] = ()
    sensitivity: bool = False
    sensitivity_images: int = 64
    max_drop_pp: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise InputError(
                f"--percentile {self.percentile:g} is not in 0 … 100", "Give one such as 99.99."
            )
        if self.placement not in PLACEMENTS:
            raise InputError(
                f"--placement {self.placement}: unknown", f"Use {' or '.join(PLACEMENTS)}."
            )
        if self.effort not in EFFORTS:
            raise InputError(f"--effort {self.effort}: unknown", f"Use {', '.join(EFFORTS)}.")
        if self.calibrator not in CALIBRATORS:
            raise InputError(
                f"--calibrator {self.calibrator}: unknown", f"Use {', '.join(CALIBRATORS)}."
            )
        if self.io == "fp16" and self.rest == "fp32":
            raise InputError(
                "--io fp16 with --rest fp32: only FP16 files can have FP16 ends, and none is "
                "written",
                "Leave --io away, or give --rest fp16.",
            )
        if self.float_concats and self.placement != "block":
            raise InputError(
                f"--float-concat {self.float_concats[0]}: with --placement {self.placement} no "
                "concat is in INT8",
                "Leave it away, or give --placement block.",
            )
        if self.sensitivity_images < 1:
            raise InputError(
                f"--sensitivity-images {self.sensitivity_images}: nothing to measure on",
                "Give some dozens.",
            )
        if self.max_drop_pp is not None and not 0 < self.max_drop_pp <= 100:
            raise InputError(
                f"--max-drop {self.max_drop_pp:g}: a budget is above 0 and at most 100 percentage "
                "points",
                "Give one such as 0.5; no number of images could show a drop of 0.",
            )
