"""Segmentation engines: against brute force, against known errors, and the real FC-DenseNet."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches, content_hashes, load_set
from edgedense.engines.reference import load_reference, record_reference, save_reference
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.stats import SQNR_CAP_DB, Estimate
from edgedense.validate import (
    Identity,
    ValidateOptions,
    ValidateReport,
    baseline_of,
    validate,
    write_report,
)
from edgedense.validate.judge import judge_miou_drop

SIZE = (6, 8)
PREPROCESS = Preprocess("p", SIZE, None, (0.0,), (1.0,), "bilinear", "L")
Draw = Callable[..., ImageSet]


class Levels:
    """Three classes by brightness; ``wrong`` pixels of each image get the next class instead."""

    def __init__(self, wrong: int = 0, name: str = "levels", classes: int = 3) -> None:
        self.name = name
        self.interface = Interface("images", (1, *SIZE), "logits", (classes, *SIZE))
        self._wrong = wrong
        self.calls = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls += 1
        classes = self.interface.output_shape[0]
        said = np.minimum((images[:, 0] * 3).astype(int), 2)
        flat = said.reshape(len(images), -1)
        flat[:, : self._wrong] = (flat[:, : self._wrong] + 1) % classes
        return 4 * np.eye(classes, dtype=np.float32)[said].transpose(0, 3, 1, 2)

    def close(self) -> None: ...


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Images whose brightness is their class; some mask pixels are void, some differ."""

    def write(count: int = 20, noise: float = 0.1, name: str = "set") -> ImageSet:
        random = np.random.default_rng(count)
        for kind in ("images", "masks"):
            (tmp_path / name / kind).mkdir(parents=True)
        for k in range(count):
            mask = random.integers(0, 3, SIZE).astype(np.uint8)
            pixels = mask * 85 + random.integers(1, 84, SIZE).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"images/{k:03}.png")
            other = random.random(SIZE)
            mask[other < noise] = random.integers(0, 3)
            mask[other > 0.9] = 255
            Image.fromarray(mask).save(tmp_path / name / f"masks/{k:03}.png")
        return load_set(tmp_path / name)

    return write


def brute(images: ImageSet, runner: Any, classes: int = 3) -> dict[str, Any]:
    """mIoU, pixel accuracy and IoU in percent, from all pixels of the set at once."""
    truth, said = [], []
    for batch in batches(images, PREPROCESS, 7, mask_classes=classes):
        truth.append(batch.masks)
        said.append(runner(batch.images).argmax(axis=1))
    t, p = np.concatenate(truth), np.concatenate(said)  # type: ignore[arg-type]
    judged = t != 255
    iou = []
    for c in range(classes):
        union = judged & ((t == c) | (p == c))
        iou.append(100 * np.mean((t == p)[union]) if union.any() else None)
    return {
        "iou": iou,
        "miou": np.mean([v for v in iou if v is not None]),
        "pixel_accuracy": 100 * np.mean((t == p)[judged]),
        "said": p,
    }


def run(images: ImageSet, wrong: int = 2, **more: Any) -> ValidateReport:
    return validate(Levels(wrong, "engine"), images, PREPROCESS, Levels(0, "fp32"), **more)


def test_numbers_are_those_of_all_pixels_at_once(draw: Draw) -> None:
    images = draw()
    found = run(images, wrong=5, options=ValidateOptions(batch_size=3)).to_dict()
    assert found["task"] == "segmentation"
    assert found["samples"] == found["judged"] == 20
    wanted = {"reference": brute(images, Levels()), "engine": brute(images, Levels(5))}
    for who, numbers in wanted.items():
        assert found[who]["top1"] is None
        assert found[who]["miou"] == pytest.approx(numbers["miou"])
        assert found[who]["pixel_accuracy"] == pytest.approx(numbers["pixel_accuracy"])
        assert list(found[who]["iou"]) == ["0", "1", "2"]
        assert list(found[who]["iou"].values()) == pytest.approx(numbers["iou"])
    drop = wanted["reference"]["miou"] - wanted["engine"]["miou"]
    assert found["drop_pp"] == pytest.approx(drop)
    assert found["drop_ci95"][0] < drop < found["drop_ci95"][1]
    accuracy = wanted["reference"]["pixel_accuracy"] - wanted["engine"]["pixel_accuracy"]
    assert found["pixel_accuracy_drop_pp"] == pytest.approx(accuracy)
    low, high = found["pixel_accuracy_drop_ci95"]
    assert low < accuracy < high
    assert found["agreement"] == pytest.approx(100 * (1 - 5 / 48))
    # of 48 one-hot vectors of 4 an image, 5 have two logits off by 4
    assert found["logit_sqnr_db"] == pytest.approx(10 * np.log10(48 * 16 / (5 * 32)))


def test_verdicts(draw: Draw) -> None:
    images = draw(40, noise=0.0)
    assert run(images, wrong=0).verdict == "pass"
    assert run(images, wrong=0).logit_sqnr_db == SQNR_CAP_DB
    assert run(images, wrong=10).verdict == "fail"
    drop = run(images, wrong=4).drop
    assert drop is not None
    for margin, verdict in ((drop.low, "fail"), (drop.value, "inconclusive"), (drop.high, "pass")):
        near = margin + {"fail": -0.01, "inconclusive": 0.01, "pass": 0.01}[verdict]
        report = run(images, wrong=4, options=ValidateOptions(max_drop_pp=near))
        assert report.verdict == verdict
        assert report.exit_code == (verdict != "pass")
        assert "mIoU drop" in report.reasons[0]
    assert run(images, wrong=10, options=ValidateOptions(max_drop_pp=None)).verdict == "pass"


def test_inconclusive_says_how_many_images_would_decide() -> None:
    (reason,) = judge_miou_drop(Estimate(0.5, 0.2, 1.5), 50, 1.0).reasons
    assert "50 images cannot decide; about 200 like these would" in reason
    (reason,) = judge_miou_drop(Estimate(1.0, 0.2, 1.5), 50, 1.0).reasons
    assert "no number would" in reason


def test_nine_images_are_too_few(draw: Draw) -> None:
    images = draw(10, noise=0.0)
    assert run(images, wrong=0).verdict == "pass"
    few = replace(images, items=images.items[:9])
    report = run(few, wrong=0)
    assert report.verdict == "inconclusive"
    assert "fewer than 10 images" in report.reasons[0]


def test_classes_that_lost_come_with_intervals(draw: Draw) -> None:
    images = draw()
    found = run(images, wrong=5).to_dict()
    before, after = brute(images, Levels())["iou"], brute(images, Levels(5))["iou"]
    drops = {str(k): b - a for k, (b, a) in enumerate(zip(before, after, strict=True))}
    rows = found["classes"]["worst"]
    assert [row["class"] for row in rows] == sorted(drops, key=lambda k: -drops[k])
    for row in rows:
        assert row["drop_pp"] == pytest.approx(drops[row["class"]])
        assert row["drop_ci95"][0] < row["drop_pp"] < row["drop_ci95"][1]
    low, high = found["agreement_ci95"]
    # 5 of 48 pixels of each image were changed, on purpose and in all alike
    assert low == pytest.approx(found["agreement"]) == pytest.approx(high)
    assert run(images, wrong=0).to_dict()["classes"]["worst"] == []


def test_recorded_classes_replace_the_reference_but_for_sqnr(draw: Draw, tmp_path: Path) -> None:
    images = draw()
    save_reference(
        tmp_path / "reference.npz", record_reference(Levels(0, "fp32"), images, PREPROCESS)
    )
    recorded = load_reference(tmp_path / "reference.npz")
    live = run(images, wrong=5).to_dict()
    found = validate(Levels(5, "engine"), images, PREPROCESS, recorded).to_dict()
    assert found.pop("logit_sqnr_db") is None
    assert live.pop("logit_sqnr_db") is not None
    assert found == live


def test_without_a_reference(draw: Draw) -> None:
    images = draw()
    report = validate(Levels(), images, PREPROCESS, None)
    found = report.to_dict()
    assert found["reference"] is found["drop_pp"] is found["agreement"] is None
    assert found["engine"]["miou"] == pytest.approx(brute(images, Levels())["miou"])
    assert report.verdict == "inconclusive"
    assert "no reference" in report.reasons[0]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail_and_count_as_wrong(draw: Draw, poison: float) -> None:
    images = draw(12, noise=0.0)

    class Broken(Levels):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            out = super().__call__(images)
            out[:2, 1, 0] = poison  # the first row of two images
            return out

    options = ValidateOptions(batch_size=12)
    report = validate(Broken(), images, PREPROCESS, Levels(), options)
    assert report.verdict == "fail"
    assert "NaN or infinity for 2 of 12 images; such pixels count as wrong" in report.reasons[0]
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["logit_sqnr_db"] is None
    assert found["agreement"] == pytest.approx(100 * (1 - 2 * SIZE[1] / (12 * 48)))
    masks = next(batches(images, PREPROCESS, 12, mask_classes=3)).masks
    assert masks is not None
    lost = np.count_nonzero(masks[:2, 0] != 255) / np.count_nonzero(masks != 255)
    assert found["pixel_accuracy_drop_pp"] == pytest.approx(100 * lost)
    assert report.measured.engine_confusion[:, 3].sum() == np.count_nonzero(masks[:2, 0] != 255)
    with pytest.raises(InputError, match="are not finite"):
        validate(Levels(), images, PREPROCESS, Broken())


def test_a_void_class_is_judged_nowhere(draw: Draw) -> None:
    images = draw(12, noise=0.0)
    (Path(images.source) / "classes.txt").write_text("dark\nvoid\nlight\n")
    named = load_set(Path(images.source))
    found = run(named, wrong=3).to_dict()
    assert found["void"] == [1, 255]
    assert list(found["engine"]["iou"]) == ["dark", "light"]
    assert found["reference"]["miou"] == 100  # though it predicts class 1, in void pixels
    # an engine that says void where the truth is not is wrong, but void is no class of the mean
    engine = found["engine"]
    assert engine["miou"] == pytest.approx(np.mean(list(engine["iou"].values())))
    assert engine["pixel_accuracy"] < 100


def test_classes_that_never_occur_have_no_iou(draw: Draw) -> None:
    images = draw(12)
    report = validate(Levels(classes=5), images, PREPROCESS, Levels(classes=5))
    found = report.to_dict()["engine"]["iou"]
    assert found["3"] is found["4"] is None
    assert report.to_dict()["engine"]["miou"] == pytest.approx(brute(images, Levels())["miou"])


def test_masks_that_judge_nothing(draw: Draw) -> None:
    images = draw(3)
    for item in images.items:
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(str(item.mask))
    with pytest.raises(InputError, match="every pixel of the masks is void"):
        run(images)
    for item in images.items:
        values = np.where(np.arange(48).reshape(SIZE) % 2, 255, 0).astype(np.uint8)
        Image.fromarray(values).save(str(item.mask))
    with pytest.raises(InputError, match="class 0 and void only") as caught:
        run(images)
    assert "save it as class 1" in caught.value.remedy


def test_one_image_that_is_all_void_is_not_judged(draw: Draw) -> None:
    images = draw(12)
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(str(images.items[4].mask))
    found = run(images).to_dict()
    assert (found["samples"], found["judged"]) == (12, 11)


def test_what_does_not_fit_is_refused_before_running(draw: Draw, tmp_path: Path) -> None:
    images, engine = draw(12), Levels()
    np.savez(
        tmp_path / "labels.npz",
        images=np.zeros((2, *SIZE), np.uint8),
        labels=np.zeros(2, np.int64),
    )
    with pytest.raises(InputError, match="has no masks"):
        validate(engine, load_set(tmp_path / "labels.npz"), PREPROCESS, None)
    with pytest.raises(InputError, match="reference has 5x6x8 outputs, but the engine has 3x6x8"):
        validate(engine, images, PREPROCESS, Levels(classes=5))
    whole = Levels()
    whole.interface = replace(whole.interface, output_shape=(3,))
    with pytest.raises(InputError, match="has masks, but the model classifies"):
        validate(whole, images, PREPROCESS, None)
    with pytest.raises(InputError, match="reference has 3 outputs"):
        validate(engine, images, PREPROCESS, whole)
    assert engine.calls == whole.calls == 0


def test_a_calibration_image_is_refused(draw: Draw) -> None:
    images = draw(12)
    seen = content_hashes(images, PREPROCESS)[5]
    with pytest.raises(InputError, match=r"images/005\.png is a calibration image"):
        run(images, calibration=[seen])


def test_a_baseline_is_refused_plainly(draw: Draw) -> None:
    with pytest.raises(InputError, match="a baseline keeps one right or wrong an image"):
        baseline_of(run(draw(12)), Identity("d", "t", "int8", "n", "e" * 64))


def test_the_artifact_keeps_what_all_numbers_derive_from(draw: Draw, tmp_path: Path) -> None:
    images = draw(12)
    report = run(images, wrong=5)
    write_report(tmp_path / "out", report, parents={"engine": "ab" * 32}, options={})
    found = artifact.read(tmp_path / "out")
    assert found.manifest.report == json.loads(json.dumps(report.to_dict()))
    with np.load(found.file("predictions.npz"), allow_pickle=False) as arrays:
        pixels, confused = arrays["engine_pixels"], arrays["engine_confusion"]
        assert pixels.shape == (12, 3, 3)
        assert tuple(arrays["content"]) == report.measured.content
    np.testing.assert_array_equal(confused.diagonal(), pixels.sum(axis=0)[0])
    np.testing.assert_array_equal(confused.sum(axis=1), pixels.sum(axis=0)[1])
    assert 100 * confused.trace() / confused.sum() == pytest.approx(report.engine.pixel_accuracy)


def test_logits_and_pixels_are_not_kept(draw: Draw) -> None:
    """Memory does not grow with the set: earlier logits are dead when the next are made."""
    import gc
    import weakref

    made: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    class Watched(Levels):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            gc.collect()
            alive.append(sum(ref() is not None for ref in made))
            out = super().__call__(images)
            made.append(weakref.ref(out))
            return out

    images = draw(24)
    validate(Watched(), images, PREPROCESS, Levels(), ValidateOptions(batch_size=4))
    record_reference(Watched(), images, PREPROCESS, batch_size=4)
    assert len(alive) == 12
    assert max(alive) <= 1


@pytest.fixture(scope="module")
def tiramisu() -> tuple[Any, Any]:
    """An FC-DenseNet, and the same with noise on its weights."""
    import torch

    from edgedense.densenet.family import initialised
    from edgedense.densenet.fc_spec import FCDenseNetSpec

    network = initialised(FCDenseNetSpec.build([1, 1], 1, 2, num_classes=3), 0)
    noisy = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in noisy.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.03 * weight.abs().mean() * noise)
    return network, noisy


def test_fc_densenet_against_its_perturbed_self(tiramisu: tuple[Any, Any], tmp_path: Path) -> None:
    from edgedense.engines.pytorch import TorchRunner

    interface = Interface("images", (3, 12, 16), "logits", (3, 12, 16))
    fp32, engine = (TorchRunner(n, interface, name) for n, name in zip(tiramisu, "ab", strict=True))
    preprocess = Preprocess("p", (12, 16), None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for k in range(16):
        image = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        image.save(tmp_path / f"images/{k:02}.png")
        mask = fp32(preprocess(image)[np.newaxis])[0].argmax(axis=0).astype(np.uint8)
        mask[random.random(mask.shape) < 0.1] = 255
        mask[:2] = (np.minimum(mask[:2], 2) + 1) % 3  # where even the reference is wrong
        Image.fromarray(mask).save(tmp_path / f"masks/{k:02}.png")
    images = load_set(tmp_path)
    found = validate(engine, images, preprocess, fp32).to_dict()
    assert 100 > found["reference"]["miou"] > found["engine"]["miou"]
    assert 50 < found["agreement"] < 100
    assert 5 < found["logit_sqnr_db"] < 60
    assert found["drop_ci95"][0] < found["drop_pp"] < found["drop_ci95"][1]
    same = validate(fp32, images, preprocess, record_reference(fp32, images, preprocess))
    assert (same.verdict, same.agreement) == ("pass", 100.0)
