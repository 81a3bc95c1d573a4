"""Bundles of a few bytes, and forged ones whose seal is right."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.artifact import FileRecord, Manifest
from edgedense.benchmark import BenchmarkOptions
from edgedense.bundle import Bundle, Timing, seal
from edgedense.bundle.archive import write_bundle
from edgedense.bundle.form import CONTENTS_FILE, Contents

QUICK = {"iterations": 20, "min_seconds": 0.0, "max_seconds": 0.2, "warmup_seconds": 0.0}
PLAIN = (0o100644 << 16, 3)
CONTENTS = Contents(("cpu",), "int8", "fp16", (1, 1, 8), "fp32", 5.0, None, 1, 1, 0)

FILES = {"quantize/int8.onnx": b"weights", "evaluation/images/000000.png": b"pixels"}

Entry = tuple[str, bytes]


def quick() -> Timing:
    return Timing(BenchmarkOptions(**QUICK), repeats=1)  # type: ignore[arg-type]


def small_sources(folder: Path, files: Mapping[str, bytes]) -> tuple[Contents, dict[str, Path]]:
    """Two artifacts of a few bytes: what ``write_bundle`` takes."""
    sources: dict[str, Path] = {}
    for stage in ("quantize", "evaluation"):
        mine = {n.partition("/")[2]: data for n, data in files.items() if n.startswith(stage)}
        (folder / stage).mkdir(parents=True)
        for name, data in mine.items():
            path = folder / stage / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        records = {name: record(data) for name, data in mine.items()}
        artifact.write_json(
            folder / stage / "manifest.json", asdict(Manifest(stage=stage, files=records))
        )
        for name in (*mine, "manifest.json"):
            sources[f"{stage}/{name}"] = folder / stage / name
    found = {name: record(path.read_bytes()) for name, path in sources.items()}
    return replace(CONTENTS, files=found), sources


def record(data: bytes) -> FileRecord:
    from hashlib import sha256

    return FileRecord(sha256(data).hexdigest(), len(data))


def write_small(path: Path, folder: Path, files: Mapping[str, bytes]) -> Path:
    contents, sources = small_sources(folder, files)
    write_bundle(path, contents, sources)
    return path


def entries_of(path: Path) -> list[Entry]:
    with zipfile.ZipFile(path) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def forge(
    path: Path,
    entries: Sequence[Entry],
    *,
    attributes: Mapping[str, tuple[int, int]] | None = None,
    compress: bool = False,
    patch: Callable[[bytes], bytes] = lambda data: data,
) -> Path:
    """A zip of any entries under a seal that is right: what an attacker can make."""
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        archive.comment = seal.PLACEHOLDER
        for name, data in entries:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.filename = name  # as it is, where zipfile would mend it
            entry.external_attr, entry.create_system = (attributes or {}).get(name, PLAIN)
            archive.writestr(entry, data, compress_type=kind)
    path.write_bytes(patch(stream.getvalue()))
    with path.open("r+b") as file:
        seal.put_seal(file, None)
    return path


def with_contents(entries: Sequence[Entry], **changed: Any) -> list[Entry]:
    """The entries with other values in ``bundle.json``; its files are those of the entries."""
    kept = [entry for entry in entries if entry[0] != CONTENTS_FILE]
    raw = json.loads(dict(entries)[CONTENTS_FILE])
    raw["files"] = {name: vars(record(data)) for name, data in kept}
    return [(CONTENTS_FILE, json.dumps(raw | changed).encode()), *kept]


def contents_of(bundle: Bundle) -> dict[str, bytes]:
    """Every file of a bundle's artifacts, by its name there."""
    return {entry.filename: bundle.archive.read(entry) for entry in bundle.archive.infolist()}
