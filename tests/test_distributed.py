"""Real processes by torchrun, gloo between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgedense.distributed import World, barrier, from_first, gather, joined, world
from edgedense.errors import InputError

# each process checks what it got, and rank 0 writes down what only rank 0 gets
PROBE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from torch import distributed as dist, nn
from edgedense.distributed import barrier, from_first, gather, joined, world
from edgedense.errors import InputError
from edgedense.train.syncnorm import synchronise

found = {}
def refuse():
    raise InputError("what is wrong", "what mends it")

torch.set_num_threads(1)
with joined() as here:
    assert here == world()
    rows = gather({
        "file": np.arange(3 + 1000 * here.rank) + here.rank,
        "odd/name é": np.full((0, 2), 1.5, np.float16),
    })
    assert (rows is None) == (here.rank > 0)
    if rows:
        found["gathered"] = [[row["file"].tolist(), row["odd/name é"].shape,
                              str(row["odd/name é"].dtype)] for row in rows]
        found["empty"] = gather({})
    else:
        gather({})
    assert from_first(lambda: b"rank %d" % here.rank) == b"rank 0"
    assert from_first(lambda: b"") == b""
    try:
        from_first(refuse)
        raise SystemExit("no error arrived")
    except InputError as error:
        assert (error.what, error.remedy) == ("what is wrong", "what mends it")
    barrier()

    # BN over both halves of a batch, of different sizes, against BN over the whole
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 2, 2, generator=generator) * 3 + 20
    weights = torch.randn(7, 3, 2, 2, generator=generator)
    plain, ours = (nn.Sequential(nn.BatchNorm2d(3)).train() for _ in range(2))
    for network in (plain, ours):
        nn.init.uniform_(network[0].weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
    names = list(plain.state_dict())
    synchronise(ours, dist.new_group())
    assert list(ours.state_dict()) == names
    rows = slice(0, 3) if here.rank == 0 else slice(3, 7)
    whole, part = x.clone().requires_grad_(), x[rows].clone().requires_grad_()
    for _ in range(2):
        y, mine = plain(whole), ours(part)
    torch.testing.assert_close(mine, y[rows], rtol=1e-5, atol=1e-5)
    (y * weights).sum().backward()
    (mine * weights[rows]).sum().backward()
    torch.testing.assert_close(part.grad, whole.grad[rows], rtol=1e-4, atol=1e-5)
    for name, parameter in ours.named_parameters():
        dist.all_reduce(parameter.grad)
        torch.testing.assert_close(parameter.grad, dict(plain.named_parameters())[name].grad,
                                   rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    y, mine = plain.eval()(x), ours.eval()(x[rows])
    torch.testing.assert_close(mine, y[rows], rtol=1e-5, atol=1e-5)
    assert not dist.get_world_size() == 1
    if here.first:
        Path(sys.argv[1]).write_text(json.dumps(found))
assert not dist.is_initialized()
"""


def test_two_processes_exchange_and_normalise_as_one(tmp_path: Path) -> None:
    script, out = tmp_path / "probe.py", tmp_path / "found.json"
    script.write_text(PROBE, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, "--nproc_per_node", "2", str(script), str(out)],
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(out.read_text())
    first, second = found["gathered"]
    assert first == [[0, 1, 2], [0, 2], "float16"]
    assert second == [list(range(1, 1004)), [0, 2], "float16"]
    assert found["empty"] == [{}, {}]


# rank 1 fails while rank 0 waits for it: both must tell why, whoever is asked
FAILING = """
import sys
from pathlib import Path
from edgedense.distributed import barrier, joined, world
from edgedense.errors import InputError, MachineError

try:
    with joined() as here:
        if not here.first:
            raise getattr(sys.modules[__name__], sys.argv[2])("what is wrong", "what mends it")
        barrier()
except (InputError, MachineError) as error:
    told = f"{type(error).__name__}: {error.what}; {error.remedy}"
    Path(sys.argv[1], str(world().rank)).write_text(told)
"""


@pytest.mark.parametrize("kind", ["InputError", "MachineError"])
def test_the_error_of_one_process_is_that_of_all(tmp_path: Path, kind: str) -> None:
    script, out = tmp_path / "failing.py", tmp_path / "told"
    script.write_text(FAILING, encoding="utf-8")
    out.mkdir()
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", str(script), str(out), kind),
        ],
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wanted = f"{kind}: what is wrong; what mends it"
    assert {p.name: p.read_text() for p in out.iterdir()} == {"0": wanted, "1": wanted}


def test_alone_everything_is_at_hand() -> None:
    with joined() as here:
        assert here == world() == World(0, 1, 0)
        assert here.first
    barrier()
    (found,) = gather({"a": np.arange(3)}) or []
    np.testing.assert_array_equal(found["a"], np.arange(3))
    assert from_first(lambda: b"x") == b"x"


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("a", "2"), ("0", "")])
def test_an_impossible_place_is_refused(
    monkeypatch: pytest.MonkeyPatch, rank: str, size: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InputError, match=f"RANK={rank}"):
        world()


def test_batches_are_split_evenly_or_not_at_all() -> None:
    World(1, 3).check_divides(9)
    with pytest.raises(InputError, match="64 images cannot be split over 3") as caught:
        World(1, 3).check_divides(64)
    assert "--batch 63" in caught.value.remedy


def test_other_processes_are_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgedense.cli.terminal import Terminal, emit

    for rank, spoken in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        terminal = Terminal()
        assert list(terminal.track(range(3), "work")) == [0, 1, 2]
        terminal.say("news")
        terminal.table("title", ("", ""), [(1, 2)])
        emit({})
        out, err = capsys.readouterr()
        assert (bool(out), bool(err)) == (spoken, spoken)
