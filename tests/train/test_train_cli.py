from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgedense.densenet.family import initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec

QUICK = ("--epochs", 2, "--batch", 30, "--growth", 4, "--blocks", "2,2", "--lr", 0.05)


@pytest.fixture
def words(tiny: Any) -> list[object]:
    return ["train", "--data", tiny.train, "--preprocess", tiny.toml, *QUICK]


def test_train_finetune_and_on(
    tiny: Any, words: list[object], edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    net, tuned = tmp_path / "net", tmp_path / "tuned"
    ended = edgedense(*words, "-o", net, "--eval", tiny.test, "--json")
    assert ended.code == 0, ended.err
    report = json.loads((net / "manifest.json").read_text())["report"]
    assert json.loads(ended.out) == report
    assert len(report["epochs"]) == 2
    more = ["--data", tiny.train, "--epochs", 1, "--batch", 30, "--teacher", tiny.checkpoint]
    ended = edgedense("finetune", net, "-o", tuned, *more, "--eval", tiny.test, "--keep", "best")
    assert (ended.code, ended.out) == (0, ""), ended.err
    assert "top-1" in ended.err
    manifest = json.loads((tuned / "manifest.json").read_text())
    assert manifest["options"]["lr"] == 0.001
    ended = edgedense("inspect", tuned, "--json")
    assert json.loads(ended.out)["block_config"] == [2, 2]


def test_dry_run(words: list[object], edgedense: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgedense(*words, "--dry-run", "--json", "--no-augment")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["steps_per_epoch"], found["images"], found["left_out"]) == (4, 120, 0)
    ended = edgedense(*words, "--dry-run", "--batch", 50)
    assert "20 each epoch" in ended.err
    shown = edgedense(*words, "-o", tmp_path / "net", "--dry-run")
    assert "0.05 from epoch 1, 0.005 from epoch 2" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_terminal_gets_one_line_an_epoch(
    tiny: Any, words: list[object], edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    ended = edgedense(*words, "-o", tmp_path / "net", "--eval", tiny.test)
    assert ended.code == 0, ended.err
    told = [line for line in ended.err.splitlines() if "epoch 2" in line and "loss" in line]
    assert len(told) == 1
    assert "evaluate" not in ended.err
    assert "epoch 1 of 2 (" not in ended.err


def test_an_interrupt_is_told_once_and_truly(
    words: list[object],
    edgedense: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgedense.train.engine import Engine

    plain: Callable[..., Any] = Engine.run_epoch

    def until_the_second(self: Engine, number: int, *more: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return plain(self, number, *more)

    monkeypatch.setattr(Engine, "run_epoch", until_the_second)
    ended = edgedense(*words, "-o", tmp_path / "net", "--json")
    kept = f"1 of 2 epochs are kept in {tmp_path / 'net'}.training: the same command goes on from"
    assert (ended.code, ended.error) == (130, ["error: interrupted", f"  → {kept} there."])
    assert ended.err.count("kept") == 1
    assert json.loads(ended.out)["remedy"] == f"{kept} there."


def test_a_training_that_diverged_says_so(
    words: list[object], edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    ended = edgedense(*words, "-o", tmp_path / "net", "--lr", 100, "--epochs", 1, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["diverged"] is True
    assert "warning: training diverged" in ended.err.splitlines()[-1]
    assert "--lr below 100" in ended.err


def save_pairs(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for name, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
        (folder / name).mkdir(parents=True)
        for k in range(6):
            values = random.integers(0, 2, shape).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{k}.png")
    return folder


def test_segmentation_wants_class_names_and_reports_mean_iou(
    tiny: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    data = save_pairs(tmp_path / "set")
    words = ["train", "--data", data, "--preprocess", tiny.toml, "--arch", "fc-densenet56"]
    ended = edgedense(*words, "--dry-run")
    assert ended.code == 2
    assert str(data / "classes.txt") in ended.error[1]
    (data / "classes.txt").write_text("a\nb\n")
    ended = edgedense(*words[:-2], "--blocks", "2,2", "--dry-run")
    assert (ended.code, "has masks" in ended.error[0]) == (2, True)
    spec = FCDenseNetSpec.build((2,), 2, 4, num_classes=2, stem_width=6)
    network = initialised(spec, 0)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    more = ["--preprocess", tiny.toml, "--eval", data, "--epochs", 2, "--keep", "best"]
    ended = edgedense(
        "finetune", tmp_path / "net.pth", "-o", tmp_path / "net", "--data", data, *more
    )
    assert ended.code == 0, ended.err
    assert "mean IoU, best" in ended.err
    assert "pixel accuracy, last" in ended.err
    assert "top-1" not in ended.err
    manifest = json.loads((tmp_path / "net" / "manifest.json").read_text())
    report, options = manifest["report"], manifest["options"]
    assert report["epochs"][0]["miou"] > 0
    assert report["top1"] is None
    assert (options["optimizer"], options["lr"]) == ("rmsprop", 2e-5)


def test_the_zoo_is_asked_for_names(
    tiny: Any, words: list[object], edgedense: Callable[..., Any]
) -> None:
    base = ["train", "--data", tiny.train, "--preprocess", tiny.toml, "--batch", 4, "--dry-run"]
    ended = edgedense(*base, "--arch", "densenet_bc_100_12", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["epochs"] == 300
    # published: 769,162 for 10 classes
    assert found["params"] == 769_162 - 7 * (342 + 1)


def test_growth_and_pool_of_the_network(
    words: list[object], edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    more = ["--growth", "4,6", "--pool", "max", "--epochs", 1]
    ended = edgedense(*words, "-o", tmp_path / "net", *more)
    assert ended.code == 0, ended.err
    spec = json.loads((tmp_path / "net" / "manifest.json").read_text())["model"]["spec"]
    assert spec["pool"] == "max"
    assert [block[0]["growth"] for block in spec["blocks"]] == [4, 6]


def test_finetuning_does_not_swap_red_and_blue(
    tiny: Any, edgedense: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.cli import params
    from edgedense.densenet.checkpoints import Model

    plain = params.read_model

    def of_caffe(path: Path) -> Model:
        return replace(plain(path), preset="caffe")

    monkeypatch.setattr(params, "read_model", of_caffe)
    more = ["--data", tiny.train, "--epochs", 1, "--preprocess", tiny.toml]
    ended = edgedense("finetune", tiny.checkpoint, "-o", tmp_path / "net", *more)
    assert (ended.code, "trains on BGR" in ended.error[0]) == (2, True)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--arch", "densenet121"], "two different networks"),
        (["--amp"], "--amp needs an NVIDIA GPU"),
        (["--keep", "best"], "--keep best has nothing to judge by"),
        (["--blocks", "2,x"], "no list such as"),
        (["--blocks", "0,2"], "not all are 1 or more"),
        (["--growth", "4,4,4"], "not one rate a block"),
        (["--compression", 0], "--compression 0"),
    ],
)
def test_bad_usage_is_told(
    words: list[object],
    edgedense: Callable[..., Any],
    tmp_path: Path,
    more: list[object],
    named: str,
) -> None:
    if "--amp" in more and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ended = edgedense(*words, "-o", tmp_path / "net", *more)
    assert ended.code in (2, 3)
    assert named in ended.error[0]
    assert len(ended.error) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_network_or_a_place_that_is_not_given(
    tiny: Any, words: list[object], edgedense: Callable[..., Any]
) -> None:
    ended = edgedense(*words)
    assert (ended.code, ended.error[0]) == (2, "error: no place for the result")
    ended = edgedense("train", "--data", tiny.train, "--preprocess", tiny.toml, "--dry-run")
    assert (ended.code, "Neither --arch nor --blocks" in ended.error[0]) == (2, True)
