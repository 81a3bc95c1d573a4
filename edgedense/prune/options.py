"""What is asked of the stage ``prune``, and what came out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from edgedense.errors import InputError
from edgedense.prune.groups import SCOPES, Scope
from edgedense.prune.select import WORDS, Cost

Method = Literal["reconstruct", "magnitude", "bn-scale", "taylor", "fpgm", "lamp", "random"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class PruneOptions:
    """How to prune.

    ``macs`` is the share of multiply-accumulates that may stay, above 0 and at most 1; where
    ``params`` is given, it is the share of parameters that may, and ``macs`` has no say; nor has
    either where ``latency_ms`` is given, milliseconds an image on ``target`` (a name in the targets
    table), as its data sheet predicts them or the file ``latency_table`` that was measured there,
    in INT8 where the target has it. ``method``
    None is ``reconstruct`` where there are calibration images, else ``magnitude``. ``align`` is the
    number of which kept widths are multiples (``finer``: of a half of it, a quarter, … for layers
    that have fewer than three such widths); ``iterations`` the steps in which to go there.
    ``reestimate_bn`` moves BN statistics as far as pruning did, for methods that do not solve
    layers again. At most ``images`` calibration images are used, drawn by class with ``seed``.
    Errors: InputError for values that cannot work.
    """

    macs: float = 0.7
    params: float | None = None
    method: Method | None = None
    scope: Scope = "auto"
    align: int = 8
    finer: bool = False
    iterations: int = 1
    reestimate_bn: bool = True
    images: int = 512
    batch_size: int = 64
    seed: int = 0
    latency_ms: float | None = None
    target: str | None = None
    latency_table: str | None = None

    def __post_init__(self) -> None:
        self._check_latency()
        if not 0 < self.share <= 1:
            raise InputError(
                f"--{self.of} {self.share:g} is no share of the {WORDS[self.of]}",
                "Give what may stay, above 0 and at most 1, such as 0.7.",
            )
        if self.scope not in SCOPES:
            raise InputError(f"--scope {self.scope}: unknown", f"Give one of {', '.join(SCOPES)}.")
        if self.method is not None and self.method not in METHODS:
            raise InputError(
                f"--method {self.method}: unknown", f"Give one of {', '.join(METHODS)}."
            )
        if self.align < 1:
            raise InputError(f"--align {self.align} is less than 1", "Give 1 or more, such as 8.")
        if self.iterations < 1:
            raise InputError(f"--iterations {self.iterations} is less than 1", "Give 1 or more.")
        if self.images < 1:
            raise InputError(f"{self.images} calibration images were asked", "Ask 1 or more.")
        if self.batch_size < 2:
            raise InputError(
                f"batch size is {self.batch_size}", "Statistics need 2 or more images at once."
            )

    def _check_latency(self) -> None:
        if self.latency_ms is None:
            if self.latency_table is not None:
                raise InputError(
                    "a latency table without a latency", "Give --latency-ms, or leave it away."
                )
            return
        if not (math.isfinite(self.latency_ms) and self.latency_ms > 0):
            raise InputError(
                f"--latency-ms {self.latency_ms:g} is no time", "Give milliseconds, such as 2.5."
            )
        if self.target is None:
            raise InputError(
                "--latency-ms needs the device", "Give --target NAME (see: edgedense targets)."
            )

    @property
    def of(self) -> Cost:
        """Of what the share is."""
        if self.latency_ms is not None:
            return "latency"
        return "macs" if self.params is None else "params"

    @property
    def share(self) -> float:
        """What may stay of the MACs or parameters."""
        return self.macs if self.params is None else self.params

    @property
    def asked(self) -> float:
        """What may stay: a share, or milliseconds."""
        return self.share if self.latency_ms is None else self.latency_ms

    @property
    def moves_bn(self) -> bool:
        """Whether BN statistics are re-estimated."""
        return self.reestimate_bn and self.method != "reconstruct"

    @property
    def needs_images(self) -> str:
        """The options for which calibration images are needed, in words; empty for none."""
        asking = [f"--method {self.method}"] if self.method in ("reconstruct", "taylor") else []
        return " and ".join(asking + ["--reestimate-bn"] * self.moves_bn)


@dataclass(frozen=True)
class GroupReport:
    """One convolution (its module path) and its output channels before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class LatencyReport:
    """Milliseconds an image on ``target`` before and after, in ``precision`` and ``placement``.

    ``basis`` says whose they are: ``predicted``, or ``from measured table``.
    """

    before_ms: float
    after_ms: float
    basis: str
    target: str
    precision: str
    placement: str


@dataclass(frozen=True)
class PruneReport:
    """What pruning gave.

    ``asked`` and ``share`` are of the MACs, or ``of`` the parameters or the latency, which is asked
    in milliseconds, and told in ``latency``; ``images`` is the number of
    calibration images that had a say; ``aligned_before`` and ``aligned_after`` count
    convolutions, of ``convs``, whose input and output channels are multiples of ``align``, and
    ``alignment_cost`` is the factor by which more is lost, by the losses that the channels were
    chosen by, than without alignment in the same budget.
    """

    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    seconds: float
    artifact: str
    asked: float
    of: Cost
    share: float
    scope: Scope
    method: Method
    align: int
    reestimated_bn: bool
    images: int
    convs: int
    aligned_before: int
    aligned_after: int
    alignment_cost: float | None
    groups: tuple[GroupReport, ...]
    latency: LatencyReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
