"""What a build is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedense.errors import InputError
from edgedense.targets import AHEAD_OF_TIME_SMS, ONNXRUNTIME, Target, find_target

PRECISIONS = ("int8", "fp16", "fp32")


@dataclass(frozen=True)
class BuildOptions:
    """How to build an engine.

    ``batch`` is (min, opt, max). ``rest`` is the precision of what INT8 leaves alone; None means
    fp16 on a GPU, and on the CPU the file of integer operators in place of Q/DQ.
    ``workspace_mib`` bounds the memory of one layer while building (MiB; None: what the device
    has). ``timing_cache`` is read and written (classic
    TensorRT only): it makes a second build fast and its kernels the same. ``sms`` are the compute
    capabilities times ten that one engine is to serve (TensorRT for RTX only), in place of the
    target's.
    """

    target: str
    precision: str = "int8"
    batch: tuple[int, int, int] = (1, 1, 8)
    workspace_mib: int | None = None
    timing_cache: Path | None = None
    optimization_level: int = 3
    rest: str | None = None
    sms: tuple[int, ...] = ()

    def check(self) -> Target:
        """The target. Errors: InputError for options that cannot be, or that it cannot do."""
        target = self._narrowed(find_target(self.target))
        if self.precision not in PRECISIONS:
            raise InputError(
                f"there is no precision {self.precision!r}", f"Use one of {', '.join(PRECISIONS)}."
            )
        if self.rest not in (None, "fp16", "fp32"):
            raise InputError(f"--rest {self.rest!r} is not known", "Use fp16 or fp32.")
        if self.precision == "int8" and target.no_int8:
            raise InputError(
                f"INT8 is not built for the {target.label}: {target.no_int8}",
                "Build it with --precision fp16.",
            )
        if not (len(self.batch) == 3 and 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]):
            raise InputError(
                f"--batch {':'.join(map(str, self.batch))} is not an ascending MIN:OPT:MAX",
                "For example: --batch 1:1:8",
            )
        if not 0 <= self.optimization_level <= 5:
            raise InputError(
                f"--optimization-level {self.optimization_level} is not in 0..5", "3 is usual."
            )
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InputError(f"--workspace {self.workspace_mib} MiB is too small", "Try 1024.")
        if self.timing_cache and self.timing_cache.exists() and not self.timing_cache.is_file():
            raise InputError(f"{self.timing_cache} is not a file", "Name a file: --timing-cache F")
        return target

    def _narrowed(self, target: Target) -> Target:
        """``target`` with the GPUs that were asked for."""
        if not self.sms:
            return target
        told = ",".join(map(str, self.sms))
        if not target.ahead_of_time:
            raise InputError(
                f"--sm {told}: an engine for {target.name} is built on that very GPU",
                "Leave --sm out, or build ahead of time: --target rtx-any",
            )
        unknown = [sm for sm in self.sms if sm not in AHEAD_OF_TIME_SMS]
        if unknown or len(set(self.sms)) < len(self.sms):
            known = ", ".join(map(str, AHEAD_OF_TIME_SMS))
            raise InputError(f"--sm {told} cannot be built for", f"Use some of {known}, each once.")
        return replace(target, sms=self.sms)

    def onnx_name(self, target: Target) -> str:
        """The payload of a quantize artifact that these options build from."""
        if self.precision != "int8":
            return f"{self.precision}.onnx"
        usual = "cpu" if target.backend == ONNXRUNTIME else "fp16"
        return f"int8.{self.rest or usual}.onnx"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {
            "batch": list(self.batch),
            "timing_cache": str(self.timing_cache) if self.timing_cache else None,
            "sms": list(self.sms),
        }


@dataclass(frozen=True)
class BuiltEngine:
    """What a backend gives back after it wrote its payload.

    ``weights_bytes`` and ``activation_bytes`` (at the largest batch) are None where the runtime
    does not tell. ``strongly_typed`` is None where the word has no meaning. ``golden_sqnr_db`` is
    the SQNR in dB of its logits on the golden images against FP32; None where it was not run.
    """

    file: Path
    runtime_version: str
    weights_bytes: int | None = None
    activation_bytes: int | None = None
    layers: int | None = None
    strongly_typed: bool | None = None
    golden_sqnr_db: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BuildReport:
    """One built engine: sizes in bytes, time in seconds, paths as text.

    ``sms`` are the compute capabilities times ten that it is meant for. ``sm`` and ``gpu`` are
    those of the GPU that it was built on, ``tensorrt`` the version that it opens in and ``l4t`` the
    release of Linux for Tegra: None where there is none, or it was not asked.
    """

    engine: str
    backend: str
    target: str
    precision: str
    engine_bytes: int
    weights_bytes: int | None
    activation_bytes: int | None
    seconds: float
    artifact: str
    onnx: str
    batch: tuple[int, int, int]
    sms: tuple[int, ...]
    runtime_version: str
    layers: int | None
    strongly_typed: bool | None
    warnings: tuple[str, ...]
    trtexec: str | None
    golden_sqnr_db: float | None = None
    tensorrt: str | None = None
    sm: int | None = None
    gpu: str | None = None
    l4t: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
