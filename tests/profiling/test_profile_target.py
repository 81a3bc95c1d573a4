"""Measuring a device: what is measured, by which networks, and what is left after Ctrl-C."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgedense import environment
from edgedense.densenet.spec import DenseNetSpec
from edgedense.engines.runner import Floats, Images, Interface
from edgedense.environment import has_gpu, installed
from edgedense.errors import InputError, MachineError
from edgedense.graph.nodes import Affine, Conv, Graph, Relu
from edgedense.latency import predict, read_table
from edgedense.profiling import Shape, plan, profile_target, shapes, stage
from edgedense.profiling.engines import built, export, precisions
from edgedense.profiling.grid import LONG, chain, networks
from edgedense.profiling.measure import Effort, difference_us, interleaved
from edgedense.targets import find_target

CPU = find_target("cpu")
QUICK = plan(CPU, quick=True)


@dataclass
class Linear:
    """Stands for an engine on a device whose time is known: ``us`` for a graph."""

    graph: Graph
    name: str = "linear"
    closed: bool = False
    product_us: ClassVar[float] = 1e-3

    @property
    def interface(self) -> Interface:
        return Interface("images", self.graph.input_shape, "logits", (1,))

    def __call__(self, images: Images) -> Floats:
        return np.zeros((1, 1), np.float32)

    def close(self) -> None:
        self.closed = True

    @property
    def us(self) -> float:
        pixels = self.graph.input_shape[1] * self.graph.input_shape[2]
        total = 100.0
        for node in self.graph.nodes:
            if isinstance(node, Conv):
                total += 3 + self.product_us * node.weight.size * pixels
            elif isinstance(node, Affine):
                total += 2 + 1e-2 * len(node.scale) * pixels
        return total


@pytest.fixture
def linear(monkeypatch: pytest.MonkeyPatch) -> list[Linear]:
    """Profile a linear device in place of this machine."""
    made: list[Linear] = []

    def build(graph: Graph, *_: Any) -> Linear:
        made.append(Linear(graph))
        return made[-1]

    def times(runners: Sequence[Linear], effort: Effort) -> Any:
        return np.array([[runner.us for runner in runners]] * effort.rounds)

    monkeypatch.setattr(stage, "built", build)
    monkeypatch.setattr(stage, "interleaved", times)
    return made


@pytest.mark.parametrize("product_us", [1e-3, 0.0])
def test_rows_are_what_the_layers_take_alone(
    linear: list[Linear], tmp_path: Path, product_us: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Linear, "product_us", product_us)
    report = profile_target(QUICK, tmp_path / "deep" / "table.json")
    table = read_table(tmp_path / "deep" / "table.json")
    for row in table.rows:
        if row.kind == "pass":
            # with each comes a part of the convolution that makes the earlier channels
            wanted = 2 + 1e-2 * row.fan_in * row.positions + 3 / LONG
            if product_us:
                continue  # some convolutions are a little narrower beside passes
        else:
            side = 1 if row.kind == "conv1x1" else 3
            wanted = 3 + product_us * row.fan_in * row.out * side**2 * row.positions
        assert row.us == pytest.approx(wanted)
    measured = {(row.kind, row.precision) for row in table.rows}
    kinds = ("conv1x1", "conv3x3", "pass")
    assert measured == {(kind, precision) for kind in kinds for precision in ("fp32", "int8")}
    assert (table.target, report.rows, report.lost) == ("cpu", len(table.rows), 0)
    assert table.device == report.device
    assert len(linear) == QUICK.engines
    assert all(runner.closed for runner in linear)
    assert predict(DenseNetSpec.build([2], 8, num_classes=3), (8, 8), CPU, table=table).measured


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("shape", [Shape(1, 16, 8, 5), Shape(3, 12, 5, 6)], ids=str)
def test_every_network_runs_by_the_real_builders(
    shape: Shape, precision: Any, tmp_path: Path
) -> None:
    found = list(networks(shape, precision))
    assert len(found) == 2 + shape.has_pass
    images = np.random.default_rng(0).standard_normal((1, 3, shape.side, shape.side))
    for k, graph in enumerate(found):
        (tmp_path / str(k)).mkdir()
        runner = built(graph, precision, CPU, tmp_path / str(k))
        logits = runner(images.astype(np.float32))
        assert logits.shape == (1, 1)
        assert np.isfinite(logits).all()
        runner.close()


def test_integer_chains_hold_no_floating_convolution_but_the_first(tmp_path: Path) -> None:
    import onnx

    graph = chain(Shape(1, 16, 8, 4), LONG, "int8", passes=True)
    found = onnx.load(export(graph, "int8", CPU, tmp_path / "chain.onnx")).graph.node
    assert sum(node.op_type == "Conv" for node in found) == 1
    assert sum(node.op_type == "QLinearConv" for node in found) == 3 * LONG + 1
    assert not any(node.op_type == "BatchNormalization" for node in found)


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_tensorrt_builds_the_chains(precision: Any, tmp_path: Path) -> None:
    from edgedense.build import BuildOptions
    from edgedense.build.tensorrt import build_tensorrt
    from edgedense.engines.tensorrt_api import load

    ada = find_target("rtx-ada")
    graph = chain(Shape(1, 64, 32, 8), 2, precision, passes=True)
    ends = Interface("images", (3, 8, 8), "logits", (1,))
    engine = build_tensorrt(
        load(ada.module),
        export(graph, precision, ada, tmp_path / "chain.onnx"),
        tmp_path / "model.engine",
        interface=ends,
        options=BuildOptions("rtx-ada", precision, (1, 1, 1)),
        target=ada,
    )
    assert engine.file.stat().st_size > 0


def test_the_chains_fold_nothing() -> None:
    """A BN right behind a convolution would fold into it, and take no time."""
    for shape in (Shape(1, 16, 8, 4), Shape(3, 16, 8, 4)):
        for precision in ("fp32", "int8"):
            graph = chain(shape, 3, precision, passes=True)
            nodes = {node.name: node for node in graph.nodes}
            for node in graph.nodes:
                if isinstance(node, Affine):
                    before = nodes[node.input]
                    assert not isinstance(before, Conv)
                if isinstance(node, Conv):
                    readers = graph.readers()[node.name]
                    assert [type(nodes[name]) for name in readers] == [Relu]


def test_the_grid_and_its_plan() -> None:
    assert len(set(shapes())) == len(shapes()) > len(shapes(quick=True))
    whole = plan(CPU)
    assert whole.seconds > QUICK.seconds
    assert len(whole.points) == 2 * len(shapes())
    assert precisions(find_target("jetson-orin-nano")) == ("fp16", "int8")
    assert precisions(find_target("jetson-nano")) == ("fp16",)
    assert plan(find_target("jetson-orin-nano")).seconds > 5 * whole.seconds


class Ticking:
    """A runner that takes ``us`` on its own clock, and now and then much longer."""

    def __init__(self, us: int, now: list[int]) -> None:
        self.us, self.now, self.calls = us, now, 0
        self.interface = Interface("images", (1, 2, 2), "logits", (1,))

    def __call__(self, images: Images) -> Floats:
        self.calls += 1
        self.now[0] += 1000 * self.us * (50 if self.calls % 7 == 0 else 1)
        return np.zeros((1, 1), np.float32)


def test_medians_of_interleaved_rounds_shrug_off_outliers() -> None:
    now = [0]
    runners: Any = [Ticking(10, now), Ticking(40, now)]
    times = interleaved(runners, Effort(9, 1.0, 0.001), lambda: now[0])
    assert times.shape == (9, 2)
    assert difference_us(times, 1, 0, 3) == pytest.approx(10)
    assert difference_us(times, 0, 1, 3) is None
    noise = np.array([[0, 5], [5, 0], [0, 5], [5, 0], [0, 5.0]])
    assert difference_us(noise, 1, 0, 1) is None


def test_what_is_lost_in_noise_is_left_out(
    linear: list[Linear], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = [[1.0, 1.0, 9.0]] * 4  # no difference but the pass's
    monkeypatch.setattr(stage, "interleaved", lambda r, _: np.array(same)[:, : len(r)])
    report = profile_target(QUICK, tmp_path / "table.json")
    assert {row.kind for row in read_table(tmp_path / "table.json").rows} == {"pass"}
    assert report.lost == len(QUICK.points)
    monkeypatch.setattr(stage, "interleaved", lambda r, _: np.ones((4, len(r))))
    with pytest.raises(MachineError, match="noise"):
        profile_target(QUICK, tmp_path / "none.json")
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_an_interruption_leaves_nothing(
    linear: list[Linear], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        profile_target(QUICK, tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(linear: list[Linear], tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("mine")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: Not a directory"):
        profile_target(QUICK, tmp_path / "file" / "table.json")
    with pytest.raises(InputError, match="exists already"):
        profile_target(QUICK, tmp_path / "table.json")
    assert (tmp_path / "table.json").read_text() == "mine"
    assert not linear


def test_what_the_machine_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_gpu():
        with pytest.raises(MachineError, match="only be measured on that device"):
            profile_target(plan(find_target("jetson-orin-nano")), tmp_path / "t.json")
    monkeypatch.setattr(environment, "installed", lambda module: module != "onnx")
    with pytest.raises(MachineError, match="needs onnx") as caught:
        profile_target(QUICK, tmp_path / "t.json")
    assert caught.value.remedy.startswith("pip install")


def test_a_dry_run_measures_nothing(edgedense: Callable[..., Any], tmp_path: Path) -> None:
    ended = edgedense("profile-target", "--target", "jetson-orin-nano", "--dry-run", "--json")
    found = json.loads(ended.out)
    assert ended.code == 0
    assert found["points"][0] == "fp16 1x1 48-16 at 7x7"
    assert found["estimated_seconds"] > 60
    told = edgedense("profile-target", "--target", "cpu", "--quick", "--dry-run")
    assert "nothing was measured" in told.err
    ended = edgedense("profile-target", "--target", "cpu")
    assert (ended.code, "-o TABLE.json" in ended.err) == (2, True)


def test_no_torch_is_needed(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from edgedense.profiling import plan, profile_target\n"
        "from edgedense.targets import find_target\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "whole = plan(find_target('cpu'), quick=True)\n"
        "few = replace(whole, points=(whole.points[1], whole.points[-1]))\n"
        "profile_target(few, Path(sys.argv[1]))"
    )
    table = tmp_path / "table.json"
    done = subprocess.run(
        [sys.executable, "-c", script, str(table)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "lost in the noise" in done.stderr, done.stderr
