"""Bad input is normal input: one or two lines, the right exit code, nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

Call = Callable[..., Any]


@pytest.fixture
def refused(edgedense: Call, tmp_path: Path) -> Call:
    """Call, and hold that it ended in a short error, the same with --json, and wrote nothing."""

    def call(*words: object, code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        ended = edgedense(*words)
        assert ended.code == code, ended.err
        assert ended.out == ""
        assert len(ended.error) == 2, ended.err
        assert ended.error[1].startswith("  → ")
        assert "Traceback" not in ended.err
        told = json.loads(edgedense(*words, "--json").out)
        assert told["exit_code"] == code
        assert f"error: {told['error']}" == ended.error[0]
        assert sorted(tmp_path.rglob("*")) == before
        return "\n".join(ended.error)

    return call


def every_use(model: object, tiny: Any, out: Path) -> Iterator[list[object]]:
    """Each command that reads a checkpoint."""
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml, "-o", out]
    yield ["inspect", model]
    yield ["prune", model, *calib]
    yield ["quantize", model, *calib]
    yield ["deploy", model, "--eval", tiny.test, *calib]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint(share: float, tiny: Any, refused: Call, tmp_path: Path) -> None:
    data = tiny.checkpoint.read_bytes()
    bad = tmp_path / "bad.pth"
    bad.write_bytes(data[: int(share * len(data))])
    for words in every_use(bad, tiny, tmp_path / "out"):
        reason = "a PyTorch checkpoint, truncated" if share else "an empty file"
        assert f"bad.pth: {reason}" in refused(*words)


class Bomb:
    """Touches a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_a_pickle_with_code_is_not_run(
    form: str, tiny: Any, refused: Call, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    crater = tmp_path_factory.mktemp("crater") / "here"
    state = {**torch.load(tiny.checkpoint, weights_only=True), "bomb": Bomb(crater)}
    bad = tmp_path / "bad.pth"
    if form == "pickle":
        bad.write_bytes(pickle.dumps({"bomb": Bomb(crater)}))
    else:
        torch.save(state, bad, _use_new_zipfile_serialization=form == "torch")
    for words in every_use(bad, tiny, tmp_path / "out"):
        said = refused(*words)
        assert "refused unread, its pickle names code (posix.mkdir)" in said
        assert "torch.save(model.state_dict()" in said
    assert not crater.exists()


def test_a_resnet(tiny: Any, refused: Call, tmp_path: Path) -> None:
    state = {
        "conv1.weight": torch.zeros(64, 3, 7, 7),
        "bn1.weight": torch.zeros(64),
        "layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3),
        "layer1.0.bn1.running_mean": torch.zeros(64),
        "fc.weight": torch.zeros(1000, 512),
        "fc.bias": torch.zeros(1000),
    }
    torch.save(state, tmp_path / "resnet.pth")
    for words in every_use(tmp_path / "resnet.pth", tiny, tmp_path / "out"):
        assert "resnet.pth: not a DenseNet that edgedense knows" in refused(*words)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(
    value: float, tiny: Any, refused: Call, tmp_path: Path
) -> None:
    state = torch.load(tiny.checkpoint, weights_only=True)
    state["features.denseblock1.denselayer2.conv1.weight"][0, 0] = value
    torch.save(state, tmp_path / "bad.pth")
    for words in every_use(tmp_path / "bad.pth", tiny, tmp_path / "out"):
        assert "NaN or infinity in features.denseblock1.denselayer2.conv1.weight" in refused(*words)


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_a_folder_without_images(
    content: str | None, tiny: Any, made: Any, refused: Call, tmp_path: Path
) -> None:
    folder, out = tmp_path / "set", tmp_path / "out"
    folder.mkdir()
    if content:
        (folder / content).write_text("no image")
    known = ["--preprocess", tiny.toml]
    seen = content or "it is empty"
    for words in (
        ["prune", tiny.checkpoint, "-o", out, "--calib", folder, *known],
        ["quantize", tiny.checkpoint, "-o", out, "--calib", folder, *known],
        ["validate", made.engine, "--data", folder],
        ["deploy", tiny.checkpoint, "--calib", folder, "--eval", tiny.test, "-o", out, *known],
        ["deploy", tiny.checkpoint, "--calib", tiny.train, "--eval", folder, "-o", out, *known],
    ):
        said = refused(*words)
        assert f"no images in {folder}" in said
        assert seen in said


def test_an_image_that_is_text(tiny: Any, refused: Call, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.train, tmp_path / "set"))
    (folder / "red" / "000.png").write_text("no image")
    words = ["--calib", folder, "--preprocess", tiny.toml, "-o", tmp_path / "out"]
    assert "000.png is no image of a known format" in refused("quantize", tiny.checkpoint, *words)


@pytest.mark.parametrize(
    ("mode", "suffix", "share_of_right_answers"),
    # grey has no brightest channel: such images can be read, not told apart
    [("L", "png", 100 / 3), ("RGBA", "png", 100), ("CMYK", "tif", 100), ("I;16", "png", 100 / 3)],
)
def test_unusual_images_are_read(
    mode: str,
    suffix: str,
    share_of_right_answers: float,
    tiny: Any,
    made: Any,
    edgedense: Call,
    tmp_path: Path,
) -> None:
    for path in tiny.test.rglob("*.png"):
        with Image.open(path) as image:
            if mode == "I;16":
                wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
                unusual = Image.fromarray(wide)
            else:
                unusual = image.convert(mode)
            assert unusual.mode == mode
        folder = tmp_path / path.parent.name
        folder.mkdir(exist_ok=True)
        unusual.save(folder / f"{path.stem}.{suffix}")
    words = ["--data", tmp_path, "--reference", tiny.checkpoint, "--max-drop", 100, "--json"]
    ended = edgedense("validate", made.engine, *words)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["samples"] == 180
    assert found["engine"]["top1"] == pytest.approx(share_of_right_answers, abs=15)
    assert found["agreement"] > 90


def test_sixteen_bit_grey_is_eight_bit_grey(tmp_path: Path, tiny: Any) -> None:
    """Scaled, where Pillow alone would clip it to white."""
    from edgedense.data import batches, load_preprocess, load_set

    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "b.png")
    preprocess = load_preprocess(str(tiny.toml))
    eight, sixteen = next(batches(load_set(tmp_path), preprocess, 2)).images
    np.testing.assert_array_equal(eight, sixteen)


def test_three_calibration_images(tiny: Any, refused: Call, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    for name in ("red", "green", "blue"):
        (folder / name).mkdir(parents=True)
        shutil.copy(tiny.train / name / "000.png", folder / name)
    known = ["--calib", folder, "--preprocess", tiny.toml, "-o", tmp_path / "out"]
    for words in (
        ["quantize", tiny.checkpoint, *known],
        ["prune", tiny.checkpoint, *known],
        ["deploy", tiny.checkpoint, "--eval", tiny.test, *known],
    ):
        assert "3 calibration images, at least 16 are needed" in refused(*words)


def test_another_number_of_classes(tiny: Any, made: Any, refused: Call, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.test, tmp_path / "set"))
    shutil.copytree(folder / "red", folder / "violet")
    known = ["--calib", tiny.train, "--preprocess", tiny.toml, "-o", tmp_path / "out"]
    for words in (
        ["validate", made.engine, "--data", folder],
        ["quantize", tiny.checkpoint, "--eval", folder, *known],
        ["deploy", tiny.checkpoint, "--eval", folder, *known],
    ):
        assert "has 4 classes, but the model has 3 outputs" in refused(*words)


def test_an_output_that_exists(tiny: Any, made: Any, refused: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    known = ["--calib", tiny.train, "--preprocess", tiny.toml, "-o", out]
    for words in (
        ["prune", tiny.checkpoint, *known],
        ["quantize", tiny.checkpoint, *known],
        ["build-engine", made.quantized, "-o", out],
        ["benchmark", made.engine, "-o", out],
        ["validate", made.engine, "--data", tiny.test, "-o", out],
        ["deploy", tiny.checkpoint, "--eval", tiny.test, *known],
    ):
        assert f"{out} exists already" in refused(*words)
    assert (out / "thesis.tex").read_text() == "mine"


def test_an_engine_with_one_byte_changed(
    tiny: Any, made: Any, refused: Call, tmp_path: Path
) -> None:
    engine = Path(shutil.copytree(made.engine, tmp_path / "engine"))
    data = bytearray((engine / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (engine / "model.onnx").write_bytes(bytes(data))
    for words in (["benchmark", engine], ["validate", engine, "--data", tiny.test]):
        said = refused(*words)
        assert "model.onnx: contents differ from the manifest (SHA-256)" in said
        assert "make the artifact again" in said


def test_missing_preprocessing_lists_the_presets(tiny: Any, refused: Call, tmp_path: Path) -> None:
    known = ["--calib", tiny.train, "-o", tmp_path / "out"]
    for words in (
        ["prune", tiny.checkpoint, *known],
        ["quantize", tiny.checkpoint, *known],
        ["deploy", tiny.checkpoint, "--eval", tiny.test, *known],
    ):
        said = refused(*words)
        assert "preprocessing is unknown" in said
        assert "imagenet|cifar10|cifar100|digits|caffe|xray|camvid or a TOML file" in said
        assert "imagenet, cifar10, cifar100, digits" in refused(*words, "--preprocess", "cifar")


def test_an_artifact_of_the_wrong_stage(
    tiny: Any, made: Any, refused: Call, tmp_path: Path
) -> None:
    assert "is a quantize artifact, not an engine" in refused("benchmark", made.quantized)
    assert "holds no weights" in refused("inspect", made.quantized)
    assert "built from a quantize artifact" in refused(
        "build-engine", made.engine, "-o", tmp_path / "out"
    )
    assert "an artifact is wanted" in refused("benchmark", tiny.checkpoint)


def test_a_report_where_none_can_be(tiny: Any, refused: Call, edgedense: Call, run: Path) -> None:
    assert "holds no stages of a run" in refused("report", tiny.train)
    assert edgedense("report", run, "-o", run / "pages" / "new.html").code == 0
    assert (run / "pages" / "new.html").exists()
    refused("report", run, "-o", run / "report.json" / "page.html")


@pytest.fixture
def run(made: Any, tmp_path: Path) -> Path:
    shutil.copytree(made.quantized, tmp_path / "run" / "quantize")
    (tmp_path / "run" / "report.json").touch()
    return tmp_path / "run"


# --- a full disk -------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Path]]:
    """Mount tiny file systems; skips where that is not permitted."""
    mounts = []

    def mount(kilobytes: int) -> Path:
        place = tmp_path_factory.mktemp("disk")
        size = f"size={kilobytes}k"
        done = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)]
        if (
            shutil.which("mount") is None
            or subprocess.run(done, capture_output=True, check=False).returncode
        ):
            pytest.skip("mounting a small tmpfs is not permitted here")
        mounts.append(place)
        return place

    yield mount
    for place in mounts:
        subprocess.run(["umount", str(place)], check=True)


def full_disk_calls(tiny: Any, made: Any, out: Path) -> dict[str, list[object]]:
    known = ["--calib", tiny.train, "--preprocess", tiny.toml, "-o", out]
    short = ["--max-seconds", 0.5]
    return {
        "prune": ["prune", tiny.checkpoint, *known],
        "quantize": ["quantize", tiny.checkpoint, "--eval", tiny.test, *known],
        "build-engine": ["build-engine", made.quantized, "-o", out],
        "benchmark": ["benchmark", made.engine, "--iterations", 9000, *short, "-o", out],
        "validate": ["validate", made.engine, "--data", tiny.test, "--max-drop", 5, "-o", out],
        "deploy": ["deploy", tiny.checkpoint, "--eval", tiny.test, "--macs", 0.8, *known],
    }


@pytest.mark.parametrize("kilobytes", [0, 4, 16])
@pytest.mark.parametrize(
    "command",
    ["prune", "quantize", "build-engine", "benchmark", "validate", "deploy"],
)
def test_a_small_disk_that_fills_up(
    command: str,
    kilobytes: int,
    tiny: Any,
    made: Any,
    edgedense: Call,
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(max(kilobytes, 4))
    if not kilobytes:
        with contextlib.suppress(OSError):
            (disk / "ballast").write_bytes(b"x" * 8192)
    before = set(disk.iterdir())
    ended = edgedense(*full_disk_calls(tiny, made, disk / "out")[command])
    assert ended.code == 3, ended.err
    assert len(ended.error) == 2, ended.err
    assert "the disk is full while writing" in ended.error[0]
    left = {p.relative_to(disk).as_posix() for p in disk.rglob("*") if p not in before}
    if command == "deploy":  # stages that were finished before are kept, to go on from
        assert not [name for name in left if "partial" in name]
        assert all((disk / name).parent.joinpath("manifest.json").exists()
                   for name in left if name.count("/") == 2)  # fmt: skip
    else:
        assert left == set()


@pytest.mark.parametrize(
    ("command", "writer"),
    [
        ("prune", "numpy.savez"),
        ("quantize", "numpy.savez"),
        ("quantize", "numpy.savez_compressed"),
        ("build-engine", "shutil.copyfile"),
        ("benchmark", "edgedense.artifact.write_whole"),
        ("validate", "numpy.savez_compressed"),
        ("deploy", "edgedense.artifact.write_whole"),
    ],
)
def test_a_full_disk_by_its_errno(
    command: str,
    writer: str,
    tiny: Any,
    made: Any,
    edgedense: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, full)
    words = full_disk_calls(tiny, made, tmp_path / "out")[command]
    ended = edgedense(*words)
    assert ended.code == 3, ended.err
    assert ended.error[0].startswith("error: the disk is full while writing")
    assert [p for p in tmp_path.rglob("*") if p.name != "out"] == []


# --- what a review found -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "value"), [("interface", None), ("report", []), ("model", "x"), ("preprocess", 5)]
)
def test_a_manifest_edited_by_hand(
    section: str, value: object, made: Any, refused: Call, tiny: Any, tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(made.engine, engine)
    manifest = json.loads((engine / "manifest.json").read_text())
    (engine / "manifest.json").write_text(json.dumps({**manifest, section: value}))
    assert "is damaged" in refused("validate", engine, "--data", tiny.test)


@pytest.mark.parametrize("key", ["input_name", "input_shape", "output_name", "output_shape"])
def test_an_interface_with_a_key_less(
    key: str, made: Any, refused: Call, tiny: Any, tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(made.engine, engine)
    manifest = json.loads((engine / "manifest.json").read_text())
    del manifest["interface"][key]
    (engine / "manifest.json").write_text(json.dumps(manifest))
    assert "interface is damaged" in refused("validate", engine, "--data", tiny.test)


def test_calibrating_with_the_images_of_the_recorded_reference(
    tiny: Any, refused: Call, tmp_path: Path
) -> None:
    words = ["quantize", tiny.checkpoint, "-o", tmp_path / "q", "--preprocess", tiny.toml]
    told = refused(*words, "--calib", tiny.test, "--eval", tiny.test)
    assert "are evaluation images too" in told


def test_an_evaluation_set_without_labels(made: Any, tiny: Any, refused: Call) -> None:
    assert "without a label" in refused("validate", made.engine, "--data", tiny.test / "red")


@pytest.mark.parametrize("percentile", [0, 150, "nan"])
def test_a_percentile_that_is_none(
    percentile: object, tiny: Any, refused: Call, tmp_path: Path
) -> None:
    words = ["quantize", tiny.checkpoint, "-o", tmp_path / "q", "--preprocess", tiny.toml]
    told = refused(*words, "--calib", tiny.train, "--percentile", percentile)
    assert "--percentile" in told


def test_a_failed_verdict_leaves_the_baseline_alone(
    tiny: Any, made: Any, edgedense: Call, tmp_path: Path
) -> None:
    baseline = tmp_path / "baseline.json"
    words = ["validate", made.engine, "--data", tiny.test, "--write-baseline", baseline]
    assert edgedense(*words, "--max-drop", 5).code == 0
    before = baseline.read_bytes()
    ended = edgedense(*words, "--max-drop", 0)
    assert ended.code == 1
    assert "no baseline written" in ended.err
    assert baseline.read_bytes() == before


def test_an_engine_for_larger_batches_only(
    tiny: Any, made: Any, edgedense: Call, tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    assert edgedense("build-engine", made.quantized, "-o", engine, "--batch", "2:4:8").code == 0
    words = ["validate", engine, "--data", tiny.test, "--reference", tiny.checkpoint]
    assert edgedense(*words, "--max-drop", 5, "--min-speedup", 0.001).code == 0


# --- comparing, looking inside, shipping -------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a pair of keys, and files that are none of what is wanted."""
    from edgedense.bundle import PackOptions, new_key, pack

    place = tmp_path_factory.mktemp("shipped")
    (place / "empty").mkdir()
    (place / "junk").write_bytes(b"\0junk")
    (place / "empty.json").write_text("{}")
    new_key(place / "key")
    tests = made.quantized.parent / "test"
    pack(made.quantized, place / "b.edz", PackOptions(targets=("cpu",)), tests)
    whole = (place / "b.edz").read_bytes()
    (place / "cut.edz").write_bytes(whole[: len(whole) // 2])
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    (place / "changed.edz").write_bytes(changed)
    return place


LAYERS = Path(__file__).parent / "recorded" / "inspector" / "trex_resnet18_qat.json"
NO_ARTIFACT = "an artifact is wanted"


Refusals = Iterator[tuple[list[object], str]]


def bundle_errors(tiny: Any, made: Any, at: Path, out: Path) -> Refusals:
    """Calls that are refused, and what is said."""
    none, empty, junk, net = at / "nowhere", at / "empty", at / "junk", tiny.checkpoint
    run = ["-o", out, "--target", "cpu"]
    yield ["run-bundle", none, *run], "nowhere: No such file"
    yield ["run-bundle", empty, *run], "empty: Is a directory"
    yield ["run-bundle", junk, *run], "junk is no edgedense bundle"
    yield ["run-bundle", net, *run], "is no edgedense bundle"
    yield ["run-bundle", at / "cut.edz", *run], "cut short or damaged"
    yield ["run-bundle", at / "changed.edz", *run], "changed or damaged after it was packed"
    bundle = at / "b.edz"
    yield ["run-bundle", bundle, "--target", "t4", "-o", out], "packed for cpu, not for t4"
    yield ["run-bundle", bundle, "-o", tiny.train], "exists already and is no run"
    yield ["run-bundle", bundle, *run, "--verify-key", none], "nowhere: No such file"
    yield ["run-bundle", bundle, *run, "--verify-key", at / "key"], "is a secret key"
    yield ["run-bundle", bundle, *run, "--verify-key", at / "key.pub"], "is not signed"
    into = ["-o", out.with_suffix(".edz")]
    yield ["pack", none, *into], "nowhere is no run of edgedense deploy: it does not exist"
    yield ["pack", empty, *into], "empty is no run of edgedense deploy"
    yield ["pack", junk, *into], "junk is no run of edgedense deploy"
    yield ["pack", made.engine, *into], "is a build-engine artifact"
    packed = ["pack", made.quantized, "--eval", tiny.test]
    yield [*packed, "-o", empty], "empty exists already"
    yield [*packed, "-o", junk / "b.edz"], "Not a directory"
    yield [*packed, *into, "--sign", none], "nowhere: No such file"
    yield [*packed, *into, "--sign", at / "key.pub"], "key.pub holds no secret key"
    yield [*packed, *into, "--target", "toaster"], "there is no target 'toaster'"
    yield [*packed, *into, "--eval-images", 0], "a sample of 0 images was asked"
    yield ["pack", made.quantized, *into, "--eval", empty], "no images in"
    yield ["new-key", at / "key"], "key exists already"
    yield ["new-key", empty], "empty exists already"
    yield ["new-key", junk / "key"], "Not a directory"


def triton_errors(tiny: Any, made: Any, at: Path, out: Path) -> Refusals:
    """Calls that are refused, and what is said."""
    none, empty, junk, net = at / "nowhere", at / "empty", at / "junk", tiny.checkpoint
    triton = ["-o", out]
    yield ["export-triton", none, *triton], NO_ARTIFACT
    yield ["export-triton", net, *triton], NO_ARTIFACT
    yield ["export-triton", made.quantized, *triton], "is a quantize artifact, not an engine"
    yield ["export-triton", made.engine, *triton, "--name", "../up"], "cannot name a model"
    yield ["export-triton", made.engine, *triton, "--labels", empty], "no images in"
    yield ["export-triton", made.engine, *triton, "--max-batch", 99], "takes at most 8"
    yield ["export-triton", made.engine, "-o", junk], "Not a directory"


def looking_errors(tiny: Any, made: Any, at: Path, out: Path) -> Refusals:
    """Calls that are refused, and what is said."""
    none, empty, junk, net = at / "nowhere", at / "empty", at / "junk", tiny.checkpoint
    yield ["layers", none], "nowhere: No such file"
    yield ["layers", empty], "empty: Is a directory"
    yield ["layers", junk], "is no JSON"
    yield ["layers", net], "is no JSON"
    yield ["layers", at / "empty.json"], "holds no layers of an engine"
    yield ["layers", made.quantized], "is a quantize artifact, not an engine"
    yield ["layers", made.engine], "no inspector.json"
    yield ["layers", LAYERS, "--profile", none], "nowhere: No such file"
    yield ["layers", LAYERS, "--profile", at / "empty.json"], "is no profile"
    yield ["layers", LAYERS, "--onnx", empty], "is a folder"
    yield ["layers", LAYERS, "--onnx", junk], "not an ONNX file"
    two = ["compare", made.engine, made.engine]
    yield ["compare", none, made.engine], NO_ARTIFACT
    yield ["compare", net, made.engine], NO_ARTIFACT
    yield ["compare", none, empty], "holds no stages of a run"
    yield ["compare", made.quantized, made.engine], "is a quantize artifact and"
    yield ["compare", tiny.train, tiny.test, "--data", tiny.test], "--data is for two artifacts"
    yield two, "two engines are compared on images"
    yield [*two, "--data", empty], "no images in"
    yield [*two, "--data", tiny.test / "red"], "without a label"
    yield [*two, "--data", tiny.test, "--repeats", 1], "--repeats"
    yield [*two, "--data", tiny.test, "--latency", empty], "--latency is for validate artifacts"
    yield [*two, "--data", tiny.test, "-o", empty], "empty exists already"


@pytest.mark.parametrize("errors", [bundle_errors, triton_errors, looking_errors])
def test_comparing_looking_inside_and_shipping(
    errors: Callable[..., Refusals],
    tiny: Any,
    made: Any,
    shipped: Path,
    refused: Call,
    tmp_path: Path,
) -> None:
    before = sorted(shipped.rglob("*"))
    for words, said in errors(tiny, made, shipped, tmp_path / "out"):
        assert said in refused(*words), words
    assert sorted(shipped.rglob("*")) == before


@pytest.mark.parametrize("kilobytes", [0, 4, 16])
def test_shipping_to_a_small_disk_that_fills_up(
    kilobytes: int,
    tiny: Any,
    made: Any,
    shipped: Path,
    edgedense: Call,
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(max(kilobytes, 4))
    if not kilobytes:
        with contextlib.suppress(OSError):
            (disk / "ballast").write_bytes(b"x" * 8192)
    before = set(disk.rglob("*"))
    cpu = ["--target", "cpu"]
    calls: list[list[object]] = [
        ["pack", made.quantized, "--eval", tiny.test, *cpu, "-o", disk / "b.edz"],
        ["export-triton", made.engine, "-o", disk / "models"],
        ["run-bundle", shipped / "b.edz", "-o", disk / "run"],
    ]
    if not kilobytes:
        calls.append(["new-key", disk / "key"])
    for words in calls:
        ended = edgedense(*words)
        assert ended.code == 3, (words, ended.err)
        assert len(ended.error) == 2, ended.err
        assert re.search("disk is full|[kM]B free, but unpacking takes", ended.error[0]), ended.err
        left = {path for path in disk.rglob("*") if path.is_file()} - before
        # a run may keep its ledger, to go on from, and what was finished
        assert not [path for path in left if path.name != "run.json"], words
