"""Artifacts: directories with payload files and a manifest, whole or not there at all.

A stage writes its payload under a temporary name beside the destination; the manifest comes last,
then one rename. Reading verifies every file that it hands out against its recorded SHA-256, before
anything is parsed: an engine is executable code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgedense.environment import describe
from edgedense.errors import DiskError, InputError

FORMAT = "edgedense/1"
MANIFEST = "manifest.json"
# payload files that more than one stage writes or reads
WEIGHTS_FILE = "weights.safetensors"
GOLDEN_FILE = "golden.npz"  # a few images, and the FP32 logits of this artifact's network
# how many images it holds; the logits of a segmentation network have megabytes each
GOLDEN_IMAGES = {"classification": 8, "segmentation": 2}
CALIBRATION_FILE = "calibration.json"  # content hashes of the images that stages learned from
HISTOGRAMS_FILE = "histograms.npz"  # what calibration saw of each quantized value, to be drawn
INSPECTOR_FILE = "inspector.json"  # what each layer of a TensorRT engine became
PROFILE_FILE = "profile.json"  # how long each takes, as trtexec --exportProfile writes it
REFERENCE_FILE = "reference.npz"  # FP32 logits of an evaluation set


@dataclass(frozen=True)
class FileRecord:
    """One payload file: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds.

    ``parents`` maps a role (``model``, ``engine``, …) to the SHA-256 of that input: the manifest
    of an artifact, or the file of a checkpoint, or the contents of an image set.
    """

    stage: str
    parents: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    interface: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    format: str = FORMAT


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk, its manifest read."""

    path: Path
    manifest: Manifest
    sha256: str

    def file(self, name: str) -> Path:
        """Path of payload ``name``, after its bytes were checked against the manifest."""
        path, record = self._payload(name)
        if path.stat().st_size != record.bytes or sha256_file(path) != record.sha256:
            raise _changed(path)
        return path

    def data(self, name: str) -> bytes:
        """Bytes of payload ``name``: those that were checked are those that are returned."""
        path, record = self._payload(name)
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise _changed(path)
        return data

    def _payload(self, name: str) -> tuple[Path, FileRecord]:
        record, path = self.manifest.files.get(name), self.path / name
        if record is None or not path.is_file():
            raise InputError(f"{self.path}: payload {name} is missing", _REMAKE)
        return path, record

    def fact(self, section: str, key: str) -> Any:
        """``key`` of a manifest's ``section``; InputError where the manifest lacks it."""
        try:
            return getattr(self.manifest, section)[key]
        except (KeyError, TypeError) as error:
            place = f"{self.path / MANIFEST}: {section}.{key}"
            raise InputError(f"{place} is missing", _REMAKE) from error

    def has(self, name: str) -> bool:
        """Whether the manifest lists payload ``name``."""
        return name in self.manifest.files


_SECTIONS = ("options", "report", "model", "interface", "preprocess", "environment")
_REMAKE = "The file was changed or damaged after it was written: make the artifact again."


def _changed(path: Path) -> InputError:
    return InputError(f"{path}: contents differ from the manifest (SHA-256)", _REMAKE)


@dataclass
class Draft:
    """An artifact being written: put payload files into ``path``, then set ``report``."""

    path: Path
    report: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    interface: dict[str, Any] = field(default_factory=dict)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """What identifies a model or an engine: an artifact's manifest, or a checkpoint's bytes."""
    if not is_artifact(path) and not path.is_file():
        raise InputError(f"{path}: no such file or artifact", "Check the path.")
    return sha256_file(path / MANIFEST if is_artifact(path) else path)


def sha256_json(value: object) -> str:
    """SHA-256 of a value's canonical JSON text, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def is_artifact(path: Path) -> bool:
    """Whether ``path`` is an artifact directory."""
    return (path / MANIFEST).is_file()


def read(path: Path) -> Artifact:
    """Read an artifact's manifest. Errors: InputError where there is none, or of another format."""
    try:
        text = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise _no_artifact(path) from error
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise InputError(
                f"{path}: format {raw['format']!r}, but this edgedense reads {FORMAT!r}",
                "Make the artifact again with this version, or install the one that wrote it.",
            )
        for section in ("parents", "files", *_SECTIONS):
            if not isinstance(raw[section], dict):
                raise ValueError(f"{section} is no object")
        raw["files"] = {name: FileRecord(**record) for name, record in raw["files"].items()}
        manifest = Manifest(**raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path / MANIFEST} is damaged ({error})", _REMAKE) from error
    return Artifact(path, manifest, hashlib.sha256(text).hexdigest())


def stages_in(run: Path) -> list[Path]:
    """The artifacts in a run directory, sorted by name."""
    found = sorted(path.parent for path in run.glob(f"*/{MANIFEST}"))
    return [path for path in found if not path.name.startswith(".")]


def _no_artifact(path: Path) -> InputError:
    what = "is a file" if path.is_file() else f"holds no {MANIFEST}"
    wanted = (
        f"{path} {what if path.exists() else 'does not exist'}: an artifact is wanted, the "
        "directory that an edgedense command wrote with -o"
    )
    if stages := stages_in(path):
        return InputError(wanted, f"It is a run; name one of: {', '.join(map(str, stages))}")
    return InputError(wanted, "From a checkpoint: edgedense quantize MODEL -o DIR --calib SET")


def calibration_content(artifact: Artifact) -> tuple[str, ...]:
    """Content hashes of the images that an artifact's stages learned from; empty without any.

    Errors: InputError where the record is damaged.
    """
    if not artifact.has(CALIBRATION_FILE):
        return ()
    try:
        content = json.loads(artifact.data(CALIBRATION_FILE))["content"]
        if not (isinstance(content, list) and all(isinstance(one, str) for one in content)):
            raise ValueError("its content is no list of hashes")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{artifact.path / CALIBRATION_FILE} is damaged ({error})", _REMAKE
        ) from error
    return tuple(content)


def check_absent(path: Path) -> None:
    """Raise InputError where ``path`` exists or cannot be made: before the work, not after."""
    if os.path.lexists(path):  # a link to nowhere is in the way too
        raise _exists(path)
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise _bad_place(above, os.strerror(errno.ENOTDIR))
    if not os.access(above, os.W_OK | os.X_OK):
        raise _bad_place(above, os.strerror(errno.EACCES))


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True)
    except FileNotFoundError as error:  # such as in /proc
        raise _bad_place(directory.parent, error.strerror) from error


def _bad_place(path: Path | str, why: str | None) -> InputError:
    return InputError(f"{path}: {why}", "Choose a place that you may use.")


def _exists(path: Path) -> InputError:
    return InputError(f"{path} exists already", "Choose another -o, or remove it first.")


@contextlib.contextmanager
def create(
    path: Path,
    stage: str,
    *,
    parents: Mapping[str, str],
    options: Mapping[str, Any],
    preprocess: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Iterator[Draft]:
    """Write an artifact at ``path``: whole when the block ends well, else nothing stays behind.

    Errors: InputError where ``path`` exists; MachineError on a full or read-only disk.
    """
    check_absent(path)
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        with disk_errors(path):
            shutil.rmtree(partial, ignore_errors=True)
            _make(partial)
            draft = Draft(partial)
            yield draft
            manifest = Manifest(
                stage=stage,
                parents=dict(parents),
                files=_records(partial),
                options=dict(options),
                report=draft.report,
                model=draft.model,
                interface=draft.interface,
                preprocess=dict(preprocess or {}),
                environment=describe(seed),
            )
            write_json(partial / MANIFEST, asdict(manifest))
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON: whole, or what was there before stays."""
    write_whole(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file through to the disk under a temporary name, then rename it."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def copy_files(source: Artifact, names: Sequence[str], draft: Draft) -> None:
    """Copy payload files, verified, from another artifact into a draft."""
    for name in names:
        shutil.copyfile(source.file(name), draft.path / name)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk, or an impossible path, into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskError(
                f"the disk is full while writing {path}", "Free some space, or choose another -o."
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # another process was faster
            raise _exists(path) from error
        if error.errno in _BAD_PLACE:
            raise _bad_place(error.filename or path, error.strerror) from error
        raise


_BAD_PLACE = (
    *(errno.EACCES, errno.EROFS, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)


def _records(directory: Path) -> dict[str, FileRecord]:
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    return {
        p.relative_to(directory).as_posix(): FileRecord(sha256_file(p), p.stat().st_size)
        for p in files
    }
