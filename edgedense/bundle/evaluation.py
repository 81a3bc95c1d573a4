"""The evaluation images of a bundle as an artifact: what goes in, and reading it on the device."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from edgedense import __version__, artifact
from edgedense.artifact import Artifact, FileRecord, Manifest
from edgedense.bundle.form import EVALUATION
from edgedense.data import ImageSet, Item, Preprocess, content_hashes, load_set
from edgedense.data.decode import decoded
from edgedense.data.masks import CLASSES_FILE
from edgedense.engines.reference import RecordedReference
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

SET_FILE = "set.json"
_SET_FORMAT = "edgedense-set/1"


def stage_evaluation(
    images: ImageSet,
    content: tuple[str, ...],
    folder: Path,
    *,
    lossless: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Path]:
    """The files of the evaluation artifact (name in it: where it lies), as few written as may be.

    Image files are taken as they are; with ``lossless`` what they decode to is written as PNG, and
    so is what an array holds. ``content`` has one hash an image.
    """
    folder.mkdir(parents=True)
    sources: dict[str, Path] = {}
    entries = []
    for k, item in enumerate(progress.track(images.items, "collect images", len(images))):
        name, source = _image(images, item, k, folder, lossless=lossless)
        sources[name] = source
        if item.mask is not None:
            sources[f"masks/{k:06}{item.mask.suffix.lower()}"] = item.mask
        entries.append({"path": name, "label": item.label, "name": item.name, "sha256": content[k]})
    if not images.has_masks:
        listed = {"class_names": list(images.class_names), "images": entries}
        artifact.write_json(folder / SET_FILE, {"format": _SET_FORMAT, **listed})
        sources[SET_FILE] = folder / SET_FILE
    elif images.class_names:
        (folder / CLASSES_FILE).write_text("\n".join(images.class_names) + "\n", encoding="utf-8")
        sources[CLASSES_FILE] = folder / CLASSES_FILE
    manifest = Manifest(
        stage=EVALUATION,
        files={name: record_of(source) for name, source in sources.items()},
        report={"samples": len(images), "content": artifact.sha256_json(content)},
        environment={"edgedense": __version__},
    )
    artifact.write_json(folder / artifact.MANIFEST, asdict(manifest))
    return {**sources, artifact.MANIFEST: folder / artifact.MANIFEST}


def record_of(source: Path) -> FileRecord:
    """Hash and size of a file."""
    return FileRecord(artifact.sha256_file(source), source.stat().st_size)


def load_evaluation(evaluation: Artifact) -> ImageSet:
    """The images of an unpacked evaluation artifact, in the order in which they were packed."""
    listed = evaluation.has(SET_FILE)
    return load_set(evaluation.path / SET_FILE if listed else evaluation.path)


def check_images(
    images: ImageSet,
    preprocess: Preprocess,
    reference: RecordedReference,
    progress: Progress = SILENT,
) -> None:
    """Raise InputError unless the images decode here to the pixels that the reference saw.

    Decoders of lossy formats may differ between machines; that is found before anything is built.
    """
    known = frozenset(reference.content)
    plain = ImageSet(images.source, tuple(Item(i.where, i.label, i.name) for i in images.items))
    found = content_hashes(plain, preprocess, progress=progress, label="check images")
    for item, digest in zip(images.items, found, strict=True):
        if digest not in known:
            raise InputError(
                f"{item.where}: decodes to other pixels here than where the bundle was packed",
                "Pack it with --lossless, which stores the decoded pixels.",
            )


def _image(
    images: ImageSet, item: Item, k: int, folder: Path, *, lossless: bool
) -> tuple[str, Path]:
    """Name in the artifact and source of one image."""
    if isinstance(item.where, Path) and not lossless:
        return f"images/{k:06}{item.where.suffix.lower()}", item.where
    path = folder / "images" / f"{k:06}.png"
    path.parent.mkdir(exist_ok=True)
    array = np.asarray(decoded(images, item))
    grey = bool((array == array[..., :1]).all())
    with path.open("wb") as stream:
        Image.fromarray(array[..., 0] if grey else array).save(stream, format="PNG")
    return f"images/{path.name}", path
