"""What goes into a bundle, and what keeps one from being made."""

from __future__ import annotations

import functools
import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_bundles import QUICK

from edgedense import artifact, benchmark
from edgedense.bundle import PackOptions, PackReport, open_bundle, pack
from edgedense.bundle.evaluation import load_evaluation
from edgedense.data import ImageSet, load_set
from edgedense.engines.reference import load_reference
from edgedense.errors import DiskError, EdgedenseError, InputError

CPU = PackOptions(targets=("cpu",))
Pack = Callable[..., PackReport]


@pytest.fixture
def packed_with(made: Any, tiny: Any, tmp_path: Path) -> Pack:
    def call(options: PackOptions = CPU, data: Path | None = None, name: str = "a") -> PackReport:
        return pack(made.quantized, tmp_path / f"{name}.edz", options, data or tiny.test)

    return call


def refusal(call: Callable[..., object], *words: object, **options: object) -> EdgedenseError:
    with pytest.raises(InputError) as error:
        call(*words, **options)
    assert error.value.remedy
    return error.value


def unpacked(bundle: str, place: Path) -> tuple[ImageSet, Path]:
    """The images of a bundle, and its quantize artifact."""
    with open_bundle(Path(bundle)) as opened:
        for stage in ("quantize", "evaluation"):
            opened.extract(stage, place / stage)
    return load_evaluation(artifact.read(place / "evaluation")), place / "quantize"


def test_a_whole_set_travels_as_it_is(
    packed_with: Pack, made: Any, tiny: Any, tmp_path: Path
) -> None:
    found = packed_with()
    assert (found.images, found.images_of, found.targets) == (180, 180, ("cpu",))
    assert found.bytes == (tmp_path / "a.edz").stat().st_size > found.image_bytes
    images, quantized = unpacked(found.bundle, tmp_path / "out")
    before = load_set(tiny.test)
    assert images.class_names == before.class_names == ("blue", "green", "red")
    assert images.labels.tolist() == before.labels.tolist()
    for mine, theirs in zip(images.items, before.items, strict=True):
        assert isinstance(mine.where, Path)
        assert isinstance(theirs.where, Path)
        assert mine.where.read_bytes() == theirs.where.read_bytes()
    assert artifact.read(quantized).sha256 == artifact.read(made.quantized).sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.edz", "out"]


def test_the_same_input_gives_the_same_bytes(packed_with: Pack, tmp_path: Path) -> None:
    for name in ("a", "b"):
        packed_with(PackOptions(targets=("cpu",), images=30, seed=3, lossless=True), name=name)
    assert (tmp_path / "a.edz").read_bytes() == (tmp_path / "b.edz").read_bytes()


def test_a_sample_is_balanced_and_takes_its_logits_along(
    packed_with: Pack, made: Any, tiny: Any, tmp_path: Path
) -> None:
    found = packed_with(PackOptions(targets=("cpu",), images=31, seed=5))
    assert (found.images, found.images_of) == (31, 180)
    images, quantized = unpacked(found.bundle, tmp_path / "out")
    assert sorted(Counter(images.labels.tolist()).values()) == [10, 10, 11]
    mine = load_reference(quantized / artifact.REFERENCE_FILE)
    whole = load_reference(made.quantized / artifact.REFERENCE_FILE)
    assert len(mine.content) == 31
    np.testing.assert_array_equal(mine.logits, whole.logits_for(mine.content, [""] * 31))
    again, first = artifact.read(quantized), artifact.read(made.quantized)
    assert again.manifest.parents == {**first.manifest.parents, "quantize": first.sha256}
    assert again.manifest.report == first.manifest.report
    expected = load_set(tiny.test).sample(31, 5)
    named = json.loads((tmp_path / "out" / "evaluation" / "set.json").read_text())["images"]
    assert [entry["name"] for entry in named] == [item.name for item in expected.items]


@pytest.mark.parametrize("lossless", [False, True])
def test_arrays_and_lossless_images_are_png(
    packed_with: Pack, tiny: Any, tmp_path: Path, lossless: bool
) -> None:
    folder = load_set(tiny.test)
    pixels = np.stack([np.asarray(Image.open(str(item.where))) for item in folder.items])
    np.savez(tmp_path / "set.npz", images=pixels, labels=folder.labels)
    data = tiny.test if lossless else tmp_path / "set.npz"
    found = packed_with(PackOptions(targets=("cpu",), lossless=lossless), data)
    images, _ = unpacked(found.bundle, tmp_path / "out")
    for k, item in enumerate(images.items):
        with Image.open(str(item.where)) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), pixels[k])


def test_images_must_be_those_that_fp32_has_judged(
    packed_with: Pack, tiny: Any, tmp_path: Path
) -> None:
    said = refusal(packed_with, data=tiny.train).what
    assert "no FP32 logits were recorded" in said
    shutil.copytree(tiny.test, tmp_path / "swapped")
    (tmp_path / "swapped" / "red").rename(tmp_path / "swapped" / "a")
    assert (
        "has the label 0, but another one" in refusal(packed_with, data=tmp_path / "swapped").what
    )
    assert not (tmp_path / "a.edz").exists()


def test_calibration_images_are_refused(
    packed_with: Pack, monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    content = load_reference(made.quantized / artifact.REFERENCE_FILE).content
    monkeypatch.setattr(artifact, "calibration_content", lambda _: content[7:8])
    assert "used for calibration too" in refusal(packed_with).what


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (PackOptions(), "does not say for which device"),
        (PackOptions(targets=("none-such",)), "no target"),
        (PackOptions(targets=("jetson-nano",), precision="fp16"), "cannot run a bundle"),
        (PackOptions(targets=("cpu",), precision="fp16", against="fp16"), "has that precision"),
        (PackOptions(targets=("cpu",), against="none", min_speedup=2), "nothing to be measured"),
        (PackOptions(targets=("cpu",), max_drop_pp=-1), "not in 0"),
        (PackOptions(targets=("cpu",), batch=(8, 4, 2)), "ascending"),
        (PackOptions(targets=("cpu",), images=0), "a sample of 0 images"),
        (PackOptions(targets=("cpu",), sign=Path("none.key")), "No such file"),
    ],
)
def test_options_that_cannot_be(packed_with: Pack, options: PackOptions, said: str) -> None:
    assert said in refusal(packed_with, options).what


def test_what_is_no_run(made: Any, tiny: Any, tmp_path: Path) -> None:
    out = tmp_path / "a.edz"
    assert "does not exist" in refusal(pack, tmp_path / "none", out, CPU, tiny.test).what
    assert "no run of edgedense deploy" in refusal(pack, tiny.root, out, CPU, tiny.test).what
    assert "is a build-engine artifact" in refusal(pack, made.engine, out, CPU, tiny.test).what
    assert "no images to judge it by" in refusal(pack, made.quantized, out, CPU).what
    without = shutil.copytree(made.quantized, tmp_path / "without")
    raw = json.loads((without / "manifest.json").read_text())
    del raw["files"]["reference.npz"]
    (without / "manifest.json").write_text(json.dumps(raw))
    error = refusal(pack, without, out, CPU, tiny.test)
    assert "carries no FP32 logits" in error.what
    assert "--eval SET" in error.remedy
    (without / "fp32.onnx").write_bytes(b"changed")
    raw = json.loads((made.quantized / "manifest.json").read_text())
    (without / "manifest.json").write_text(json.dumps(raw))
    assert "differ from the manifest" in refusal(pack, without, out, CPU, tiny.test).what
    assert not out.exists()


def test_nothing_is_left_of_what_failed(
    packed_with: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, seen in ((OSError(28, "no space"), DiskError), (KeyboardInterrupt(),) * 2):

        def stop(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(zipfile.ZipFile, "writestr", stop)
        with pytest.raises(seen if isinstance(seen, type) else type(seen)):
            packed_with()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def deployed(
    tiny: Any, tmp_path: Path, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A run of deploy through the command line, as a user makes it."""
    quick = functools.partial(benchmark.BenchmarkOptions, **QUICK)
    monkeypatch.setattr(benchmark, "BenchmarkOptions", quick)
    run = tmp_path / "run"
    words = ["--preprocess", tiny.toml, "--max-drop", 5, "--batch", "1:2:4", "-o", run]
    given = ["deploy", tiny.checkpoint, "--calib", tiny.train, "--eval", tiny.test, *words]
    ended = edgedense(*given)
    assert ended.code == 0, ended.err
    return run


def test_a_run_tells_what_it_was_asked_for(
    deployed: Path, tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    ended = edgedense("pack", deployed, "-o", tmp_path / "a.edz", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    with open_bundle(tmp_path / "a.edz") as bundle:
        contents = bundle.contents
    assert (contents.targets, contents.batch) == (("cpu",), (1, 2, 4))
    assert (contents.max_drop_pp, contents.min_speedup, contents.against) == (5, None, "fp32")
    assert {key: found[key] for key in ("images", "max_drop_pp", "against", "signed")} == {
        "images": 180,
        "max_drop_pp": 5,
        "against": "fp32",
        "signed": False,
    }
    words = ["--target", "jetson-orin-nano", "--max-drop", 2, "--min-speedup", 1.5, "--json"]
    ended = edgedense("pack", deployed, "-o", tmp_path / "b.edz", *words, "--against", "fp16")
    assert ended.code == 0, ended.err
    with open_bundle(tmp_path / "b.edz") as bundle:
        contents = bundle.contents
    assert contents.targets == ("jetson-orin-nano",)
    assert (contents.max_drop_pp, contents.min_speedup, contents.against) == (2, 1.5, "fp16")
    ended = edgedense("pack", deployed, "-o", tmp_path / "b.edz")
    assert ended.code == 2
    assert "exists already" in ended.err


def test_runs_of_before_say_less(deployed: Path, tmp_path: Path, tiny: Any) -> None:
    ledger = json.loads((deployed / "run.json").read_text())
    assert ledger.pop("asked")["evaluation"] == str(tiny.test)
    (deployed / "run.json").write_text(json.dumps(ledger))
    assert "no images to judge it by" in refusal(pack, deployed, tmp_path / "a.edz").what
    assert pack(deployed, tmp_path / "a.edz", CPU, tiny.test).max_drop_pp == 1


def test_a_segmentation_set_travels_with_its_masks(tmp_path: Path) -> None:
    from edgedense.bundle.evaluation import stage_evaluation

    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    (tmp_path / "set" / "classes.txt").write_text("road\nvoid\ncar\n")
    for k in range(3):
        pixels = random.integers(0, 3, (4, 5), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "masks" / f"{k}.png")
        Image.fromarray(pixels * 80).save(tmp_path / "set" / "images" / f"{k}.bmp")
    images = load_set(tmp_path / "set")
    sources = stage_evaluation(images, ("0" * 64,) * 3, tmp_path / "staged")
    for name, source in sources.items():
        target = tmp_path / "out" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    again = load_evaluation(artifact.read(tmp_path / "out"))
    assert again.has_masks
    assert (again.class_names, again.void) == (images.class_names, images.void)
    for mine, theirs in zip(again.items, images.items, strict=True):
        assert mine.mask is not None
        assert theirs.mask is not None
        assert mine.mask.read_bytes() == theirs.mask.read_bytes()
