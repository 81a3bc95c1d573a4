"""Files that are damaged, or that want to run code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import outcome
from nets import tiny, trained
from torch import nn

from edgedense.densenet.checkpoints import load_model, save_weights
from edgedense.densenet.checkpoints.pickles import find_code
from edgedense.errors import InputError

FORMATS = ("zip", "legacy", "safetensors")


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


class Whole(nn.Module):
    """Somebody's own module, pickled with its class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)


def write(path: Path, form: str) -> None:
    network = trained(tiny((1, 1), 1, in_channels=1, bn_size=1))
    if form == "safetensors":
        save_weights(network, path)
    else:
        zipped = form == "zip"
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    paths = {form: folder / f"{form}.{form}" for form in FORMATS}
    for form, path in paths.items():
        write(path, form)
        load_model(path)
    return paths


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", ["raw", "zip", "legacy"])
def test_code_in_a_pickle_is_never_run(form: str, protocol: int, tmp_path: Path) -> None:
    target, path = tmp_path / "owned", tmp_path / "weights.pth"
    bad = {"state_dict": trained(tiny((1,), 1)).state_dict(), "extra": Bomb(target)}
    if form == "raw":
        path.write_bytes(pickle.dumps(bad, protocol=protocol))
    else:
        torch.save(
            bad,
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=form == "zip",
        )
    error = outcome(path)
    assert error is not None
    assert not target.exists()
    assert "refused unread, its pickle names code" in error.what
    assert "torch.save(model.state_dict()" in error.remedy
    # the bomb is one: whoever loads it the usual way is hit
    if form == "raw":
        pickle.loads(path.read_bytes())
        assert target.exists()


def test_a_pickled_module_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        torch.save(Whole(), path, _use_new_zipfile_serialization=zipped)
        error = outcome(path)
        assert error is not None
        assert "Whole" in error.what


def test_find_code_names_nothing_in_a_plain_state_dict(whole_files: dict[str, Path]) -> None:
    assert [find_code(path) for path in whole_files.values()] == [None] * 3


def test_find_code_reads_the_names_without_running_them(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": Bomb(tmp_path / "owned")}, protocol=4))
    assert "Path.touch" in str(find_code(path)) or "getattr" in str(find_code(path))
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert find_code(path) == "os.system"
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_says_so(
    form: str, share: float, whole_files: dict[str, Path], tmp_path: Path
) -> None:
    data = whole_files[form].read_bytes()
    path = tmp_path / whole_files[form].name
    path.write_bytes(data[: int(len(data) * share)])
    error = outcome(path)
    assert error is not None
    assert "truncated" in error.what
    assert "checksum" in error.remedy


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_no_cut_is_a_bug_or_a_network(
    form: str,
    data: st.DataObject,
    whole_files: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole = whole_files[form].read_bytes()
    path = tmp_path_factory.getbasetemp() / whole_files[form].name
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert outcome(path) is not None


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_no_damage_is_a_bug(
    form: str,
    data: st.DataObject,
    whole_files: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A changed byte inside a weight may pass as another weight; nothing may end in a traceback."""
    whole = bytearray(whole_files[form].read_bytes())
    places = st.integers(0, len(whole) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / whole_files[form].name
    path.write_bytes(whole)
    outcome(path)


def test_a_zip_that_this_zipfile_cannot_read(whole_files: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(whole_files["zip"].read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 6] = 200  # "version needed to extract" of the first entry
    data[entry + 46] ^= 1
    (tmp_path / "x.pth").write_bytes(data)
    assert zipfile.is_zipfile(tmp_path / "x.pth")
    assert find_code(tmp_path / "x.pth") is None
    outcome(tmp_path / "x.pth")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


@pytest.mark.parametrize(
    ("suffix", "what"), [(".onnx", "an ONNX file"), (".plan", "a TensorRT engine")]
)
def test_what_was_made_from_a_checkpoint_is_none(suffix: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(b"\x08\x09\x12\x09edgedense")
    with pytest.raises(InputError, match=what):
        load_model(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("data", "reason", "remedy"),
    [
        (b"", "an empty file", "Copy or download"),
        (b"\0", "or truncated", "checksum"),
        (
            b"not weights\n" * 400,
            "a text file (it begins with 'not weights')",
            "Give the file with",
        ),
        ("\u00e4".encode() * 4000 + b"\xff", "a text file", "Give the file with"),
        (b"a" + "\u00e4".encode() * 4000, "a text file", "Give the file with"),
        (b"\n <!DOCTYPE html><html>", "a web page", "Download the file itself"),
        (LFS, "a pointer of Git LFS", "git lfs pull --include x"),
        (b"words, then \0", "or truncated", "checksum"),
        (b"\x89PNG\r\n\x1a\n\0\0", "an image, no checkpoint", "Give the checkpoint"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "an image, no checkpoint", "Give the checkpoint"),
        (b"\x7fELF\2\1\1\0", "a program, no checkpoint", "Give the checkpoint"),
    ],
)
def test_files_that_are_no_checkpoint(
    data: bytes, reason: str, remedy: str, suffix: str, tmp_path: Path
) -> None:
    (tmp_path / f"x{suffix}").write_bytes(data)
    error = outcome(tmp_path / f"x{suffix}")
    assert error is not None
    assert reason in error.what
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("data", "reason", "remedy"),
    [
        (b"PK", "truncated: its zip archive has no end", "checksum"),
        (b"\x80\x02}", "a PyTorch checkpoint, truncated or damaged", "checksum"),
        (b"\x80\x05.", "saved with pickle_protocol=5", "without pickle_protocol"),
        (b"\x80\x09.", "truncated or damaged", "checksum"),
    ],
)
def test_pickles_and_archives_that_are_no_checkpoint(
    data: bytes, reason: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    error = outcome(tmp_path / "x.pth")
    assert error is not None
    assert reason in error.what
    assert remedy in error.remedy
    # the length of a safetensors header may look like the start of a pickle
    (tmp_path / "x.safetensors").write_bytes(data)
    error = outcome(tmp_path / "x.safetensors")
    assert error is not None
    assert "pickle_protocol" not in error.what


def test_archives_of_something_else_and_of_the_wrong_name(
    whole_files: dict[str, Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("weights.pth", b"inside")
    error = outcome(tmp_path / "x.pth")
    assert error is not None
    assert "a zip archive without a checkpoint" in error.what
    (tmp_path / "x.safetensors").write_bytes(whole_files["zip"].read_bytes())
    error = outcome(tmp_path / "x.safetensors")
    assert error is not None
    assert error.remedy == "Call it .pth."
