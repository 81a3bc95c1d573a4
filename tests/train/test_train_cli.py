from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    assert manifest["options"]["lr"] == 0.01
    ended = edgedense("inspect", tuned, "--json")
    assert json.loads(ended.out)["block_config"] == [2, 2]


def test_dry_run(words: list[object], edgedense: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgedense(*words, "--dry-run", "--json", "--no-augment")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["steps_per_epoch"], found["images"]) == (4, 120)
    shown = edgedense(*words, "-o", tmp_path / "net", "--dry-run")
    assert "0.05 from epoch 1, 0.005 from epoch 2" in shown.err
    assert list(tmp_path.iterdir()) == []


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
    import torch

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
