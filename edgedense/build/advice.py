"""Where to go when this machine cannot build: the command for another one, and trtexec's line."""

from __future__ import annotations

import shlex
from pathlib import Path

from packaging.version import Version

from edgedense.build.options import BuildOptions
from edgedense.engines.runner import Interface
from edgedense.errors import MachineError
from edgedense.targets import TENSORRT, Target

USUAL_LEVEL = 3  # TensorRT's own


def cannot_build_here(
    why: str,
    source: Path,
    destination: Path,
    *,
    options: BuildOptions,
    target: Target,
    interface: Interface,
) -> MachineError:
    """The error for a machine that cannot build for ``target``, with the two ways out."""
    if target.hosts_edgedense:
        there = f"copy {source} to the {target.label} and run there: " + command(
            source.name, destination.name, options
        )
    else:
        name = source.name
        line = trtexec(name, "model.engine", options, target, version="8.2", interface=interface)
        there = f"copy {source} to the {target.label} and run there: {line}"
    here = (
        "rehearse here with --target cpu, or check that TensorRT takes the graph with "
        "--target rtx-ampere"
    )
    return MachineError(
        f"an engine for {target.name} is built on the {target.label}: {why}",
        f"(1) {there}  (2) {here}",
    )


def command(source: str, destination: str, options: BuildOptions) -> str:
    """The edgedense command that does on another machine what was asked here."""
    words = ["edgedense", "build-engine", source, "-o", destination]
    words += ["--target", options.target, "--precision", options.precision]
    words += ["--batch", ":".join(map(str, options.batch))]
    if options.rest:
        words += ["--rest", options.rest]
    if options.workspace_mib:
        words += ["--workspace", str(options.workspace_mib)]
    if options.timing_cache:
        words += ["--timing-cache", str(options.timing_cache)]
    if options.optimization_level != USUAL_LEVEL:
        words += ["--optimization-level", str(options.optimization_level)]
    return shlex.join(words)


def trtexec(
    source: str,
    engine: str,
    options: BuildOptions,
    target: Target,
    *,
    version: str,
    interface: Interface,
    strongly_typed: bool = True,
) -> str:
    """The trtexec line that builds the same engine with TensorRT ``version``.

    ``interface`` is the engine's: its input's name and shape are for the profile. Where a version
    has a choice, ``strongly_typed`` says what it is to be. trtexec 11 is strongly typed and has no
    words for typing or precision.
    """
    number = Version(version)
    old = number < Version("9")
    words = ["trtexec", f"--onnx={source}/{source_onnx(options, target, half_scales=not old)}"]
    words.append(f"--saveEngine={engine}")
    if old or not strongly_typed:
        words += [f"--{name}" for name in weak_precisions(options)]
        if interface.dtype == "float16":  # what may be built from an FP32 file, with FP32 ends
            words += ["--inputIOFormats=fp16:chw", "--outputIOFormats=fp16:chw"]
    elif number < Version("11"):
        words.append("--stronglyTyped")
    for word, batch in zip(("min", "opt", "max"), options.batch, strict=True):
        shape = "x".join(map(str, (batch, *interface.input_shape)))
        words.append(f"--{word}Shapes={interface.input_name}:{shape}")
    if options.workspace_mib:
        pool = "--workspace=" if number < Version("8.4") else "--memPoolSize=workspace:"
        words.append(f"{pool}{options.workspace_mib}")
    if options.timing_cache:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if options.optimization_level != USUAL_LEVEL and number >= Version("8.6"):
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    return shlex.join(words)


def source_onnx(options: BuildOptions, target: Target, *, half_scales: bool) -> str:
    """The payload to build from; where scales must be FP32, precision comes by builder flags."""
    if half_scales:
        return options.onnx_name(target)
    return "int8.fp32.onnx" if options.precision == "int8" else "fp32.onnx"


def weak_precisions(options: BuildOptions) -> tuple[str, ...]:
    """Precisions beside FP32 that a weakly typed build may use."""
    if options.precision == "int8":
        return ("int8",) if options.rest == "fp32" else ("fp16", "int8")
    return ("fp16",) if options.precision == "fp16" else ()


def version_note(target: Target, version: str) -> str | None:
    """A warning where ``version`` is not one that the target is known with; None where it is."""
    if target.backend != TENSORRT or target.versions.contains(Version(version), prereleases=True):
        return None
    return f"TensorRT {version} is outside {target.tensorrt}, known for the {target.label}"
