"""The bundle as a file: a zip without compression, written always alike, read with distrust."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgedense import artifact
from edgedense.bundle import seal
from edgedense.bundle.form import CONTENTS_FILE, EVALUATION, PACK_AGAIN, QUANTIZE, Contents, is_name
from edgedense.bundle.keys import signer, verifier
from edgedense.errors import DiskError, InputError
from edgedense.progress import SILENT, Progress

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip can tell
_MODE = (stat.S_IFREG | 0o644) << 16
_UNIX = 3
_CHUNK = 1 << 20
_LARGEST_CONTENTS = 1 << 28
# what zipfile raises on archives that are damaged or written to do damage
_DAMAGED = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OverflowError),
    *(struct.error, EOFError, MemoryError),
)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose bytes were checked. ``sha256`` (hex) tells it from all others.

    ``signed`` is None without a signature, else whether a key was given and it is that key's.
    """

    path: Path
    contents: Contents
    sha256: str
    signed: bool | None
    archive: zipfile.ZipFile

    def extract(self, stage: str, destination: Path, progress: Progress = SILENT) -> None:
        """Unpack one artifact, each file held against its hash: whole, or nothing stays.

        Errors: InputError where a file or the artifact's manifest is not what the bundle promises;
        MachineError on a full disk.
        """
        names = _names_of(self.contents, stage)
        _check_space(destination, sum(self.contents.files[name].bytes for name in names))
        partial = destination.parent / f".{destination.name}.partial-{os.getpid()}"
        try:
            with artifact.disk_errors(destination):
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                for name in progress.track(names, f"unpack {stage}", len(names)):
                    self._extract(name, partial / name.partition("/")[2])
                self._check_artifact(stage, partial)
                partial.rename(destination)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def manifest_sha256(self, stage: str) -> str:
        """What identifies an artifact in the bundle."""
        return self.contents.files[f"{stage}/{artifact.MANIFEST}"].sha256

    def _extract(self, name: str, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256()
        try:
            with self.archive.open(name) as source, path.open("xb") as sink:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    sink.write(chunk)
        except _DAMAGED as error:
            raise InputError(f"{self.path}: {name} is damaged ({error})", PACK_AGAIN) from error
        if digest.hexdigest() != self.contents.files[name].sha256:
            raise InputError(f"{self.path}: {name} is not what was packed (SHA-256)", PACK_AGAIN)

    def _check_artifact(self, stage: str, folder: Path) -> None:
        """The artifact's own manifest must promise the same files."""
        promised = {
            name.partition("/")[2]: record
            for name, record in self.contents.files.items()
            if name in _names_of(self.contents, stage)
        }
        promised.pop(artifact.MANIFEST)
        found = artifact.read(folder).manifest
        if found.stage != stage or found.files != promised:
            raise InputError(
                f"{self.path}: the manifest of its {stage} names other files", PACK_AGAIN
            )


def write_bundle(
    path: Path,
    contents: Contents,
    sources: Mapping[str, Path],
    *,
    sign: Path | None = None,
    progress: Progress = SILENT,
) -> seal.Seal:
    """Write a bundle of ``sources`` (name in the bundle: file), the same bytes for the same input.

    It is written under a temporary name and renamed. Errors: InputError where ``path`` exists or a
    source has changed since ``contents`` was made; MachineError on a full disk.
    """
    key = signer(sign) if sign else None
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        with artifact.disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("x+b") as stream:
                with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                    archive.comment = seal.PLACEHOLDER
                    archive.writestr(_entry(CONTENTS_FILE), contents.to_bytes())
                    for name in progress.track(sorted(sources), "pack", len(sources)):
                        _store(archive, name, sources[name], contents)
                made = seal.put_seal(stream, key)
                stream.flush()
                os.fsync(stream.fileno())
            artifact.check_absent(path)
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return made


@contextlib.contextmanager
def open_bundle(
    path: Path, verify_key: Path | None = None, progress: Progress = SILENT
) -> Iterator[Bundle]:
    """A bundle, its bytes, its signature where a key is given, and its structure checked.

    Errors: InputError, before anything of it is used.
    """
    verify = verifier(verify_key) if verify_key else None
    try:
        stream = path.open("rb")
    except OSError as error:
        remedy = "Give the file that edgedense pack wrote."
        raise InputError(f"{path}: {error.strerror}", remedy) from error
    with stream:
        found = seal.read_seal(stream, str(path), progress)
        signed = _check_signature(found, verify, path, verify_key)
        try:
            archive = zipfile.ZipFile(stream)
        except _DAMAGED as error:
            raise InputError(f"{path} is no readable zip file ({error})", PACK_AGAIN) from error
        with archive:
            contents = _read_contents(archive, stream, path)
            yield Bundle(path, contents, found.sha256.hex(), signed, archive)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system, entry.external_attr = _UNIX, _MODE
    return entry


def _store(archive: zipfile.ZipFile, name: str, source: Path, contents: Contents) -> None:
    entry, record = _entry(name), contents.files[name]
    entry.file_size = record.bytes
    digest = hashlib.sha256()
    with source.open("rb") as stream, archive.open(entry, "w") as sink:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            sink.write(chunk)
    if digest.hexdigest() != record.sha256:
        raise InputError(f"{source} changed while it was packed", "Pack again.")


def _check_signature(
    found: seal.Seal,
    verify: Callable[[bytes, bytes], bool] | None,
    path: Path,
    key_path: Path | None,
) -> bool | None:
    if verify is None:
        return None if found.signature is None else False
    if found.signature is None:
        raise InputError(
            f"{path} is not signed, but --verify-key {key_path} was given",
            "Sign it where it is packed: edgedense pack RUN -o FILE --sign KEY",
        )
    if not verify(found.signature, seal.message(found.sha256)):
        raise InputError(
            f"{path} was not signed with the key of {key_path}",
            "Ask where the bundle comes from; do not run it.",
        )
    return True


def _read_contents(archive: zipfile.ZipFile, stream: BinaryIO, path: Path) -> Contents:
    entries = archive.infolist()
    _check_entries(entries, os.fstat(stream.fileno()).st_size, path)
    if not entries or entries[0].filename != CONTENTS_FILE:
        raise InputError(f"{path} holds no {CONTENTS_FILE}", PACK_AGAIN)
    if entries[0].file_size > _LARGEST_CONTENTS:
        raise InputError(f"{path}: its {CONTENTS_FILE} is too large", PACK_AGAIN)
    try:
        contents = Contents.from_bytes(archive.read(entries[0]), str(path))
    except _DAMAGED as error:
        raise InputError(f"{path} is no readable zip file ({error})", PACK_AGAIN) from error
    held = {entry.filename: entry.file_size for entry in entries[1:]}
    promised = {name: record.bytes for name, record in contents.files.items()}
    if held != promised:
        raise InputError(
            f"{path}: {_difference(held, promised)} is not as {CONTENTS_FILE} says", PACK_AGAIN
        )
    for stage in (QUANTIZE, EVALUATION):
        if f"{stage}/{artifact.MANIFEST}" not in promised:
            raise InputError(f"{path} holds no {stage} artifact", PACK_AGAIN)
    return contents


def _check_entries(entries: list[zipfile.ZipInfo], size: int, path: Path) -> None:
    """Refuse what no bundle has: foreign names, links, compression, the same twice, overlaps."""
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if name != CONTENTS_FILE and not is_name(name):
            raise InputError(f"{path}: the name {name[:80]!r} has no place in a bundle", PACK_AGAIN)
        if entry.external_attr != _MODE or entry.flag_bits or entry.create_system != _UNIX:
            raise InputError(f"{path}: {name} is no plain file", PACK_AGAIN)
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise InputError(f"{path}: {name} is compressed, as nothing in a bundle is", PACK_AGAIN)
        if name.casefold() in seen:
            raise InputError(f"{path}: {name} is in it twice", PACK_AGAIN)
        seen.add(name.casefold())
        size -= entry.file_size
    for folder in {name.rpartition("/")[0] for name in seen} & seen:
        raise InputError(f"{path}: {folder} is a file and a folder", PACK_AGAIN)
    if size < 0:
        raise InputError(f"{path} claims to hold more than it has (a zip bomb)", PACK_AGAIN)


def _difference(held: Mapping[str, int], promised: Mapping[str, int]) -> str:
    return min(name for name in {*held, *promised} if held.get(name) != promised.get(name))


def _names_of(contents: Contents, stage: str) -> list[str]:
    return sorted(name for name in contents.files if name.startswith(f"{stage}/"))


def _check_space(destination: Path, needed: int) -> None:
    above = next(folder for folder in destination.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise DiskError(
            f"{above} has {free // 1000:,} kB free, but unpacking takes {-(-needed // 1000):,} kB",
            "Free some space, or choose another -o.",
        )
