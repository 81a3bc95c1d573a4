from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedense.data import (
    PRESETS,
    Preprocess,
    batches,
    content_hashes,
    load_set,
    write_manifest,
)
from edgedense.errors import InputError

SMALL = Preprocess("small", (8, 8), None, (0.5,) * 3, (0.5,) * 3, "bilinear", "RGB")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def found(path: Path) -> list[tuple[str, int | None]]:
    return [(item.name, item.label) for item in load_set(path).items]


def test_csv_with_names(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", "path,label\nx/1.png,dog\n2.png,cat\n3.png,\n")
    assert found(path) == [("x/1.png", 1), ("2.png", 0), ("3.png", None)]
    images = load_set(path)
    assert images.class_names == ("cat", "dog")
    assert images.items[0].where == tmp_path / "x" / "1.png"


def test_csv_with_numbers_extra_columns_a_bom_and_loose_spacing(tmp_path: Path) -> None:
    text = '\ufeffPATH, id, Label \n"a, b.png", 7, 10\n\nc.png,8,2\n'
    path = written(tmp_path / "s.CSV", text)
    assert found(path) == [("a, b.png", 10), ("c.png", 2)]
    assert load_set(path).class_names == ()


def test_csv_where_one_label_is_a_name_has_names_only(tmp_path: Path) -> None:
    path = written(tmp_path / "s.csv", "path,label\na,10\nb,9\nc,x\n")
    assert load_set(path).class_names == ("10", "9", "x")
    assert found(path) == [("a", 0), ("b", 1), ("c", 2)]


def test_csv_without_labels(tmp_path: Path) -> None:
    assert found(written(tmp_path / "s.csv", "path\na.png\n")) == [("a.png", None)]


def test_root_overrides_the_manifest_folder(tmp_path: Path) -> None:
    text = manifest([{"path": "a.png"}], root="pictures")
    for path in (
        written(tmp_path / "s.csv", "path\na.png\n"),
        written(tmp_path / "s.json", text),
    ):
        assert load_set(path, tmp_path / "other").items[0].where == tmp_path / "other" / "a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("file,label\na,1\n", r"no column 'path' \(found: file, label\)"),
        ("path,label\n", "lists no images"),
        ("path,label\na.png\n", "line 2: path or label is missing"),
        ("path,label\na.png,1\n,2\n", "line 3: path or label is missing"),
        ("path,label\na.png,-1\n", "unknown label -1"),
        ("path,label\na.png,99999999999999999999\n", "unknown label 9999"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path / "s.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        load_set(path)
    assert str(path) in caught.value.what


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not readable CSV"):
        load_set(path)


def manifest(entries: object, **more: object) -> str:
    return json.dumps({"format": "edgedense-set/1", "images": entries, **more})


def test_json_with_everything(tmp_path: Path) -> None:
    text = manifest(
        [{"path": "1.png", "label": 1}, {"path": "2.png", "label": "a", "sha256": "0" * 64}],
        root="pictures",
        class_names=["b", "a"],
        preprocess="cifar10",
        seed=3,
        name="mine",
    )
    images = load_set(written(tmp_path / "s.json", text))
    assert [(i.where, i.label, i.sha256) for i in images.items] == [
        (tmp_path / "pictures" / "1.png", 1, None),
        (tmp_path / "pictures" / "2.png", 1, "0" * 64),
    ]
    assert images.class_names == ("b", "a")
    assert images.preprocess == PRESETS["cifar10"]


def test_json_list(tmp_path: Path) -> None:
    text = json.dumps([{"path": "1.png", "label": 4}, {"path": "2.png"}])
    assert found(written(tmp_path / "s.json", text)) == [("1.png", 4), ("2.png", None)]


ONE = [{"path": "a.png", "label": 0}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("3", "no format 'edgedense-set/1'"),
        ('{"images": []}', "no format"),
        (json.dumps({"format": "edgedense-set/2", "images": ONE}), "no format 'edgedense-set/1'"),
        (manifest(None), "no list 'images'"),
        (manifest([]), "lists no images"),
        (manifest(["a.png"]), r"images\[0\] has no path"),
        (manifest([*ONE, {"label": 1}]), r"images\[1\] has no path"),
        (manifest([{"path": 3}]), r"images\[0\]: path is 3"),
        (manifest([{"path": "a", "label": 1.5}]), r"images\[0\]: label is 1\.5"),
        (manifest([{"path": "a", "label": True}]), r"images\[0\]: label is True"),
        (manifest([{"path": "a", "sha256": "xyz"}]), r"images\[0\]: sha256 is 'xyz'"),
        (manifest([{"path": "a", "label": -1}]), "unknown label -1"),
        (manifest([{"path": "a", "label": 2}], class_names=["x", "y"]), "unknown label 2"),
        (manifest([{"path": "a", "label": "z"}], class_names=["x", "y"]), "unknown label 'z'"),
        (manifest([{"path": "a", "label": "z"}, {"path": "b", "label": 0}]), "unknown label 0"),
        (manifest(ONE, class_names="ab"), "class_names"),
        (manifest(ONE, class_names=["a", "a"]), "name twice"),
        (manifest(ONE, root=3), "root is 3"),
        (manifest(ONE, preprocess=3), "preprocess is 3"),
        (manifest(ONE, preprocess="imagnet"), "unknown preprocessing"),
        (manifest(ONE, preprocess={"mean": [0]}), "'name' is missing"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_set(written(tmp_path / "s.json", text))
    assert caught.value.remedy


def test_written_manifest_gives_the_same_set_back(tree: Any, tmp_path: Path) -> None:
    images = load_set(tree({"cat": 3, "dog": 2})).sample(4, 1)
    content = content_hashes(images, SMALL)
    path = tmp_path / "sets" / "calib.json"
    path.parent.mkdir()
    write_manifest(images, path, seed=1, preprocess=SMALL, content=content)
    raw = json.loads(path.read_text())
    assert (raw["name"], raw["root"], raw["seed"]) == ("calib", "../tree", 1)
    again = load_set(path)
    assert [(i.name, i.label) for i in again.items] == [(i.name, i.label) for i in images.items]
    assert [i.sha256 for i in again.items] == list(content)
    assert (again.class_names, again.preprocess) == (images.class_names, SMALL)
    assert content_hashes(again, SMALL) == content


def test_written_manifest_of_a_relative_set_and_of_one_class(
    tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree({"cat": 2})
    monkeypatch.chdir(tmp_path)
    images = load_set(Path("tree"))
    content = content_hashes(images, SMALL)
    write_manifest(images, Path("set.json"), seed=None, preprocess=SMALL, content=content)
    assert content_hashes(load_set(tmp_path / "set.json"), SMALL) == content


def test_manifest_with_a_changed_image_is_refused_when_read(tree: Any, tmp_path: Path) -> None:
    root = tree({"cat": 3})
    images = load_set(root)
    path = tmp_path / "set.json"
    content = content_hashes(images, SMALL)
    write_manifest(images, path, seed=0, preprocess=SMALL, content=content)
    shutil.copy(root / "cat" / "000.png", root / "cat" / "001.png")
    with pytest.raises(InputError, match=r"001\.png: its pixels are not those"):
        list(batches(load_set(path), SMALL, 2))


def test_images_of_an_array_cannot_be_written_down(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=np.zeros((1, 8, 8), np.uint8))
    images = load_set(tmp_path / "s.npz")
    with pytest.raises(InputError, match="inside an array"):
        write_manifest(images, tmp_path / "s.json", seed=0, preprocess=SMALL, content=["0" * 64])
    assert not (tmp_path / "s.json").exists()
