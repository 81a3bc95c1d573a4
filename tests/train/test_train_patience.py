"""Stopping early: after so many epochs without a gain on the evaluation set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import tiny as tiny_spec
from test_train_processes import torchrun

from edgedense import artifact
from edgedense.data import load_preprocess, load_set
from edgedense.densenet.checkpoints import load_model
from edgedense.errors import InputError
from edgedense.train import TrainOptions, run, stage, train_job
from edgedense.train.accuracy import Accuracy
from edgedense.train.engine import Engine
from edgedense.train.job import Job

FIGURES = (50.0, 60.0, 55.0, 60.0, 58.0, 59.0)  # as good as the best is no gain
OPTIONS = TrainOptions(epochs=6, batch=16, lr=0.05, keep="best")
MakeJob = Callable[..., Job]


@pytest.fixture
def job(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> MakeJob:
    """Trainings whose accuracy after each epoch is that of FIGURES."""
    preprocess = load_preprocess(str(tiny.toml))
    images, judges = load_set(tiny.train).sample(32, 0), load_set(tiny.test).sample(8, 0)
    plain: Callable[..., Any] = Engine.run_epoch

    def scripted(self: Engine, number: int, *more: Any) -> Any:
        self.evaluate = lambda *_: Accuracy(top1=FIGURES[number])  # type: ignore[method-assign]
        return plain(self, number, *more)

    monkeypatch.setattr(Engine, "run_epoch", scripted)

    def make(**changes: Any) -> Job:
        return train_job(
            tiny_spec((1, 1), 4), images, preprocess, replace(OPTIONS, **changes), judges
        )

    return make


def equal(left: Path, right: Path) -> bool:
    one, two = (load_model(path).network.state_dict() for path in (left, right))
    return all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("patience", "done", "kept"), [(1, 3, 2), (2, 4, 2), (4, 6, 2), (5, 6, 2), (None, 6, 2)]
)
def test_it_stops_where_the_last_gain_is_too_long_ago(
    job: MakeJob, tmp_path: Path, patience: int | None, done: int, kept: int
) -> None:
    report = run(job(patience=patience), tmp_path / "net")
    assert len(report.epochs) == done
    assert (report.kept_epoch, report.best_epoch, report.top1) == (kept, kept, 60.0)
    assert report.stopped_early is (done < 6)
    manifest = artifact.read(tmp_path / "net").manifest
    assert manifest.report["stopped_early"] is (done < 6)
    assert manifest.options["patience"] == patience


def test_the_kept_weights_are_those_of_a_training_that_went_on(
    job: MakeJob, tmp_path: Path
) -> None:
    run(job(patience=2), tmp_path / "short")
    run(job(), tmp_path / "long")
    assert equal(tmp_path / "short", tmp_path / "long")
    run(job(patience=2, keep="last"), tmp_path / "last")
    assert not equal(tmp_path / "short", tmp_path / "last")


def test_a_stopped_training_that_was_interrupted_trains_no_further(
    job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_write", broken)
        with pytest.raises(KeyboardInterrupt):
            run(job(patience=2), tmp_path / "net")
    monkeypatch.setattr(Engine, "step", broken)  # any step more would end it again
    report = run(job(patience=2), tmp_path / "net")
    assert (len(report.epochs), report.kept_epoch, report.stopped_early) == (4, 2, True)


def test_patience_counts_over_an_interruption(
    job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        plain: Callable[..., Any] = Engine.run_epoch

        def until_the_fourth(self: Engine, number: int, *more: Any) -> Any:
            if number == 3:
                raise KeyboardInterrupt
            return plain(self, number, *more)

        patch.setattr(Engine, "run_epoch", until_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            run(job(patience=2), tmp_path / "net")
    with pytest.raises(InputError, match="--patience 2 "):
        run(job(patience=3), tmp_path / "net")
    report = run(job(patience=2), tmp_path / "net")
    assert (len(report.epochs), report.kept_epoch) == (4, 2)


def test_it_needs_images_to_judge_by(job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--patience has nothing to judge by"):
        run(replace(job(patience=2, keep="last"), evaluation=None), tmp_path / "net")
    with pytest.raises(InputError, match="--patience 0 cannot work"):
        job(patience=0)


def test_all_processes_stop_together(tiny: Any, tmp_path: Path) -> None:
    """Only the first one knows the accuracy: the others would wait for it in the next epoch."""
    data = ["finetune", tiny.checkpoint, "--data", tiny.train, "--eval", tiny.test]
    words = [*data, "--preprocess", tiny.toml, "--batch", 40, "--lr", 1e-9, "--epochs", 40]
    done = torchrun("-m", "edgedense", *words, "--patience", 2, "-o", tmp_path / "net", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["processes"] == 2
    assert report["stopped_early"] is True
    assert len(report["epochs"]) == report["best_epoch"] + 2 < 40
    assert report["kept_epoch"] == report["best_epoch"]  # patience keeps the best
    assert done.stderr.count("stopped: no gain in 2 epochs") == 1
