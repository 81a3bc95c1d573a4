"""What a bundle is made from: a run of ``deploy``, or what ``quantize`` wrote."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.bundle.form import QUANTIZE, REHEARSAL, Contents
from edgedense.data import ImageSet, load_set
from edgedense.engines.opening import recorded_interface
from edgedense.engines.reference import (
    RecordedReference,
    check_classes,
    load_reference,
    require_labels,
)
from edgedense.errors import InputError
from edgedense.run import LEDGER, Run
from edgedense.targets import find_target

_EVAL = "Give the labelled images that it was judged with: --eval SET"


@dataclass(frozen=True)
class PackOptions:
    """What goes into a bundle; None: as the run was asked.

    ``against`` is the precision that the speed-up is measured against on the device (None: FP32
    where the run has it). ``images`` limits the evaluation images, drawn by class with ``seed``;
    ``lossless`` stores them as they decode here. ``sign`` is a secret key's file.
    """

    targets: tuple[str, ...] = ()
    precision: str | None = None
    batch: tuple[int, int, int] | None = None
    against: str | None = None
    max_drop_pp: float | None = None
    min_speedup: float | None = None
    images: int | None = None
    seed: int = 0
    lossless: bool = False
    sign: Path | None = None


@dataclass(frozen=True)
class Source:
    """A quantize artifact, and what the run around it was asked for (empty without a run)."""

    quantized: Artifact
    asked: dict[str, Any] = field(default_factory=dict)

    def reference(self) -> RecordedReference:
        """The FP32 logits that it carries. Errors: InputError where there are none."""
        if not self.quantized.has(artifact.REFERENCE_FILE):
            raise InputError(
                f"{self.quantized.path} carries no FP32 logits to judge by",
                "Record them: edgedense quantize MODEL -o DIR --calib SET --eval SET",
            )
        return load_reference(self.quantized.file(artifact.REFERENCE_FILE))

    def evaluation(self, given: Path | None) -> ImageSet:
        """The evaluation images: those given, or those of the run.

        Errors: InputError where neither tells them, or the network cannot be judged by them.
        """
        if given is None:
            if "evaluation" not in self.asked:
                raise InputError(f"{self.quantized.path}: no images to judge it by", _EVAL)
            given = Path(str(self.asked["evaluation"]))
            if not given.exists():
                raise InputError(f"{given}, where the run's images were, does not exist", _EVAL)
        images = load_set(given)
        require_labels(images)
        check_classes(recorded_interface(self.quantized), images)
        return images

    def contents(self, options: PackOptions, images: int, images_of: int) -> Contents:
        """What the bundle will say, without its files. Errors: InputError for what cannot be."""
        asked = options.targets or tuple(self.asked.get("targets", ()))
        targets = tuple(dict.fromkeys(find_target(name).name for name in asked))
        if not targets:
            raise InputError(
                f"{self.quantized.path} does not say for which device",
                "Give --target NAME; edgedense targets lists them.",
            )
        # the rehearsal is always possible, so it is only named where nothing else is
        targets = tuple(name for name in targets if name != REHEARSAL) or targets
        precision = options.precision or str(self.asked.get("precision", "int8"))
        batch = options.batch or tuple(self.asked.get("batch", (1, 1, 8)))
        least = self.asked.get("min_speedup")
        found = Contents(
            targets=targets,
            precision=precision,
            rest=str(self.quantized.manifest.options.get("rest", "fp16")),
            batch=(batch[0], batch[1], batch[2]),
            against=self._against(options.against, precision),
            max_drop_pp=_first(options.max_drop_pp, self.asked.get("max_drop_pp"), 1.0),
            min_speedup=options.min_speedup if options.min_speedup is not None else least,
            images=images,
            images_of=images_of,
            seed=options.seed,
        )
        self._check(found)
        return found

    def _against(self, asked: str | None, precision: str) -> str | None:
        if asked == "none":
            return None
        if asked is None:
            return "fp32" if precision != "fp32" and self.quantized.has("fp32.onnx") else None
        if asked == precision:
            raise InputError(
                f"--against {asked}: the engine itself has that precision",
                "Leave it away, or give another.",
            )
        return asked

    def _check(self, contents: Contents) -> None:
        contents.gates()
        if contents.min_speedup is not None and contents.against is None:
            raise InputError(
                "--min-speedup has nothing to be measured against",
                "Give --against fp32 or --against fp16, or leave it away.",
            )
        for name in contents.targets:
            target = find_target(name)
            if not target.hosts_edgedense:
                raise InputError(
                    f"{name} cannot run a bundle: {target.notes}",
                    "Build there with trtexec: edgedense build-engine prints the command.",
                )
            for precision in filter(None, (contents.precision, contents.against)):
                needed = contents.build(name, precision).onnx_name(target)
                if not self.quantized.has(needed):
                    raise InputError(
                        f"{self.quantized.path} holds no {needed}, which {name} would need",
                        "Quantize again, or choose another --precision or --against.",
                    )


def find_source(path: Path) -> Source:
    """The quantize artifact of a run, or the one that ``path`` is.

    Errors: InputError where ``path`` is neither.
    """
    if (path / LEDGER).is_file():
        run = Run(path)
        if artifact.is_artifact(path / QUANTIZE):
            return Source(artifact.read(path / QUANTIZE), run.asked)
        several = sorted(p.parent.name for p in path.glob(f"{QUANTIZE}-*/{artifact.MANIFEST}"))
        if several:
            raise InputError(
                f"{path} holds many networks", f"Give one of them: {path / several[0]} --eval SET"
            )
    if artifact.is_artifact(path):
        found = artifact.read(path)
        if found.manifest.stage == QUANTIZE:
            return Source(found)
        raise InputError(
            f"{path} is a {found.manifest.stage} artifact",
            "Give the run directory of edgedense deploy, or what edgedense quantize wrote.",
        )
    raise InputError(
        f"{path} is no run of edgedense deploy" + ("" if path.exists() else ": it does not exist"),
        "Make one: edgedense deploy MODEL --calib SET --eval SET --target NAME -o RUN",
    )


def part_of(reference: RecordedReference, content: tuple[str, ...]) -> RecordedReference:
    """The rows of these images alone, in their order."""
    rows = {digest: row for row, digest in enumerate(reference.content)}
    kept = [rows[digest] for digest in content]
    maps = reference.classes_map
    return replace(
        reference,
        content=content,
        labels=reference.labels[kept],
        logits=reference.logits if maps is not None else reference.logits[kept],
        classes_map=None if maps is None else maps[kept],
    )


def check_recorded(
    reference: RecordedReference, images: ImageSet, content: tuple[str, ...], source: Source
) -> None:
    """Raise InputError where an image has no reference logits, another label, or calibrated."""
    labels = set(zip(reference.content, reference.labels.tolist(), strict=True))
    known = frozenset(reference.content)
    calibrated = frozenset(artifact.calibration_content(source.quantized))
    for item, digest in zip(images.items, content, strict=True):
        if digest not in known:
            raise InputError(
                f"{item.name}: no FP32 logits were recorded for this image",
                "Give the --eval SET that the run was made with, or make it again with this one.",
            )
        if digest in calibrated:
            raise InputError(
                f"{item.name} was used for calibration too (same pixels)",
                "Give --eval images that the network never saw.",
            )
        if item.label is not None and not labels & {(digest, item.label), (digest, -1)}:
            raise InputError(
                f"{item.name} has the label {item.label}, but another one when FP32 was recorded",
                "Give the --eval SET with the classes that the run was made with.",
            )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
