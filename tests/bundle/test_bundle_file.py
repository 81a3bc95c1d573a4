"""The file: what goes in comes out, and whatever was changed is refused before it is used."""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_bundles import (
    FILES,
    Entry,
    contents_of,
    entries_of,
    forge,
    small_sources,
    with_contents,
    write_small,
)

from edgedense.bundle import open_bundle, seal
from edgedense.bundle.archive import write_bundle
from edgedense.bundle.form import is_name
from edgedense.errors import DiskError, InputError

PARTS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
NAMES = st.one_of(
    PARTS.map("quantize/{}".format),
    PARTS.map("evaluation/{}".format),
    st.tuples(st.just("evaluation/images"), PARTS).map("/".join),
).filter(lambda name: name.casefold().rpartition("/")[2] not in ("manifest.json", "images"))
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=300), max_size=6).filter(
    lambda files: len({name.casefold() for name in files}) == len(files)
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_small(tmp_path / "small.edz", tmp_path / "from", FILES)


def refused(path: Path, **options: Any) -> InputError:
    """The error of a bundle that must not be used; it has a remedy."""
    with pytest.raises(InputError) as error, open_bundle(path, **options) as bundle:
        for stage in ("quantize", "evaluation"):
            bundle.extract(stage, path.parent / "out" / stage)
    assert error.value.remedy
    assert str(path) in error.value.what
    return error.value


@settings(max_examples=30, deadline=None)
@given(files=CONTENTS)
def test_what_is_packed_is_unpacked(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        contents, sources = small_sources(place / "from", files)
        write_bundle(place / "a.edz", contents, sources)
        write_bundle(place / "b.edz", contents, dict(reversed(sources.items())))
        assert (place / "a.edz").read_bytes() == (place / "b.edz").read_bytes()
        with open_bundle(place / "a.edz") as bundle:
            assert bundle.contents == contents
            for stage in ("quantize", "evaluation"):
                bundle.extract(stage, place / "out" / stage)
        found = {
            path.relative_to(place / "out").as_posix(): path.read_bytes()
            for path in (place / "out").rglob("*")
            if path.is_file()
        }
        assert found == {name: path.read_bytes() for name, path in sources.items()}


def test_every_byte_of_a_small_bundle_counts(small: Path) -> None:
    whole = small.read_bytes()
    seal.read_seal(io.BytesIO(whole), "whole")
    for offset in range(len(whole)):
        data = bytearray(whole)
        data[offset] ^= 1 << offset % 8
        with pytest.raises(InputError):
            seal.read_seal(io.BytesIO(data), "changed")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_or_a_lost_end_is_refused(packed: Path, data: st.DataObject) -> None:
    whole = packed.read_bytes()
    near_end = st.integers(len(whole) - 4 * seal.LENGTH, len(whole) - 1)
    offset = data.draw(st.one_of(st.integers(0, len(whole) - 1), near_end))
    changed = bytearray(whole)
    if data.draw(st.booleans()):
        changed[offset] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del changed[offset:]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "changed.edz").write_bytes(changed)
        refused(Path(folder) / "changed.edz")


def test_bytes_behind_the_end_are_refused(small: Path) -> None:
    small.write_bytes(small.read_bytes() + b"\n")
    assert "cut short or damaged" in refused(small).what


def zip_bomb(data: bytes) -> bytes:
    """Central directory and local header of the last file tell of 3 GB."""
    name = b"quantize/manifest.json"
    for signature, size_at in ((b"PK\x03\x04", 18), (b"PK\x01\x02", 20)):
        header = data.rindex(signature, 0, data.rindex(name) if size_at == 20 else data.index(name))
        at = header + size_at
        data = data[:at] + struct.pack("<II", 3 << 30, 3 << 30) + data[at + 8 :]
    return data


Change = Callable[[list[Entry]], list[Entry]]


def added(name: str) -> Change:
    return lambda entries: with_contents([*entries, (name, b"x")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (added("../evil"), "no place in a bundle"),
        (added("quantize/../../evil"), "no place in a bundle"),
        (added("/etc/evil"), "no place in a bundle"),
        (added("quantize\\evil"), "no place in a bundle"),
        (added("C:evil"), "no place in a bundle"),
        (added("quantize/a/b/c"), "no place in a bundle"),
        (added("quantize/.hidden"), "no place in a bundle"),
        (added("quantize/"), "no place in a bundle"),
        (added("evaluation/images"), "a file and a folder"),
        (added("quantize/INT8.onnx"), "twice"),
        (added("quantize/more"), "names other files"),
        (lambda entries: entries[:-1], "is not as bundle.json says"),
        (lambda entries: [*entries, entries[-1]], "twice"),
        (lambda entries: [*entries, ("quantize/x", b"x")], "is not as bundle.json says"),
        (lambda entries: entries[1:], "holds no bundle.json"),
        (lambda entries: with_contents(entries[:-1]), "holds no quantize artifact"),
        (lambda entries: [(n, d.replace(b"pixels", b"PIXELS")) for n, d in entries], "SHA-256"),
        (lambda entries: with_contents(entries, format="edgedense-bundle/2"), "of format 2"),
        (lambda entries: with_contents(entries, format="other/1"), "unknown format"),
        (lambda entries: with_contents(entries, files=[]), "damaged"),
        (lambda entries: with_contents(entries, files={"../x": {}}), "damaged"),
        (lambda entries: with_contents(entries, batch=[1, "2", 8]), "damaged"),
        (lambda entries: with_contents(entries, targets=[]), "damaged"),
        (lambda entries: with_contents(entries, targets=[["cpu"]]), "damaged"),
        (lambda entries: with_contents(entries, images=True), "damaged"),
        (lambda entries: with_contents(entries, more=1), "damaged"),
        (lambda entries: with_contents(entries, max_drop_pp="1"), "damaged"),
        (lambda entries: [(n, b"[" * 90000 if n == "bundle.json" else d) for n, d in entries], ""),
    ],
)
def test_a_forged_bundle_is_refused(small: Path, change: Change, said: str) -> None:
    forged = forge(small.with_name("forged.edz"), change(entries_of(small)))
    assert said in refused(forged).what
    assert not (small.parent / "evil").exists()
    out = small.parent / "out"
    assert not out.exists() or all(
        path.name in ("quantize", "evaluation") for path in out.iterdir()
    )


def test_gates_that_are_no_numbers_are_refused(small: Path) -> None:
    forged = forge(
        small.with_name("forged.edz"), with_contents(entries_of(small), max_drop_pp=float("nan"))
    )
    with pytest.raises(InputError), open_bundle(forged):
        pass


def test_links_compression_and_bombs_are_refused(small: Path) -> None:
    entries, forged = entries_of(small), small.with_name("forged.edz")
    link = {"quantize/int8.onnx": (0o120777 << 16, 3)}
    assert "no plain file" in refused(forge(forged, entries, attributes=link)).what
    windows = {"quantize/int8.onnx": (0, 0)}
    assert "no plain file" in refused(forge(forged, entries, attributes=windows)).what
    assert "is compressed" in refused(forge(forged, entries, compress=True)).what
    assert refused(forge(forged, entries, patch=zip_bomb)).what
    assert not (small.parent / "out").exists()


def test_the_forger_alone_is_not_what_is_refused(small: Path) -> None:
    again = forge(small.with_name("again.edz"), entries_of(small))
    assert again.read_bytes() == small.read_bytes()


def test_other_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "no edgedense bundle" in refused(foreign).what
    (tmp_path / "empty.edz").touch()
    assert "no edgedense bundle" in refused(tmp_path / "empty.edz").what
    assert "No such file" in refused(tmp_path / "none.edz").what
    assert "directory" in refused(tmp_path).what


def test_a_newer_seal_asks_for_a_newer_edgedense(small: Path) -> None:
    small.write_bytes(small.read_bytes().replace(b"bundle/1 ed25519", b"bundle/7 ed25519"))
    error = refused(small)
    assert "format 7" in error.what
    assert "newer edgedense" in error.remedy


@pytest.mark.parametrize("name", ["quantize/a", "evaluation/images/0.png", "quantize/_x-1.y"])
def test_names_that_may_be(name: str) -> None:
    assert is_name(name)


@given(st.text(max_size=20))
def test_no_other_name_leaves_its_folder(name: str) -> None:
    for candidate in (name, f"quantize/{name}"):
        if is_name(candidate):
            parts = candidate.split("/")
            assert parts[0] in ("quantize", "evaluation")
            assert not {"", ".", ".."} & set(parts)
            assert candidate.isascii()
            assert "\\" not in candidate


def test_nothing_stays_of_a_bundle_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, sources = small_sources(tmp_path / "from", FILES)
    sources["quantize/int8.onnx"].write_bytes(b"another")
    place = tmp_path / "out"
    with pytest.raises(InputError, match="changed while it was packed"):
        write_bundle(place / "b.edz", contents, sources)
    sources["quantize/int8.onnx"].write_bytes(FILES["quantize/int8.onnx"])
    for error, seen in ((OSError(28, "no space"), DiskError), (KeyboardInterrupt(),) * 2):
        monkeypatch.setattr(seal, "put_seal", raising(error))
        with pytest.raises(seen if isinstance(seen, type) else type(seen)):
            write_bundle(place / "b.edz", contents, sources)
    assert list(place.iterdir()) == []


def test_nothing_stays_of_an_artifact_that_could_not_be_unpacked(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run"
    with open_bundle(small) as bundle:
        for error, seen in ((OSError(28, "no space"), DiskError), (KeyboardInterrupt(),) * 2):
            with monkeypatch.context() as patched:
                patched.setattr(Path, "rename", raising(error))
                with pytest.raises(seen if isinstance(seen, type) else type(seen)):
                    bundle.extract("quantize", place / "quantize")
        assert list(place.iterdir()) == []
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
        with pytest.raises(DiskError, match=r"[\d,]+ kB free, but unpacking takes [1-9][\d,]* kB"):
            bundle.extract("quantize", place / "quantize")
    assert list(place.iterdir()) == []


def test_an_existing_file_is_not_replaced(small: Path, tmp_path: Path) -> None:
    contents, sources = small_sources(tmp_path / "again", FILES)
    before = small.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_bundle(small, contents, sources)
    assert small.read_bytes() == before


def test_the_archive_is_a_plain_zip(small: Path) -> None:
    with zipfile.ZipFile(small) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())
    with open_bundle(small) as bundle:
        assert contents_of(bundle)["quantize/int8.onnx"] == b"weights"


def raising(error: BaseException) -> Callable[..., None]:
    def stop(*_: object) -> None:
        raise error

    return stop
