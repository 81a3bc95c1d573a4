"""Two processes must train as one does: real ones, by torchrun, gloo between them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from edgedense.densenet.checkpoints import load_model

# in double precision, where sums in another order differ by 1e-15; measured: 5e-15 after 18 steps
EXACT = 1e-12
# in single precision rounding grows with each step; measured: 1e-6 to 3e-4 after 12 to 18 steps,
# and 3e-2 where each process normalises by itself
CLOSE = 2e-3

# each process trains alone on the whole batches, then with the other on its half of each
PROBE = """
import json, sys
import torch
from edgedense.densenet.family import initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.distributed import World, joined
from edgedense.train import TrainOptions
from edgedense.train.engine import Engine, Streams
from edgedense.train.stream import Drawn

BC = DenseNetSpec.build((2, 2), 4, num_classes=3)
TIRAMISU = FCDenseNetSpec.build((2, 2), 2, 3, num_classes=3, stem_width=6, dropout=0.0)

def trained(world, spec=BC, **options):
    network = initialised(spec, 0).double()
    given = TrainOptions(epochs=1, batch=12, lr=0.05, **options)
    engine = Engine(network, Streams(None, None), given, world)
    generator = torch.Generator().manual_seed(0)
    share = 12 // world.size
    mine = slice(world.rank * share, (world.rank + 1) * share)
    for step in range(8):
        images = torch.randn(12, 3, 8, 8, generator=generator, dtype=torch.float64)
        targets = torch.randint(0, 3, (12, 8, 8), generator=generator)
        targets[2:5] = 255  # void, of the first process alone
        if spec is BC:
            targets = targets[:, 0, 0] % 3
        loss = engine.step(Drawn(images[mine], targets[mine]), 0)
    return {"loss": torch.tensor(loss), **network.state_dict()}

def difference(one, two):
    assert one.keys() == two.keys()
    # a bias in front of a BN has no gradient: what it holds is rounding, below any floor
    sizes = {k: max(float(one[k].abs().max()), 1e-3) for k in one}
    return max(float((one[k] - two[k]).abs().max()) / sizes[k] for k in one)

torch.set_num_threads(1)
with joined() as here:
    alone = trained(World())
    found = {
        "plain": difference(alone, trained(here)),
        "efficient": difference(alone, trained(here, memory_efficient=True)),
        "masks": difference(trained(World(), TIRAMISU), trained(here, TIRAMISU)),
        "apart": difference(alone, trained(here, sync_bn=False)),
    }
    if here.first:
        print(json.dumps(found))
"""


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc_per_node", "2", *map(str, words)],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    done = torchrun(script)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plain"] < EXACT
    assert found["efficient"] < EXACT
    assert found["masks"] < EXACT
    assert found["apart"] > 1e-3  # so the others could have failed


def norm_difference(left: Path, right: Path) -> float:
    one, two = (load_model(path).network.state_dict() for path in (left, right))
    assert one.keys() == two.keys()
    keys = [key for key in one if one[key].is_floating_point()]
    first, second = (torch.cat([s[key].flatten() for key in keys]) for s in (one, two))
    return float((first - second).norm() / first.norm())


def test_two_processes_resume_what_one_began(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.cli.main import cli
    from edgedense.train.engine import Engine

    data = ["train", "--data", tiny.train, "--eval", tiny.test, "--preprocess", tiny.toml]
    options = ["--blocks", "2,2", "--growth", 4, "--epochs", 4, "--batch", 40, "--lr", 0.05]

    def words(name: str) -> list[str]:
        return [str(word) for word in (*data, *options, "-o", tmp_path / name)]

    cli.main(words("alone"), standalone_mode=False)
    plain: Callable[..., Any] = Engine.run_epoch

    def until_the_second(self: Engine, number: int, *more: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return plain(self, number, *more)

    monkeypatch.setattr(Engine, "run_epoch", until_the_second)
    with pytest.raises(click.Abort):
        cli.main(words("both"), standalone_mode=False)
    done = torchrun("-m", "edgedense", *words("both"), "--memory-efficient", "--json")
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        json.loads((tmp_path / name / "manifest.json").read_text())["report"]
        for name in ("both", "alone")
    )
    assert json.loads(done.stdout) == ours  # one object: the other process said nothing
    assert done.stderr.count("going on after epoch 1") == 1
    assert "epoch 1 of 4" not in done.stderr
    assert (ours["processes"], theirs["processes"]) == (2, 1)
    assert [e["top1"] for e in ours["epochs"]] == [e["top1"] for e in theirs["epochs"]]
    for mine, other in zip(ours["epochs"], theirs["epochs"], strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=CLOSE)
    assert norm_difference(tmp_path / "alone", tmp_path / "both") < CLOSE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "both"]


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if re.match("(process 1: )?error: ", line)]


def test_an_error_of_all_processes_is_told_by_the_first(tiny: Any, tmp_path: Path) -> None:
    words = ["train", "--data", tiny.train, "--preprocess", tiny.toml, "--blocks", "2,2"]
    for more in (["--data", tmp_path / "nowhere"], ["--batch", 31]):
        done = torchrun("-m", "edgedense", *words, "-o", tmp_path / "net", *more, "--json")
        (line,) = told(done)
        assert line.startswith("error: ")
        assert json.loads(done.stdout)["error"] == line.removeprefix("error: ")


def test_an_error_of_one_process_is_told_once(tiny: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny.train, tmp_path / "set"))
    (folder / "red" / "007.png").write_bytes(b"no image")
    words = ["train", "--data", folder, "--preprocess", tiny.toml, "-o", tmp_path / "net"]
    # an ImageNet stem reads the files anew each epoch, each process its own
    small = ["--stem", "imagenet", "--blocks", "1", "--growth", 4, "--epochs", 1, "--batch", 40]
    done = torchrun("-m", "edgedense", *words, *small, "--json")
    (line,) = told(done)
    assert "007.png is no image" in line
    assert json.loads(done.stdout)["error"] in line
