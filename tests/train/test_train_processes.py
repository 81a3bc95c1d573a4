"""Two processes must train as one does: real ones, by torchrun, gloo between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from edgedense.densenet.checkpoints import load_model

# measured: 1e-6 after 12 steps, from sums in another order; a wrong gradient gives 1e-2 and more
TOLERANCE = 1e-5


def words(tiny: Any, out: Path) -> list[str]:
    data = ("--data", tiny.train, "--eval", tiny.test, "--preprocess", tiny.toml)
    options = ("--blocks", "2,2", "--growth", 4, "--epochs", 4, "--batch", 40, "--lr", 0.05)
    return [str(word) for word in ("train", "-o", out, *data, *options)]


def torchrun(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc_per_node", "2", "-m", "edgedense", *command],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())["report"]
    return found


def difference(left: Path, right: Path) -> float:
    """The largest of all tensors, relative to each tensor's largest value."""
    one, two = (load_model(path).network.state_dict() for path in (left, right))
    assert one.keys() == two.keys()
    return max(
        float((one[key].double() - two[key].double()).abs().max() / one[key].double().abs().max())
        for key in one
        if one[key].any()
    )


@pytest.fixture(scope="module")
def alone(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with the whole batch."""
    out = tmp_path_factory.mktemp("alone") / "net"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    from edgedense.cli.main import cli

    cli.main(words(tiny, out), standalone_mode=False)
    torch.set_num_threads(threads)
    return out


def test_two_processes_give_the_weights_and_the_accuracy_of_one(
    tiny: Any, alone: Path, tmp_path: Path
) -> None:
    done = torchrun([*words(tiny, tmp_path / "net"), "--json"])
    assert done.returncode == 0, done.stderr
    ours, theirs = report(tmp_path / "net"), report(alone)
    assert json.loads(done.stdout) == ours  # one object: the other process said nothing
    assert ours["processes"] == 2
    assert difference(alone, tmp_path / "net") < TOLERANCE
    assert [e["top1"] for e in ours["epochs"]] == [e["top1"] for e in theirs["epochs"]]
    for mine, other in zip(ours["epochs"], theirs["epochs"], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_resumed_by_two_processes_in_the_memory_efficient_mode(
    tiny: Any, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.cli.main import cli
    from edgedense.train.engine import Engine

    plain: Callable[..., Any] = Engine.run_epoch

    def until_the_third(self: Engine, number: int, *more: Any) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return plain(self, number, *more)

    out = tmp_path / "net"
    monkeypatch.setattr(Engine, "run_epoch", until_the_third)
    with pytest.raises(click.Abort):
        cli.main(words(tiny, out), standalone_mode=False)
    monkeypatch.undo()
    refused = torchrun([*words(tiny, out), "--lr", "0.07"])
    assert refused.returncode != 0
    assert "--lr 0.05 (asked now: 0.07)" in refused.stderr
    done = torchrun([*words(tiny, out), "--memory-efficient"])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("going on after epoch 2") == 1
    assert "epoch 1 of 4" not in done.stderr
    assert difference(alone, out) < TOLERANCE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]
