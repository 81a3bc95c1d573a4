"""What TensorRT, in its versions and as TensorRT for RTX, has in common and where it differs.

This is the one place that knows versions: a table of dialects. All else asks the dialect, or
probes for an attribute.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgedense.environment import require
from edgedense.errors import EdgedenseError, InputError, MachineError


@dataclass(frozen=True)
class Dialect:
    """How one range of versions wants to be spoken to.

    ``typings`` are the ways of typing a network, best first: "strong" runs what the ONNX says,
    "weak" lets the builder choose among the precisions that builder flags allow.
    ``half_scales``: whether Q/DQ scales may be FP16 (8.x reads their bytes as FP32).
    """

    versions: str
    network_flag: str | None
    typings: tuple[str, ...]
    half_scales: bool = True
    ahead_of_time: bool = False


RTX = Dialect(">=1", None, ("strong",), ahead_of_time=True)
DIALECTS = (
    Dialect(">=8.6,<9", "EXPLICIT_BATCH", ("weak",), half_scales=False),
    Dialect(">=10,<11", "STRONGLY_TYPED", ("strong", "weak")),
    Dialect(">=11", None, ("strong",)),
)


def load(module_name: str) -> Any:
    """Import ``tensorrt`` or ``tensorrt_rtx``. Errors: MachineError where that cannot be done."""
    require(module_name, "building or running this engine")
    try:
        return importlib.import_module(module_name)
    except (ImportError, OSError) as error:
        raise MachineError(
            f"{module_name} is installed but does not load: {error}",
            "Its native libraries are missing or of another version; see: edgedense doctor",
        ) from error


def dialect_of(trt: Any) -> Dialect:
    """The dialect of an imported module. Errors: MachineError for a version that has none."""
    if hasattr(trt, "ComputeCapability"):  # TensorRT for RTX counts its own versions from 1
        return RTX
    return dialect_for(str(trt.__version__))


def dialect_for(version: str) -> Dialect:
    """The dialect of classic TensorRT ``version``."""
    for dialect in DIALECTS:
        if Version(version) in SpecifierSet(dialect.versions, prereleases=True):
            return dialect
    raise MachineError(
        f"TensorRT {version} is not supported by edgedense",
        "It speaks 8.6, 10.x and 11.x: upgrade JetPack or TensorRT, or build with trtexec.",
    )


def data_type(trt: Any, dtype: str) -> Any:
    """TensorRT's name of ``float32`` or ``float16``."""
    return trt.DataType.HALF if dtype == "float16" else trt.DataType.FLOAT


@dataclass
class Journal:
    """Log lines of one builder or runtime, as TensorRT said them."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    news: list[str] = field(default_factory=list)

    def unique_warnings(self) -> tuple[str, ...]:
        """Warnings in order, each once: a builder repeats itself for every layer."""
        return tuple(dict.fromkeys(line.strip() for line in self.warnings))


def open_logger(trt: Any) -> tuple[Any, Journal]:
    """A TensorRT logger that prints nothing and writes into the returned journal.

    Beside a living runtime or builder with another logger, TensorRT warns, and classic versions may
    keep to the first one: then this journal stays empty. Close runners before building.
    """
    journal = Journal()
    kept = {
        trt.ILogger.INTERNAL_ERROR: journal.errors,
        trt.ILogger.ERROR: journal.errors,
        trt.ILogger.WARNING: journal.warnings,
        trt.ILogger.INFO: journal.news,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in kept:
                kept[severity].append(msg)

    return Logger(), journal


@dataclass(frozen=True)
class Symptom:
    """A text in TensorRT's log, what it means, and what mends it."""

    text: str
    error: type[EdgedenseError]
    what: str
    remedy: str


_REBUILD = "Build the engine again on this machine: edgedense build-engine."
SYMPTOMS = (
    Symptom("cudaError 35", MachineError, "there is no NVIDIA driver, or one too old for it",
            "Run this on a machine with an NVIDIA GPU and its driver; see: edgedense doctor"),
    Symptom("error: 35", MachineError, "there is no NVIDIA driver, or one too old for it",
            "Run this on a machine with an NVIDIA GPU and its driver; see: edgedense doctor"),
    Symptom("FP32 GEMM is not supported", InputError, "RTX Turing takes no FP32 matrix product",
            "Build with --precision fp16, or int8 with --rest fp16."),
    Symptom("Could not find any implementation for node", InputError,
            "this TensorRT has no kernel for a layer in the precision that the ONNX asks for",
            "Leave the stem unquantized (edgedense quantize --skip-stem), or --precision fp16."),
    Symptom("Build canceled", InputError, "the build was cancelled", "Start it again."),
    Symptom("out of memory", MachineError, "the device ran out of memory",
            "Lower --workspace or the maximum batch, close other programs, run without a desktop."),
    Symptom("Version tag does not match", MachineError,
            "the engine was built by another version of TensorRT", _REBUILD),
    Symptom("old deserialization call on a newer plan", MachineError,
            "the engine was built by a newer version of TensorRT", _REBUILD),
    Symptom("KTM assertion failure", MachineError, "the builder's timing model failed",
            "Use --optimization-level 3 or higher."),
    Symptom("is not supported by this TensorRT release", MachineError,
            "this TensorRT has no kernels for this GPU",
            "Install the TensorRT that belongs to the device's JetPack; see: edgedense doctor"),
)  # fmt: skip


def explain(lines: Iterable[str], otherwise: str) -> EdgedenseError:
    """The error that ``lines`` of TensorRT's log amount to; ``otherwise`` says what failed."""
    told = [" ".join(line.split()) for line in lines]
    for line in told:
        for symptom in SYMPTOMS:
            if symptom.text in line:
                return symptom.error(f"{otherwise}: {symptom.what} [{line[:300]}]", symptom.remedy)
    last = told[-1][:300] if told else "TensorRT gave no reason"
    return MachineError(f"{otherwise}: {last}", "See `edgedense doctor` for what this machine has.")
