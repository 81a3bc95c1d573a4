"""``pack``: a run becomes one file that proves itself on a device."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.bundle.archive import write_bundle
from edgedense.bundle.evaluation import record_of, stage_evaluation
from edgedense.bundle.form import EVALUATION, QUANTIZE, Contents
from edgedense.bundle.keys import signer
from edgedense.bundle.seal import Seal
from edgedense.bundle.source import (
    PackOptions,
    check_recorded,
    find_source,
    part_of,
)
from edgedense.data import ImageSet, Preprocess, content_hashes
from edgedense.engines.reference import RecordedReference, save_reference
from edgedense.progress import SILENT, Progress


@dataclass(frozen=True)
class PackReport:
    """What is in a bundle; sizes in bytes, gates as on the device, ``sha256`` its identity."""

    bundle: str
    bytes: int
    image_bytes: int
    images: int
    images_of: int
    targets: tuple[str, ...]
    precision: str
    against: str | None
    max_drop_pp: float | None
    min_speedup: float | None
    files: int
    sha256: str
    signed: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def pack(
    run: Path,
    bundle: Path,
    options: PackOptions | None = None,
    evaluation: Path | None = None,
    progress: Progress = SILENT,
) -> PackReport:
    """Pack a run of ``deploy``, or what ``quantize`` wrote, into the file ``bundle``.

    ``evaluation`` are the labelled images (None: those of the run). The same input gives the same
    bytes. Errors: InputError where ``bundle`` exists, the run lacks what the device needs, or an
    image was not judged by FP32, before anything is written.
    """
    started, options = time.perf_counter(), options or PackOptions()
    artifact.check_absent(bundle)
    if options.sign:
        signer(options.sign)  # before the work, not after
    source = find_source(run)
    whole = source.evaluation(evaluation)
    images = whole if options.images is None else whole.sample(options.images, options.seed)
    contents = source.contents(options, len(images), len(whole))
    preprocess = Preprocess.from_dict(source.quantized.manifest.preprocess)
    reference = source.reference()
    content = content_hashes(images, preprocess, progress=progress)
    check_recorded(reference, images, content, source)
    folder = bundle.parent / f".{bundle.name}.files-{os.getpid()}"
    try:
        with artifact.disk_errors(bundle):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            sources = {
                **_quantized(source.quantized, reference, content, folder / QUANTIZE),
                **_images(images, content, folder / EVALUATION, options.lossless, progress),
            }
            files = {name: record_of(path) for name, path in sources.items()}
            contents = replace(contents, files=files)
            sealed = write_bundle(bundle, contents, sources, sign=options.sign, progress=progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(bundle, contents, sealed, time.perf_counter() - started)


def _report(bundle: Path, contents: Contents, sealed: Seal, seconds: float) -> PackReport:
    files = contents.files
    return PackReport(
        bundle=str(bundle),
        bytes=bundle.stat().st_size,
        image_bytes=sum(r.bytes for name, r in files.items() if name.startswith(EVALUATION)),
        images=contents.images,
        images_of=contents.images_of,
        targets=contents.targets,
        precision=contents.precision,
        against=contents.against,
        max_drop_pp=contents.max_drop_pp,
        min_speedup=contents.min_speedup,
        files=len(files),
        sha256=sealed.sha256.hex(),
        signed=sealed.signature is not None,
        seconds=seconds,
    )


def _quantized(
    source: Artifact, reference: RecordedReference, content: tuple[str, ...], folder: Path
) -> dict[str, Path]:
    """The quantize artifact as it is, or with the logits of fewer images.

    Then its manifest is another one, which names the first as its parent.
    """
    files = {name: source.file(name) for name in source.manifest.files}
    manifest = source.path / artifact.MANIFEST
    if len(content) < len(reference.content):
        folder.mkdir()
        files[artifact.REFERENCE_FILE] = folder / artifact.REFERENCE_FILE
        save_reference(files[artifact.REFERENCE_FILE], part_of(reference, content))
        records = {**source.manifest.files}
        records[artifact.REFERENCE_FILE] = record_of(files[artifact.REFERENCE_FILE])
        parents = {**source.manifest.parents, QUANTIZE: source.sha256}
        made = replace(source.manifest, files=records, parents=parents)
        manifest = folder / artifact.MANIFEST
        artifact.write_json(manifest, asdict(made))
    return _inside(QUANTIZE, {**files, artifact.MANIFEST: manifest})


def _images(
    images: ImageSet,
    content: tuple[str, ...],
    folder: Path,
    lossless: bool,
    progress: Progress,
) -> dict[str, Path]:
    staged = stage_evaluation(images, content, folder, lossless=lossless, progress=progress)
    return _inside(EVALUATION, staged)


def _inside(stage: str, files: dict[str, Path]) -> dict[str, Path]:
    return {f"{stage}/{name}": path for name, path in files.items()}
