"""The export-triton stage: from an engine artifact to one model of a Triton model repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgedense import __version__, artifact
from edgedense.artifact import Artifact
from edgedense.engines.opening import STAGE as ENGINE_STAGE
from edgedense.engines.opening import recorded_interface
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.serving.config import LABELS_FILE, Backend, Model, as_parameter
from edgedense.serving.options import TritonOptions, TritonReport
from edgedense.targets import ONNXRUNTIME, TENSORRT, TENSORRT_RTX

STAGE = "export-triton"
VERSION = "1"  # of the model on the server: the directory that holds its file
CONFIG_FILE = "config.pbtxt"
# Triton refuses a backend under another platform than its own
_BACKENDS: Mapping[str, tuple[str, Backend]] = MappingProxyType(
    {
        TENSORRT: (
            "model.engine",
            Backend("tensorrt", "tensorrt_plan", "model.plan", "KIND_GPU"),
        ),
        ONNXRUNTIME: (
            "model.onnx",
            Backend("onnxruntime", "onnxruntime_onnx", "model.onnx", "KIND_CPU"),
        ),
    }
)


@dataclass(frozen=True)
class Plan:
    """A model that is ready to be written: its configuration, and the bytes that were checked."""

    source: Artifact
    model: Model
    data: bytes
    sha256: str
    labels: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the server must have that no configuration can say."""
        if self.model.backend.name != "tensorrt":
            return ()
        report = self.source.manifest.report
        return (
            f"the plan runs only where it was built for ({report['target']}) and under TensorRT "
            f"{report['runtime_version']}: take the Triton release that has this version",
        )

    def report(self, repository: Path, *, written: bool) -> TritonReport:
        """What is told of it."""
        model = self.model
        return TritonReport(
            name=model.name,
            repository=str(repository),
            artifact=str(repository / model.name) if written else None,
            backend=model.backend.name,
            file=f"{model.name}/{VERSION}/{model.backend.file}",
            engine_sha256=self.sha256,
            engine_bytes=len(self.data),
            max_batch_size=model.max_batch_size,
            preferred_batch_sizes=model.preferred_batch_sizes if model.max_batch_size > 1 else (),
            warmup_batch_sizes=model.warmup_batch_sizes,
            instances=model.instances,
            labels=len(self.labels),
            runtime_version=str(self.source.manifest.report["runtime_version"]),
            warnings=self.warnings,
            config=model.text(),
        )


def export_triton(
    source: Artifact, repository: Path, options: TritonOptions, *, dry_run: bool = False
) -> TritonReport:
    """Write an engine as the model ``options.name`` of a Triton model repository.

    ``repository`` may exist and hold other models; the model's directory must not. It is an
    artifact: ``config.pbtxt``, ``1/model.plan`` (or ``model.onnx``), ``labels.txt`` where there
    are labels, and a manifest, which Triton ignores. With ``dry_run`` nothing is written.
    Errors: InputError where this is no engine that Triton can run, its bytes were changed, the
    options do not fit its batch range, or the model exists already.
    """
    options.check()
    destination = repository / options.name
    _check_absent(destination)
    plan = _plan(source, options)
    found = plan.report(repository, written=not dry_run)
    if not dry_run:
        _write(plan, destination, options, found)
    return found


def _check_absent(destination: Path) -> None:
    if os.path.lexists(destination):
        raise InputError(
            f"{destination} exists already", "Choose another --name or -o, or remove it first."
        )
    artifact.check_absent(destination)


def _plan(source: Artifact, options: TritonOptions) -> Plan:
    payload, backend = _backend(source)
    interface = _servable(source)
    largest = _largest_batch(source, interface, options)
    data = source.data(payload)
    sha256 = source.manifest.files[payload].sha256
    optimum = min(interface.batch[1], largest) if interface.batch else largest
    model = Model(
        name=options.name,
        backend=backend,
        interface=interface,
        max_batch_size=largest,
        preferred_batch_sizes=tuple(n for n in sorted({optimum, largest}) if n > 1),
        warmup_batch_sizes=tuple(sorted({1, optimum, largest})),
        instances=options.instances,
        max_queue_delay_us=options.max_queue_delay_us,
        has_labels=bool(options.labels),
        parameters=_parameters(source, interface, sha256),
    )
    return Plan(source, model, data, sha256, _labels(options, interface))


def _backend(source: Artifact) -> tuple[str, Backend]:
    """The payload that is served and what runs it."""
    if source.manifest.stage != ENGINE_STAGE:
        raise InputError(
            f"{source.path} is a {source.manifest.stage} artifact, not an engine",
            "Build one: edgedense build-engine DIR -o ENGINE --target NAME",
        )
    name = source.fact("report", "backend")
    for needed in ("target", "precision", "runtime_version"):
        source.fact("report", needed)
    if name == TENSORRT_RTX:
        raise InputError(
            f"{source.path} is an engine of TensorRT for RTX, and Triton's TensorRT backend loads "
            "only those of TensorRT itself",
            "Build one on the serving machine: edgedense build-engine DIR -o ENGINE --target l4 "
            "(see: edgedense targets)",
        )
    if name not in _BACKENDS:
        raise InputError(f"{source.path}: unknown backend {name!r}", "Build the engine again.")
    return _BACKENDS[name]


def _servable(source: Artifact) -> Interface:
    """The recorded interface, its names and dimensions such as a configuration can hold."""
    interface = recorded_interface(source)
    named = all(map(_is_text, (interface.input_name, interface.output_name)))
    if not named or interface.layout != "NCHW" or len(interface.output_shape) not in (1, 3):
        raise InputError(
            f"{source.path}: the manifest's interface is damaged ({interface})",
            "Make the artifact again.",
        )
    return interface


def _is_text(name: str) -> bool:
    return bool(name) and not any("\ud800" <= c <= "\udfff" for c in name)


def _largest_batch(source: Artifact, interface: Interface, options: TritonOptions) -> int:
    """``max_batch_size``: Triton forms every batch from 1 to it, so the engine must take them."""
    if interface.batch is None:
        return options.max_batch or 1
    least, _, most = interface.batch
    if least > 1:
        raise InputError(
            f"{source.path} takes batches of {least} to {most}, but a server also forms batches "
            "of 1",
            f"Build it for them, as fast at {interface.batch[1]}: edgedense build-engine DIR "
            f"-o ENGINE --batch 1:{interface.batch[1]}:{most}",
        )
    largest = options.max_batch or most
    if largest > most:
        raise InputError(
            f"--max-batch {largest}: the engine takes at most {most}",
            f"Leave it away, or build the engine with --batch 1:{interface.batch[1]}:{largest}.",
        )
    if largest == 1 and options.max_queue_delay_us is not None:
        raise InputError(
            "--max-queue-delay-us is for filling batches, and this model's are of 1",
            "Leave it away, or build the engine with --batch 1:1:8.",
        )
    return largest


def _labels(options: TritonOptions, interface: Interface) -> tuple[str, ...]:
    """The labels. Errors: InputError where they are not those of the engine's classes."""
    names, classes = options.labels, interface.output_shape[0]
    if not names:
        return ()
    if len(interface.output_shape) != 1:
        raise InputError(
            "labels are for classifiers, and this engine answers for each pixel",
            "Leave --labels away.",
        )
    if len(names) != classes:
        raise InputError(
            f"{len(names)} labels, but the engine has {classes} classes",
            "Give one name for each class, in the order of the outputs.",
        )
    if any(not name.strip() or len(name.splitlines()) != 1 for name in names):
        raise InputError("a label is empty or longer than a line", "Name each class in one line.")
    return names


def _parameters(source: Artifact, interface: Interface, sha256: str) -> dict[str, str]:
    """What a client has to know, and what proves which engine this is; Triton passes it on."""
    report, preprocess = source.manifest.report, source.manifest.preprocess
    facts: dict[str, Any] = {
        "version": __version__,
        "engine_sha256": sha256,
        "manifest_sha256": source.sha256,
        "target": report["target"],
        "precision": report["precision"],
        "runtime": f"{report['backend']} {report['runtime_version']}",
        "layout": interface.layout,
        "activation": interface.activation,
        "preprocess": preprocess,
    }
    return {f"edgedense.{key}": as_parameter(value) for key, value in facts.items()}


def _write(plan: Plan, destination: Path, options: TritonOptions, found: TritonReport) -> None:
    with artifact.create(
        destination,
        STAGE,
        parents={"engine": plan.source.sha256},
        options=options.to_dict(),
        preprocess=plan.source.manifest.preprocess,
    ) as draft:
        folder = draft.path / VERSION
        folder.mkdir()
        (folder / plan.model.backend.file).write_bytes(plan.data)
        (draft.path / CONFIG_FILE).write_text(found.config, encoding="utf-8")
        if plan.labels:
            text = "".join(f"{name}\n" for name in plan.labels)
            (draft.path / LABELS_FILE).write_text(text, encoding="utf-8")
        draft.interface = plan.model.interface.to_dict()
        draft.model = dict(plan.source.manifest.model)
        draft.report = found.to_dict()
