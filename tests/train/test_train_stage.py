from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import tiny as tiny_spec

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, load_preprocess, load_set
from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.errors import InputError, Interrupted
from edgedense.train import TrainOptions, finetune_job, plan, recipe, run, train_job
from edgedense.train.job import Job

OPTIONS = TrainOptions(epochs=4, batch=16, lr=0.05, seed=3)
MakeJob = Callable[..., Job]


@pytest.fixture
def preprocess(tiny: Any) -> Preprocess:
    return load_preprocess(str(tiny.toml))


@pytest.fixture
def images(tiny: Any) -> ImageSet:
    return load_set(tiny.train).sample(50, 0)


@pytest.fixture
def evaluation(tiny: Any) -> ImageSet:
    return load_set(tiny.test).sample(40, 0)


@pytest.fixture
def job(images: ImageSet, evaluation: ImageSet, preprocess: Preprocess) -> MakeJob:
    def make(spec: Any = None, **changes: Any) -> Job:
        spec = spec or tiny_spec((2, 2), 4, dropout=0.1)
        options = replace(OPTIONS, **changes)
        return train_job(spec, images, preprocess, options, evaluation)

    return make


class Interrupting:
    """Ends the training by Ctrl-C in the middle of an epoch, counted from 1."""

    def __init__(self, epoch: int) -> None:
        self.label = f"epoch {epoch} of"
        self.lines: list[str] = []

    def track(self, items: Iterable[Any], label: str, total: int | None = None) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == 1 and label.startswith(self.label):
                raise KeyboardInterrupt
            yield item

    def say(self, line: str) -> None:
        self.lines.append(line)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_model(directory).network.state_dict()


def equal(left: Path, right: Path) -> bool:
    one, two = weights(left), weights(right)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def interrupted(make: Job, destination: Path, epoch: int) -> list[str]:
    progress = Interrupting(epoch)
    with pytest.raises(Interrupted) as caught:
        run(make, destination, progress)
    return [*progress.lines, caught.value.kept]


def test_the_artifact_is_the_trained_network(job: MakeJob, tmp_path: Path) -> None:
    made = job(tiny_spec((2, 2), 4), epochs=6, lr=0.1)
    report = run(made, tmp_path / "net")
    read = artifact.read(tmp_path / "net")
    assert read.manifest.stage == "train"
    assert read.manifest.report == json.loads(json.dumps(report.to_dict()))
    assert read.manifest.preprocess == made.preprocess.to_dict()
    assert read.manifest.parents == made.parents
    assert set(made.parents) == {"data", "eval"}
    assert read.manifest.interface["input_shape"] == [3, 8, 8]
    model = load_model(tmp_path / "net")
    assert model.spec == made.network.spec
    golden = np.load(read.file("golden.npz"))
    with torch.inference_mode():
        found = model.network(torch.from_numpy(golden["images"])).numpy()
    np.testing.assert_array_equal(found, golden["logits"])
    assert report.last_top1 is not None
    assert report.last_top1 > 90  # a third would be guessing
    assert (report.images, report.evaluated, report.seen, report.processes) == (50, 40, 0, 1)
    assert [epoch.epoch for epoch in report.epochs] == [1, 2, 3, 4, 5, 6]
    rates = [0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    assert [epoch.lr for epoch in report.epochs] == pytest.approx(rates)
    assert report.epochs[-1].loss < report.epochs[0].loss / 2
    assert not report.diverged
    assert report.miou is report.best_miou is report.pixel_accuracy is None
    assert not (tmp_path / "net.training").exists()


def test_the_accuracy_is_that_of_the_kept_weights(
    job: MakeJob, evaluation: ImageSet, tmp_path: Path
) -> None:
    from edgedense.data import batches

    # a rate that throws the network about, so that its best epoch is not its last
    made = job(lr=0.8, keep="best", epochs=5, schedule="cosine", seed=1)
    report = run(made, tmp_path / "net")
    batch = next(batches(evaluation, made.preprocess, 40))
    with torch.inference_mode():
        logits = load_model(tmp_path / "net").network(torch.from_numpy(batch.images))
    right = (logits.argmax(1).numpy() == batch.labels).mean() * 100
    assert report.top1 == pytest.approx(right)
    figures = [epoch.top1 for epoch in report.epochs]
    assert report.top1 == report.best_top1 == max(figures)
    assert report.kept_epoch == report.best_epoch == figures.index(max(figures)) + 1


@pytest.mark.parametrize(
    "how", [{}, {"optimizer": "rmsprop", "lr": 1e-3, "schedule": "exponential", "momentum": 0.0}]
)
def test_an_interrupted_training_ends_with_the_same_weights(
    job: MakeJob, tmp_path: Path, how: dict[str, Any]
) -> None:
    job = partial(job, **how)
    whole = run(job(), tmp_path / "whole")
    lines = interrupted(job(), tmp_path / "net", 1)
    assert lines == ["No epoch was finished, so nothing is kept."]
    assert not (tmp_path / "net.training").exists()
    interrupted(job(memory_efficient=True, workers=1), tmp_path / "net", 2)
    lines = interrupted(job(), tmp_path / "net", 4)
    assert "3 of 4 epochs are kept in" in lines[-1]
    assert not (tmp_path / "net").exists()
    report = run(job(), tmp_path / "net")
    assert equal(tmp_path / "whole", tmp_path / "net")
    assert [e.loss for e in report.epochs] == [e.loss for e in whole.epochs]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net", "whole"]


def test_the_seed_decides(job: MakeJob, tmp_path: Path) -> None:
    torch.manual_seed(1)
    run(job(epochs=1), tmp_path / "a")
    torch.manual_seed(2)
    state = torch.get_rng_state()
    run(job(epochs=1), tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), state)  # the caller's own numbers stay
    run(job(epochs=1, seed=4), tmp_path / "c")
    assert equal(tmp_path / "a", tmp_path / "b")
    assert not equal(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 0.06}, "--lr 0.05 (asked now: 0.06)"),
        ({"epochs": 5}, "--epochs 4 (asked now: 5)"),
        ({"spec": tiny_spec((2, 1), 4)}, "another model"),
    ],
)
def test_the_state_of_another_training_is_refused(
    job: MakeJob, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    interrupted(job(), tmp_path / "net", 2)
    with pytest.raises(InputError) as caught:
        run(job(**changes), tmp_path / "net")
    assert named in caught.value.what
    assert "net.training" in caught.value.remedy
    run(job(), tmp_path / "net")  # it was not touched


def test_other_images_are_another_training(job: MakeJob, tmp_path: Path) -> None:
    interrupted(job(), tmp_path / "net", 2)
    made = job()
    fewer = replace(made.images, items=made.images.items[:-1])
    with pytest.raises(InputError, match="another data"):
        run(replace(made, images=fewer), tmp_path / "net")


@pytest.mark.parametrize("damage", [b"", b"no state", None])
def test_a_damaged_state_is_named(job: MakeJob, tmp_path: Path, damage: bytes | None) -> None:
    interrupted(job(), tmp_path / "net", 2)
    path = tmp_path / "net.training" / "state.pt"
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(InputError) as caught:
        run(job(), tmp_path / "net")
    assert "state.pt" in caught.value.what
    assert "Remove" in caught.value.remedy


def test_divergence_names_epoch_and_remedy_and_keeps_what_was(
    job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.train import engine

    made, plain, calls = job(), engine.cross_entropy, []

    def poisoned(*words: Any) -> torch.Tensor:
        calls.append(words)
        return plain(*words) * (float("nan") if len(calls) == 5 else 1)

    monkeypatch.setattr(engine, "cross_entropy", poisoned)
    with pytest.raises(InputError) as caught:
        run(made, tmp_path / "net")
    assert "epoch 2, step 2 of 3: the loss is nan" in caught.value.what
    assert "--lr below 0.05" in caught.value.remedy
    monkeypatch.undo()
    lines = interrupted(job(), tmp_path / "net", 3)
    assert "going on after epoch 1" in lines[0]


def test_a_rate_that_is_too_high_is_told_before_it_is_saved(job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training diverged in epoch 1"):
        run(job(lr=1e30), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_the_plan_changes_nothing(job: MakeJob, tmp_path: Path) -> None:
    found = plan(job())
    assert (found.steps_per_epoch, found.epochs, found.images, found.left_out) == (3, 4, 50, 2)
    assert [epoch for epoch, _ in found.lr] == [1, 3, 4]
    assert found.seconds == pytest.approx(12 * found.seconds_per_step)
    assert list(tmp_path.iterdir()) == []


def test_finetune_starts_from_the_model_and_keeps_its_widths(
    tiny: Any, images: ImageSet, preprocess: Preprocess, tmp_path: Path
) -> None:
    from edgedense.prune import PruneOptions, prune

    model = load_model(tiny.checkpoint)
    prune(model, images, preprocess, tmp_path / "pruned", PruneOptions(macs=0.7, align=1))
    narrow = load_model(tmp_path / "pruned")
    options = replace(OPTIONS, epochs=1, lr=0.01)
    made = finetune_job(narrow, images, preprocess, options, teacher=model)
    report = run(made, tmp_path / "tuned")
    tuned = load_model(tmp_path / "tuned")
    assert tuned.spec == narrow.spec != model.spec
    assert tuned.calibration == narrow.calibration != ()
    read = artifact.read(tmp_path / "tuned")
    assert read.manifest.stage == "finetune"
    assert read.manifest.parents["model"] == narrow.sha256
    assert read.manifest.parents["teacher"] == model.sha256
    assert report.teacher == str(tiny.checkpoint)
    first, last = weights(tmp_path / "pruned"), weights(tmp_path / "tuned")
    moved = [(first[k] - last[k]).abs().max() for k in first if k.endswith("conv1.weight")]
    assert 0 < max(moved) < 0.1


def test_alpha_is_the_teachers_share_against_the_labels(
    tiny: Any, images: ImageSet, evaluation: ImageSet, preprocess: Preprocess, tmp_path: Path
) -> None:
    model = load_model(tiny.checkpoint)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    wrong = replace(
        images, items=tuple(replace(item, label=(item.label + 1) % 3) for item in images.items)
    )
    top1 = {}
    for alpha in (0.0, 1.0):
        options = replace(OPTIONS, epochs=3, alpha=alpha)
        made = finetune_job(model, wrong, preprocess, options, evaluation, teacher=model)
        top1[alpha] = run(made, tmp_path / str(alpha)).last_top1
    assert top1[0.0] < 10  # it believed the labels
    assert top1[1.0] > 90  # it believed the teacher
    after = model.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.fixture
def masks(tmp_path: Path) -> ImageSet:
    """Images with squares that are brighter (class 1) or not (class 0)."""
    from PIL import Image

    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for k in range(16):
        mask = np.kron(random.integers(0, 2, (4, 4)), np.ones((2, 2))).astype(np.uint8)
        noise = random.integers(0, 100, (8, 8, 3)) + 120 * mask[..., None]
        mask[0] = 255
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{k}.png")
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / "set" / "images" / f"{k}.png")
    return load_set(tmp_path / "set")


def test_segmentation_trains_on_masks(
    tmp_path: Path, masks: ImageSet, preprocess: Preprocess
) -> None:
    from edgedense.data import batches

    spec = FCDenseNetSpec.build((2,), 2, 4, num_classes=2, stem_width=6, dropout=0.0)
    # a rate that throws the network about, so that its best epoch is not its last
    options = replace(recipe(spec), epochs=8, lr=0.03, keep="best")
    assert options.optimizer == "rmsprop"
    report = run(train_job(spec, masks, preprocess, options, masks), tmp_path / "net")
    assert report.seen == 16
    model = load_model(tmp_path / "net")
    assert model.spec == spec
    batch = next(batches(masks, preprocess, 16, mask_classes=2))
    assert batch.masks is not None
    with torch.inference_mode():
        said = model.network(torch.from_numpy(batch.images)).argmax(1).numpy()
    judged = batch.masks != 255
    hits = [(judged & (said == k) & (batch.masks == k)).sum() for k in (0, 1)]
    unions = [(judged & ((said == k) | (batch.masks == k))).sum() for k in (0, 1)]
    assert report.miou == pytest.approx(100 * np.mean(np.divide(hits, unions)))
    assert report.pixel_accuracy == pytest.approx(100 * sum(hits) / judged.sum())
    figures = [epoch.miou for epoch in report.epochs]
    assert report.miou == report.best_miou == max(figures)
    assert report.kept_epoch == figures.index(max(figures)) + 1
    assert report.miou > 70  # half of it would be guessing
    assert report.last_miou == figures[-1]
    assert report.top1 is report.best_top1 is report.epochs[0].top1 is None


def test_a_loss_that_grew_is_told(job: MakeJob, tmp_path: Path) -> None:
    assert run(job(lr=100.0, epochs=1), tmp_path / "net").diverged


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([1.0, 11.0], True),
        ([1.0, 99.0, 9.9], False),
        ([2000.0, 1001.0], True),
        ([2000.0, 999.0], False),
        ([1e-5, 1e-2], False),
        ([1e-5, 0.2], True),
        ([2.0], False),
    ],
)
def test_when_training_counts_as_diverged(losses: list[float], diverged: bool) -> None:
    from edgedense.train.outcome import has_diverged

    assert has_diverged(losses) is diverged


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch": 64}, "50 images do not fill one batch of 64"),
        ({"spec": tiny_spec((2, 2), 4, num_classes=5)}, "has 3 classes, but the model has 5"),
        ({"spec": tiny_spec((2, 2), 4, in_channels=1)}, "1 channel"),
        ({"spec": tiny_spec((1, 1, 1, 1, 1), 4)}, "too small"),
        ({"spec": tiny_spec((2, 2), 4, dropout=1.5)}, "--dropout 1.5"),
        ({"spec": FCDenseNetSpec.build((2,), 2, 4, num_classes=3)}, "has no masks"),
    ],
)
def test_what_does_not_fit_is_told_before_any_work(
    job: MakeJob, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        run(job(**changes), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_masks_need_a_network_for_masks(job: MakeJob, masks: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has masks, but the network gives one answer") as caught:
        run(replace(job(), images=masks), tmp_path / "net")
    assert "fc-densenet" in caught.value.remedy


def test_the_same_number_of_other_classes_is_told(job: MakeJob, tmp_path: Path) -> None:
    made = job()
    assert made.evaluation is not None
    other = replace(made.evaluation, class_names=("blue", "green", "violet"))
    with pytest.raises(InputError, match=r"different classes \(red, violet\)"):
        run(replace(made, evaluation=other), tmp_path / "net")


@pytest.mark.parametrize(
    "changes",
    [
        *({"epochs": 0}, {"batch": 1}, {"lr": 0.0}, {"lr": float("nan")}, {"momentum": 1.0}),
        *({"label_smoothing": -0.1}, {"alpha": 1.1}, {"temperature": 0.0}, {"keep": "all"}),
        *({"optimizer": "adam"}, {"schedule": "linear"}, {"weight_decay": float("inf")}),
        *({"workers": -1}, {"seed": -1}),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--" + next(iter(changes)).replace("_", "-")):
        replace(OPTIONS, **changes)
