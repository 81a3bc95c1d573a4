"""Artifacts: whole or not there at all, and verified whenever they are read."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedense import artifact
from edgedense.errors import InputError, MachineError

KEYS = {
    *("format", "stage", "parents", "files", "options", "report"),
    *("model", "interface", "preprocess", "environment"),
}


def write(path: Path, **files: bytes) -> artifact.Artifact:
    with artifact.create(path, "test", parents={"model": "0" * 64}, options={"n": 1}) as draft:
        for name, data in files.items():
            (draft.path / name).write_bytes(data)
        draft.report = {"seconds": 1.5}
    return artifact.read(path)


def test_a_manifest_has_the_agreed_keys(tmp_path: Path) -> None:
    made = write(tmp_path / "a", payload=b"abc", other=b"")
    raw = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert set(raw) == KEYS
    assert raw["format"] == "edgedense/1"
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert raw["files"]["payload"] == {"sha256": digest, "bytes": 3}
    assert {"edgedense", "python", "cpu", "packages", "seed"} <= set(raw["environment"])
    assert made.manifest.report == {"seconds": 1.5}
    assert made.sha256 == artifact.sha256_file(tmp_path / "a" / "manifest.json")


def test_payload_in_folders_is_recorded_too(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "a", "test", parents={}, options={}) as draft:
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "file").write_bytes(b"x")
    assert artifact.read(tmp_path / "a").file("deep/file").read_bytes() == b"x"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, MachineError])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_nothing_stays_behind_wherever_it_fails(
    failure: type[BaseException], after: int, tmp_path: Path
) -> None:
    destination = tmp_path / "deep" / "a"
    with (
        pytest.raises(failure),
        artifact.create(destination, "test", parents={}, options={}) as draft,
    ):
        for k in range(after):
            (draft.path / str(k)).write_bytes(b"x" * 1000)
        raise failure("in the middle")
    assert not [p for p in tmp_path.rglob("*") if p != destination.parent]


@pytest.mark.parametrize(
    "step", ["os.fsync", "edgedense.artifact.write_whole", "pathlib.Path.rename", "_records"]
)
@pytest.mark.parametrize(
    ("code", "kind"), [("ENOSPC", MachineError), ("EDQUOT", MachineError), ("EROFS", InputError)]
)
def test_a_disk_that_fails_in_the_end_leaves_nothing(
    step: str, code: str, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    place = f"edgedense.artifact.{step}" if step.startswith("_") else step
    monkeypatch.setattr(place, failing)
    with pytest.raises(kind):
        write(tmp_path / "a", payload=b"abc")
    assert list(tmp_path.iterdir()) == []


def test_an_unforeseen_disk_error_is_not_hidden(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="odd"),
        artifact.create(tmp_path / "a", "test", parents={}, options={}),
    ):
        raise OSError(errno.EIO, "odd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_what_exists_is_left_alone(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "a"
    make: dict[str, Callable[[], object]] = {
        "folder": place.mkdir,
        "file": place.touch,
        "link to nowhere": lambda: place.symlink_to("nowhere"),
    }
    make[kind]()
    status = place.lstat()
    with pytest.raises(InputError, match="exists already"):
        artifact.check_absent(place)
    with pytest.raises(InputError, match="exists already"):
        write(place, payload=b"abc")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert place.lstat() == status


@pytest.mark.parametrize("place", ["file/a", "file/deep/a", "x" * 300, "x" * 300 + "/a"])
def test_an_impossible_path_is_one_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError):
        write(tmp_path / place, payload=b"abc")
    assert [p.name for p in tmp_path.rglob("*")] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_parent_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write(tmp_path / "a", payload=b"abc")


def test_a_forbidden_parent_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(InputError, match="Permission denied") as caught:
        write(tmp_path / "a", payload=b"abc")
    assert "Choose a place" in caught.value.remedy


def race(path: Path, number: int, gate: object, results: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    try:
        with artifact.create(path, "test", parents={}, options={}) as draft:
            for k in range(20):
                (draft.path / str(k)).write_text(str(number))
            gate.wait()  # type: ignore[attr-defined]
        results.put("made")  # type: ignore[attr-defined]
    except InputError as error:
        results.put(error.what)  # type: ignore[attr-defined]


def test_of_parallel_writers_one_wins_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(3, timeout=60), context.Queue()
    arguments = [(tmp_path / "a", k, gate, results) for k in range(3)]
    processes = [context.Process(target=race, args=given) for given in arguments]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == [f"{tmp_path / 'a'} exists already"] * 2 + ["made"]
    made = artifact.read(tmp_path / "a")
    assert len({made.file(str(k)).read_text() for k in range(20)}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_killed_writer_does_not_block_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / f".a.partial-{os.getpid()}"
    leftover.mkdir()
    (leftover / "stale").write_text("old")
    made = write(tmp_path / "a", payload=b"abc")
    assert set(made.manifest.files) == {"payload"}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@given(st.binary(min_size=1, max_size=64), st.data())
@settings(max_examples=60, deadline=None)
def test_one_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, draw: st.DataObject
) -> None:
    made = write(tmp_path_factory.mktemp("changed") / "a", payload=data)
    place = draw.draw(st.integers(0, len(data) - 1))
    other = draw.draw(st.integers(0, 255).filter(lambda byte: byte != data[place]))
    path = made.file("payload")
    path.write_bytes(data[:place] + bytes([other]) + data[place + 1 :])
    with pytest.raises(InputError, match="SHA-256"):
        made.file("payload")


def test_a_missing_or_unlisted_payload_is_refused(tmp_path: Path) -> None:
    made = write(tmp_path / "a", payload=b"abc")
    (made.path / "guest").write_bytes(b"x")
    assert not made.has("guest")
    (made.path / "payload").unlink()
    for name in ("guest", "payload", "../a/payload"):
        with pytest.raises(InputError, match="is missing"):
            made.file(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": "edgedense/2"}', "format 'edgedense/2'"),
        ('{"stage": "test"}', "damaged"),
        ('{"format": "edgedense/1", "stage": "test", "fil', "damaged"),
        ('{"format": "edgedense/1", "stage": "test", "files": {}, "more": 1}', "damaged"),
        ('{"format": "edgedense/1", "stage": "test", "files": []}', "damaged"),
        ("[]", "damaged"),
        ("\xff", "damaged"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=said):
        artifact.read(tmp_path)


def test_what_is_no_artifact_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert not artifact.is_artifact(path)
        with pytest.raises(InputError, match="an artifact is wanted"):
            artifact.read(path)


def test_copies_are_verified(tmp_path: Path) -> None:
    source = write(tmp_path / "a", payload=b"abc")
    with artifact.create(tmp_path / "b", "test", parents={}, options={}) as draft:
        artifact.copy_files(source, ["payload"], draft)
    assert artifact.read(tmp_path / "b").file("payload").read_bytes() == b"abc"
    (source.path / "payload").write_bytes(b"abd")
    with (
        pytest.raises(InputError, match="SHA-256"),
        artifact.create(tmp_path / "c", "test", parents={}, options={}) as draft,
    ):
        artifact.copy_files(source, ["payload"], draft)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("place", ["/proc/none/of/this", "/proc/none"])
def test_a_place_where_nothing_can_be_made_is_one_sentence(place: str) -> None:
    with (
        pytest.raises(InputError, match="Choose a place"),
        artifact.create(Path(place), "q", parents={}, options={}),
    ):
        pass


def test_a_file_in_the_way_is_seen_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="Not a directory"):
        artifact.check_absent(tmp_path / "file" / "deep" / "er")
    artifact.check_absent(tmp_path / "new" / "deep")


def test_a_run_in_an_artifacts_place_names_its_stages(tmp_path: Path) -> None:
    (tmp_path / "engine-cpu").mkdir()
    (tmp_path / "engine-cpu" / artifact.MANIFEST).write_text("{}")
    with pytest.raises(InputError) as refused:
        artifact.read(tmp_path)
    assert f"It is a run; name one of: {tmp_path / 'engine-cpu'}" in refused.value.remedy
