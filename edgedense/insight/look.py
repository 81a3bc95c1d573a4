"""All of it: an engine's artifact or a file of layers, and perhaps a profile."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgedense import artifact
from edgedense.artifact import INSPECTOR_FILE, PROFILE_FILE
from edgedense.engines.opening import STAGE
from edgedense.errors import InputError
from edgedense.insight.engine import Asked, Engine
from edgedense.insight.profile import read_profile
from edgedense.insight.read import read_layers
from edgedense.insight.report import InsightReport, summed

_PLANS = (".engine", ".plan", ".trt")


@dataclass(frozen=True)
class Source:
    """The inspector's JSON of an engine, and what the artifact around it knows."""

    name: str
    layers: bytes
    profile: bytes | None = None
    asked: Asked = field(default_factory=Asked)
    target: str | None = None
    runtime: str | None = None


def look(
    source: Source, profile: Path | None = None, nodes: frozenset[str] | None = None
) -> InsightReport:
    """What ran in which precision, and what stands in the way.

    ``profile`` is a file of times (trtexec --exportProfile), by default the artifact's own.
    ``nodes`` are names of the ONNX nodes that were to run in INT8. Errors: InputError where a file
    is not what it should be.
    """
    asked = Asked(source.asked.precision, source.asked.rest, nodes)
    times = source.profile if profile is None else _bytes(profile)
    name = str(profile or PROFILE_FILE)
    engine = Engine(
        inspected=read_layers(source.layers, source.name),
        asked=asked,
        times=read_profile(times, name) if times is not None else {},
    )
    return summed(engine, file=source.name, target=source.target, runtime=source.runtime)


def open_source(path: Path) -> Source:
    """An engine's artifact, or a file of JSON. Errors: InputError where it is neither."""
    if not artifact.is_artifact(path):
        if path.suffix.lower() in _PLANS:
            raise InputError(
                f"{path} is an engine, which is only opened where it runs",
                f"On the device: trtexec --loadEngine={path.name} --exportLayerInfo=layers.json "
                "--profilingVerbosity=detailed --skipInference",
            )
        return Source(str(path), _bytes(path))
    return _of(artifact.read(path))


def _of(engine: artifact.Artifact) -> Source:
    manifest = engine.manifest
    if manifest.stage != STAGE:
        raise InputError(
            f"{engine.path} is a {manifest.stage} artifact, not an engine",
            "Give an engine's artifact, or the JSON of trtexec --exportLayerInfo.",
        )
    if not engine.has(INSPECTOR_FILE):
        target = engine.fact("report", "target")
        raise InputError(
            f"{engine.path}: an engine for {target} that was built without looking into it (no "
            f"{INSPECTOR_FILE})",
            "Only TensorRT on its own device tells layers: build it there, or give the JSON of "
            "trtexec --exportLayerInfo --profilingVerbosity=detailed.",
        )
    report = manifest.report
    rest = manifest.options.get("rest")
    return Source(
        name=str(engine.path / INSPECTOR_FILE),
        layers=engine.data(INSPECTOR_FILE),
        profile=engine.data(PROFILE_FILE) if engine.has(PROFILE_FILE) else None,
        asked=Asked(_text(report.get("precision")), _text(rest) or "fp16"),
        target=_text(report.get("target")),
        runtime=_text(report.get("runtime_version")),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Check the path.") from error


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
