"""What is asked of the stage ``prune``, and what came out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from edgedense.errors import InputError
from edgedense.prune.groups import SCOPES, Scope

Importance = Literal["magnitude", "bn-scale", "taylor"]
IMPORTANCES: tuple[str, ...] = get_args(Importance)


@dataclass(frozen=True)
class PruneOptions:
    """How to prune.

    ``macs`` is the share of multiply-accumulates that may stay, above 0 and at most 1; ``align``
    the number of which kept widths are multiples. ``reestimate_bn`` takes the BN statistics anew
    from calibration images: at most ``images`` of them, drawn by class with ``seed``.
    Errors: InputError for values that cannot work.
    """

    macs: float = 0.7
    scope: Scope = "auto"
    importance: Importance = "magnitude"
    align: int = 8
    reestimate_bn: bool = True
    images: int = 512
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.macs <= 1:
            raise InputError(
                f"--macs {self.macs:g} is no share of the multiply-accumulates",
                "Give what may stay, above 0 and at most 1, such as 0.7.",
            )
        if self.scope not in SCOPES:
            raise InputError(f"--scope {self.scope}: unknown", f"Give one of {', '.join(SCOPES)}.")
        if self.importance not in IMPORTANCES:
            raise InputError(
                f"--importance {self.importance}: unknown", f"Give one of {', '.join(IMPORTANCES)}."
            )
        if self.align < 1:
            raise InputError(f"--align {self.align} is less than 1", "Give 1 or more, such as 8.")
        if self.images < 1:
            raise InputError(f"{self.images} calibration images were asked", "Ask 1 or more.")
        if self.batch_size < 2:
            raise InputError(
                f"batch size is {self.batch_size}", "Statistics need 2 or more images at once."
            )

    @property
    def needs_images(self) -> str:
        """The options for which calibration images are needed, in words; empty for none."""
        asking = [f"--importance {self.importance}"] if self.importance == "taylor" else []
        return " and ".join(asking + ["--reestimate-bn"] * self.reestimate_bn)


@dataclass(frozen=True)
class GroupReport:
    """One convolution (its module path) and its output channels before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class PruneReport:
    """What pruning gave.

    ``asked`` and ``share`` are of the MACs; ``images`` is the number of calibration images that
    had a say; ``aligned_before`` and ``aligned_after`` count convolutions, of ``convs``, whose
    input and output channels are multiples of ``align``.
    """

    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    seconds: float
    artifact: str
    asked: float
    share: float
    scope: Scope
    importance: Importance
    align: int
    reestimated_bn: bool
    images: int
    convs: int
    aligned_before: int
    aligned_after: int
    groups: tuple[GroupReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
