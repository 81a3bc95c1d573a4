"""What a user says about a checkpoint; importable without PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgedense.densenet.spec import Activation, Pool
from edgedense.errors import InputError


@dataclass(frozen=True)
class LoadOptions:
    """What a user may know better than a file tells; None leaves it to the file.

    ``ema`` takes the averaged weights. ``scheme`` is a name of ``recognise.NAMES``. ``activation``
    is what the original applied to its logits; ``eps`` that of its BNs; ``pool`` follows the
    convolutions of its transitions.
    """

    ema: bool = False
    scheme: str | None = None
    activation: Activation | None = None
    eps: float | None = None
    pool: Pool | None = None

    def __post_init__(self) -> None:
        if self.eps is not None and not (math.isfinite(self.eps) and 0 < self.eps < 1):
            raise InputError(f"eps is {self.eps:g}", "Give a small positive number, such as 1e-5.")


AS_FOUND = LoadOptions()
