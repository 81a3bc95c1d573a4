"""Which points a sweep has, which stages they share, and what is refused before any work."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense.build.options import PRECISIONS
from edgedense.environment import installed, thread_limit
from edgedense.errors import InputError, MachineError
from edgedense.pipeline import Inputs, Parallel, Sources, SweepOptions, plan_sweep
from edgedense.pipeline.parallel import _threads, started
from edgedense.pipeline.points import point_steps
from edgedense.prune import PruneOptions
from edgedense.quantize import QuantizeOptions


def names(options: SweepOptions) -> list[str]:
    return [point.name for point in options.points()]


def stages(inputs: Inputs, options: SweepOptions) -> dict[str, tuple[str, ...]]:
    return {
        step.name: step.after
        for point in options.points()
        for step in point_steps(inputs, options, point)
    }


def test_only_int8_has_placements_and_efforts() -> None:
    options = SweepOptions((1, 0.5), precisions=("int8", "fp32"), efforts=("fast", "default"))
    for share in ("1", "0.5"):
        mine = [name.split("-", 1)[1] for name in names(options) if name.startswith(f"{share}-")]
        assert sorted(mine) == [
            "fp32",
            *("int8-block", "int8-block-fast", "int8-conv", "int8-conv-fast"),
        ]
    assert len(names(options)) == 10


def test_a_share_given_twice_is_one_point() -> None:
    assert names(SweepOptions((0.7, 1.0, 0.70000001, 1), ("conv",))) == [
        "1-int8-conv",
        "0.7-int8-conv",
    ]


def test_points_share_their_stages(inputs: Inputs) -> None:
    options = SweepOptions((1.0, 0.8), precisions=("int8", "fp16"))
    found = stages(inputs, options)
    kinds = [name.partition("-")[0] for name in found]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    # fp16 files lie beside int8 files
    assert counts == {"reference": 1, "prune": 1, "quantize": 4, "engine": 6, "validate": 6}
    assert found["quantize-1-conv"] == ("reference",)
    assert found["quantize-0.8-block"] == ("reference", "prune-0.8")
    assert found["engine-0.8-int8-block"] == ("quantize-0.8-block",)
    assert found["engine-0.8-fp16"] == ("quantize-0.8-conv",)
    assert found["validate-0.8-fp16"] == ("engine-0.8-fp16",)


def test_without_int8_quantizing_is_as_short_as_it_can_be(inputs: Inputs) -> None:
    options = SweepOptions((1.0,), precisions=("fp32", "fp16"))
    assert "quantize-1-conv-fast" in stages(inputs, options)
    assert options.deploy(options.points()[0]).quantize.effort == "fast"


def test_what_all_points_have_in_common_reaches_each() -> None:
    common = {"images": 40, "seed": 3}
    options = SweepOptions(
        (1.0, 0.8), prune=PruneOptions(**common), quantize=QuantizeOptions(**common)
    )
    whole, pruned = (options.deploy(options.points()[k]) for k in (0, 2))
    assert whole.prune is None
    assert pruned.prune == PruneOptions(macs=0.8, **common)
    assert pruned.quantize == QuantizeOptions(placement="conv", **common)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match="no share of the MACs"):
        SweepOptions((1.0, share))


def test_options_that_cannot_be_are_refused() -> None:
    for changed, said in (
        ({"targets": ("toaster",)}, "toaster"),
        ({"precisions": ("int4",)}, "int4"),
        ({"macs": ()}, "no macs"),
        ({"batch": (4, 2, 8)}, "ascending"),
    ):
        with pytest.raises(InputError, match=said):
            SweepOptions(**changed)
    for bad, said in (
        ({"jobs": 0}, "--jobs 0"),
        ({"threads": -1}, "--threads -1"),
        ({"engine": "oxen"}, "--engine oxen"),
    ):
        with pytest.raises(InputError, match=said):
            Parallel(**bad)


@pytest.mark.skipif(installed("ray"), reason="Ray is installed")
def test_ray_is_asked_for_before_any_work() -> None:
    with pytest.raises(MachineError, match="ray"):
        Parallel(engine="ray").check()


class Ray(types.ModuleType):
    """As much of Ray as a sweep touches, with its tree of exceptions."""

    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        pass

    def __init__(self, init: Callable[..., None] = lambda **_: None) -> None:
        super().__init__("ray")
        self.exceptions, self.init = self, init
        self.remote = lambda **_: lambda function: function
        self.down = False

    def shutdown(self) -> None:
        self.down = True


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray)
    return ray


def test_a_cluster_that_cannot_be_reached_is_no_bug(ray: Ray) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nTry again.")

    ray.init = init
    wanted = "^Ray: Could not find any running Ray instance"
    with pytest.raises(MachineError, match=wanted), started(Parallel(engine="ray")):
        pass


def test_what_ray_loses_is_no_bug_and_what_fails_in_it_is_one(ray: Ray) -> None:
    with pytest.raises(MachineError, match="RayError") as told, started(Parallel(engine="ray")):
        raise Ray.RayError
    assert "ray status" in told.value.remedy
    assert ray.down
    with pytest.raises(Ray.RayTaskError), started(Parallel(engine="ray")):
        raise Ray.RayTaskError("ZeroDivisionError")


def test_jobs_fill_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedense.pipeline.parallel.cores", lambda: 8)
    assert [Parallel(None, threads).count for threads in (1, 3, 16)] == [8, 2, 1]
    assert Parallel(5, 4).count == 5


@pytest.mark.parametrize(
    ("told", "threads"), [(None, 0), ("", 0), ("3", 3), ("4,2", 4), ("-1", 0), ("many", 0)]
)
def test_the_threads_of_a_job_are_told_by_the_environment(
    told: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert thread_limit() == threads
    with _threads(2):
        assert thread_limit() == 2
    assert os.environ.get("OMP_NUM_THREADS") == told


def test_a_plan_checks_the_inputs_and_writes_nothing(
    tiny: Any, inputs: Inputs, tmp_path: Path
) -> None:
    sources = Sources(tiny.checkpoint, tiny.train, tiny.test, inputs.preprocess)
    planned = plan_sweep(sources, tmp_path / "run", SweepOptions((1.0, 0.8)))
    assert (planned.cached, planned.seconds) == ((), None)
    assert len(planned.points) == 4
    assert not any(line.reused for line in planned.stages)
    assert [line.stage for line in planned.stages][-1] == "latency"
    leaky = Sources(tiny.checkpoint, tiny.test, tiny.test, inputs.preprocess)
    with pytest.raises(InputError, match="evaluation images too"):
        plan_sweep(leaky, tmp_path / "run", SweepOptions((1.0,)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--macs", "1,much"],
        ["--macs", "1,,0.5"],
        ["--macs", "1,2"],
        ["--placement", "conv,cellar"],
        ["--target", "toaster"],
        ["--jobs", "0"],
        ["--engine", "oxen"],
    ],
    ids=" ".join,
)
def test_bad_words_are_exit_2_before_any_work(
    words: list[str], tiny: Any, tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    given = ["sweep", tiny.checkpoint, "--calib", tiny.train, "--eval", tiny.test]
    ended = edgedense(*given, "--preprocess", tiny.toml, "-o", tmp_path / "run", *words)
    assert ended.code == 2
    assert len(ended.error) == 2
    assert list(tmp_path.iterdir()) == []


def test_words_of_the_command_are_those_of_the_options() -> None:
    from edgedense.cli import params
    from edgedense.pipeline.points import _EFFORTS, _PLACEMENTS

    assert tuple(params.PRECISION.choices) == PRECISIONS
    assert tuple(params.PLACEMENT.choices) == _PLACEMENTS
    assert {"fast", "default"} <= set(params.EFFORT.choices) <= set(_EFFORTS)
