"""What TensorRT, in its versions and as TensorRT for RTX, has in common and where it differs.

This is the one place that knows versions: two tables of dialects. All else asks the dialect.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgedense.environment import require
from edgedense.errors import EdgedenseError, InputError, MachineError

RTX_MODULE = "tensorrt_rtx"


@dataclass(frozen=True)
class Dialect:
    """How one range of versions wants to be spoken to.

    ``typings`` are the ways of typing a network, best first, each with the flag that a network is
    created with for it: "strong" runs what the ONNX says, "weak" lets the builder choose among the
    precisions that builder flags allow. ``half_scales``: whether Q/DQ scales may be FP16 (8.x
    reads their bytes as FP32). ``progress_monitor``: whether a build tells how far it is.
    ``node_names``: whether a parser error names its node. ``memory_size`` is the engine's
    property that tells its activation memory in bytes.
    Of TensorRT for RTX alone: ``ahead_of_time``, engines built on a machine without that GPU, with
    compute capabilities to name, no timing cache, and kernels that are compiled when a context is
    made and may be kept in a runtime cache; ``own_graphs``, CUDA graphs that the runtime captures
    by itself.
    """

    versions: str
    typings: Mapping[str, str | None]
    half_scales: bool = True
    progress_monitor: bool = True
    node_names: bool = True
    memory_size: str = "device_memory_size_v2"
    ahead_of_time: bool = False
    own_graphs: bool = False


# fmt: off
_STRONG_OR_WEAK = {"strong": "STRONGLY_TYPED", "weak": None}
DIALECTS = (
    Dialect(">=8.6,<9", {"weak": "EXPLICIT_BATCH"}, half_scales=False, progress_monitor=False,
            node_names=False, memory_size="device_memory_size"),
    Dialect(">=10,<10.1", _STRONG_OR_WEAK, memory_size="device_memory_size"),
    Dialect(">=10.1,<11", _STRONG_OR_WEAK),
    Dialect(">=11", {"strong": None}),
)
# it counts its own versions
RTX_DIALECTS = (
    Dialect(">=1.1,<1.2", {"strong": None}, ahead_of_time=True),
    Dialect(">=1.2,<2", {"strong": None}, ahead_of_time=True, own_graphs=True),
)
# fmt: on


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
    return dialect_for(str(trt.__version__), rtx=trt.__name__ == RTX_MODULE)


def dialect_for(version: str, *, rtx: bool = False) -> Dialect:
    """The dialect of TensorRT ``version``, or of that version of TensorRT for RTX."""
    for dialect in RTX_DIALECTS if rtx else DIALECTS:
        if Version(version) in SpecifierSet(dialect.versions, prereleases=True):
            return dialect
    if rtx:
        raise MachineError(
            f"TensorRT for RTX {version} is not supported by edgedense",
            "It speaks 1.1 and later 1.x: pip install -U tensorrt-rtx-cu12",
        )
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
