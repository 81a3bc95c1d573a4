from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_api import RTX, Api, Script
from recorded_gpu import BINDINGS

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.engines.fit import Built
from edgedense.engines.layer_times import layer_times
from edgedense.engines.opening import open_engine
from edgedense.engines.runner import Interface, Phases
from edgedense.engines.tensorrt import TensorRTRunner
from edgedense.errors import InputError, MachineError

Install = Callable[..., Api]
INTERFACE = Interface("images", (3, 4, 4), "logits", (10,))
IMAGES = np.ones((2, 3, 4, 4), np.float32)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "model.engine").write_bytes(b"PLAN")
    return tmp_path / "model.engine"


def in_thread(work: Callable[[], object]) -> BaseException | None:
    """What ``work`` raises in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_two_threads_at_once_are_refused_one_after_the_other_is_fine(
    api: Install, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = api("10.3.0")
    runner = TensorRTRunner(plan, INTERFACE)
    refusals: list[BaseException | None] = []
    wait = fake.cuda_python.cuStreamSynchronize

    def intruded(stream: object) -> object:
        monkeypatch.undo()
        refusals.extend(in_thread(work) for work in (lambda: runner(IMAGES), runner.close))
        return wait(stream)

    monkeypatch.setattr(fake.cuda_python, "cuStreamSynchronize", intruded)
    runner(IMAGES)  # while it runs, another thread comes
    assert [type(refusal) for refusal in refusals] == [RuntimeError, RuntimeError]
    assert "fork one for each thread" in str(refusals[0])
    assert in_thread(lambda: runner(IMAGES)) is None
    assert in_thread(runner.close) is None
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])


def test_forks_run_in_threads_of_their_own(api: Install, plan: Path) -> None:
    fake = api("10.3.0", binding="pycuda")
    rows = np.arange(4 * 48, dtype=np.float32).reshape(4, 1, 3, 4, 4)
    with TensorRTRunner(plan, INTERFACE) as runner:
        forks = [runner.fork() for _ in rows]
        found: dict[int, np.ndarray] = {}

        def run(k: int) -> None:
            with forks[k] as lane:
                found[k] = lane(rows[k])

        assert [in_thread(lambda k=k: run(k)) for k in range(4)] == [None] * 4
        assert ("engine" in [kind for kind, _ in fake.gpu.live]) is True
        for k in range(4):
            np.testing.assert_allclose(found[k], runner(rows[k]), rtol=1e-6)
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])


@pytest.mark.parametrize("binding", BINDINGS)
def test_closing_frees_everything_once_and_in_order(binding: str, api: Install, plan: Path) -> None:
    fake = api("10.16.1.11", binding=binding)
    runner = TensorRTRunner(plan, INTERFACE)
    for _ in range(3):
        runner(IMAGES)
    fake.gpu.freed.clear()
    runner.close()
    runner.close()
    graph = ["executable"] * (binding == "cuda-python")
    lane = ["execution", *["event"] * 4, *["device", "host"] * 2, "stream"]
    assert fake.gpu.freed == [*graph, *lane, "engine", "runtime", "context"]
    assert (fake.gpu.live, fake.gpu.wrongs, fake.gpu.contexts) == ({}, [], [])
    for call in (runner, runner.timed):
        with pytest.raises(RuntimeError, match="closed"):
            call(IMAGES)
    with pytest.raises(RuntimeError, match="closed"):
        runner.fork()


def test_closing_the_engine_closes_its_forks_first(api: Install, plan: Path) -> None:
    fake = api("10.3.0")
    runner = TensorRTRunner(plan, INTERFACE)
    fork = runner.fork()
    runner.close()
    fork.close()
    assert fake.gpu.freed.index("engine") > max(
        k for k, kind in enumerate(fake.gpu.freed) if kind == "execution"
    )
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])


def test_two_runners_interleave_and_close_in_any_order(api: Install, plan: Path) -> None:
    fake = api("10.3.0")
    first, second = TensorRTRunner(plan, INTERFACE), TensorRTRunner(plan, INTERFACE)
    np.testing.assert_array_equal(first(IMAGES), second(IMAGES))
    first.close()
    second(IMAGES)
    second.close()
    assert (fake.gpu.live, fake.gpu.wrongs, fake.gpu.contexts) == ({}, [], [])


def test_a_graph_is_replayed_for_one_batch_size_and_dropped_for_another(
    api: Install, plan: Path
) -> None:
    fake = api("10.3.0")
    with TensorRTRunner(plan, INTERFACE) as runner:

        def started(batch: int) -> list[str]:
            fake.calls.clear()
            images = np.random.default_rng(batch).normal(size=(batch, 3, 4, 4)).astype(np.float32)
            logits = runner(images)
            wanted = images.reshape(batch, -1).mean(1)[:, None] * np.arange(1, 11)
            np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-6)
            names = ("execute_async_v3", "cuGraphLaunch", "cuGraphExecDestroy")
            called = (name.rpartition(".")[2] for name in fake.names())
            return [name for name in called if name in names]

        assert started(2) == ["execute_async_v3"]
        assert started(2) == ["execute_async_v3", "cuGraphLaunch"]  # captured, then replayed
        assert started(2) == ["cuGraphLaunch"]
        assert started(1) == ["cuGraphExecDestroy", "execute_async_v3"]
        assert started(2) == ["execute_async_v3"]
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])


def test_a_network_that_cannot_be_captured_runs_without_and_is_asked_once(
    api: Install, plan: Path
) -> None:
    fake = api("10.3.0", Script(captures=False))
    with TensorRTRunner(plan, INTERFACE) as runner:
        for _ in range(4):
            np.testing.assert_allclose(runner(IMAGES), np.tile(np.arange(1, 11), (2, 1)))
    assert fake.names().count("driver.cuStreamBeginCapture") == 1
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])


def test_graphs_may_be_left_out(api: Install, plan: Path) -> None:
    fake = api("10.3.0")
    with TensorRTRunner(plan, INTERFACE, graphs=False) as runner, runner.fork() as fork:
        for lane in (runner, runner, runner, fork, fork):
            lane(IMAGES)
    assert "driver.cuStreamBeginCapture" not in fake.names()


def test_phases_of_parts_add_up(api: Install, plan: Path) -> None:
    api("10.3.0", Script(batches=(1, 2, 2)))
    with TensorRTRunner(plan, INTERFACE) as runner:
        logits, phases = runner.timed(np.ones((5, 3, 4, 4), np.float32))
        assert logits.shape == (5, 10)
        assert phases == Phases(3.0, 30.0, 6.0)
        assert runner.timed(np.ones((0, 3, 4, 4), np.float32))[1] == Phases(0, 0, 0)


def test_an_engine_of_another_version_is_explained_and_nothing_stays(
    api: Install, plan: Path
) -> None:
    fake = api("8.6.1", Script(opens=False))
    with pytest.raises(MachineError, match="another version of TensorRT") as caught:
        TensorRTRunner(plan, INTERFACE)
    assert "build-engine" in caught.value.remedy
    assert (fake.gpu.live, fake.gpu.wrongs, fake.gpu.contexts) == ({}, [], [])


@pytest.mark.parametrize(
    ("built", "what"),
    [(Built("t4", "10.3.0"), r"built by TensorRT 10\.3\.0, and this machine has 10\.7\.0"),
     (Built("t4", "10.7.0", (75,)), r"built for SM 75, and this GPU \(Orin \(fake\)\) is SM 87"),
     (Built("rtx-any", None, (86, 89)), "SM 86 or 89")],
)  # fmt: skip
def test_an_engine_that_does_not_fit_is_refused_before_it_is_deserialized(
    built: Built, what: str, api: Install, plan: Path
) -> None:
    fake = api("10.7.0")
    with pytest.raises(MachineError, match=what) as caught:
        TensorRTRunner(plan, INTERFACE, built=built)
    assert f"--target {built.target}" in caught.value.remedy
    assert "Runtime.deserialize_cuda_engine" not in fake.names()
    assert (fake.gpu.live, fake.gpu.wrongs, fake.gpu.contexts) == ({}, [], [])


def test_an_artifact_tells_where_it_opens(
    api: Install, source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedense.engines.opening.has_gpu", lambda: True)
    api("10.3.0", Script(sm=(7, 5)))
    build_engine(source, tmp_path / "e", BuildOptions("t4", batch=(1, 2, 4)))
    built = artifact.read(tmp_path / "e")
    open_engine(built).close()
    for version, sm in (("10.7.0", (7, 5)), ("10.3.0", (8, 7))):
        there = api(version, Script(sm=sm))
        with pytest.raises(MachineError, match=r"this machine has 10\.7\.0|is SM 87"):
            open_engine(built)
        assert "Runtime.deserialize_cuda_engine" not in there.names()
        assert (there.gpu.live, there.gpu.wrongs) == ({}, [])


def test_another_gpu_of_the_same_kind_is_noted(api: Install, plan: Path) -> None:
    api("10.7.0")
    same = Built("jetson-orin-nx", "10.7.0", (87,), "Orin (fake)")
    with TensorRTRunner(plan, INTERFACE, built=same) as runner:
        assert runner.notes == ()
    with TensorRTRunner(plan, INTERFACE, built=replace(same, gpu="Orin NX")) as runner:
        assert "built on Orin NX and runs on Orin (fake)" in runner.notes[0]


@pytest.mark.parametrize(
    "report",
    [{}, {"target": "t4", "sm": "many"}, {"target": "t4", "sms": 5},
     {"target": "t4", "runtime_version": "new"}, {"target": "t4", "sms": [None]}],
)  # fmt: skip
def test_a_damaged_report_is_bad_input(report: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="report is damaged"):
        Built.from_report(report, Path("engine"))


def test_the_report_tells_where_an_engine_opens() -> None:
    here = {"target": "t4", "runtime_version": "10.3.0", "sms": [75], "sm": 75, "gpu": "Tesla T4"}
    assert Built.from_report(here, Path()) == Built("t4", "10.3.0", (75,), "Tesla T4")
    ahead = {"target": "rtx-any", "runtime_version": "1.7.1.116", "sms": [86, 89], "sm": None}
    assert Built.from_report(ahead, Path()) == Built("rtx-any", "1.7.1.116", (86, 89))


@pytest.mark.parametrize(
    "other",
    [
        Interface("data", (3, 4, 4), "logits", (10,)),
        Interface("images", (3, 4, 4), "scores", (10,)),
        Interface("logits", (3, 4, 4), "images", (10,)),
        Interface("images", (3, 4, 4), "logits", (10,), dtype="float16"),
    ],
)
def test_tensors_that_are_not_the_manifests_are_refused(
    other: Interface, api: Install, plan: Path
) -> None:
    fake = api("10.3.0")
    with pytest.raises(InputError, match="build the engine again"):
        TensorRTRunner(plan, other)
    assert (fake.gpu.live, fake.gpu.wrongs, fake.gpu.contexts) == ({}, [], [])


def test_batch_range_is_the_engines_own(api: Install, plan: Path) -> None:
    api("10.3.0", Script(batches=(2, 3, 6)))
    with TensorRTRunner(plan, INTERFACE) as runner:
        assert runner.interface.batch == (2, 3, 6)


def test_images_of_another_size_are_refused(api: Install, plan: Path) -> None:
    api("10.3.0")
    with TensorRTRunner(plan, INTERFACE) as runner, pytest.raises(InputError, match="do not fit"):
        runner(np.zeros((1, 3, 5, 4), np.float32))


def test_results_are_copies_that_the_next_call_does_not_change(api: Install, plan: Path) -> None:
    api("10.3.0")
    with TensorRTRunner(plan, INTERFACE) as runner:
        first = runner(IMAGES)
        kept = first.copy()
        runner(IMAGES * 5)
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("binding", BINDINGS)
def test_no_gpu_is_a_machine_error(binding: str, api: Install, plan: Path) -> None:
    # the first CUDA call is the first call of all: the engine was not touched
    api("10.3.0", Script(fail_at=1), binding)
    with pytest.raises(MachineError, match="no GPU answers"):
        TensorRTRunner(plan, INTERFACE)


def test_no_binding_is_a_machine_error(api: Install, plan: Path) -> None:
    api("10.3.0", binding="none")
    with pytest.raises(MachineError, match=r"neither cuda-python nor pycuda.*\n.*pip install"):
        TensorRTRunner(plan, INTERFACE)


def test_no_driver_is_a_machine_error(
    api: Install, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuda-python raises RuntimeError where it finds no libcuda."""
    fake = api("10.3.0")

    def refuse(flags: int) -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(fake.cuda_python, "cuInit", refuse)
    with pytest.raises(MachineError, match=r"no GPU answers.*libcuda"):
        TensorRTRunner(plan, INTERFACE)


def test_kernels_of_rtx_are_kept_for_the_user_and_never_beside_the_engine(
    api: Install, plan: Path, tmp_path: Path
) -> None:
    fake = api(RTX)
    with TensorRTRunner(plan, INTERFACE, "tensorrt_rtx"):
        pass
    assert fake.args("IRuntimeCache.deserialize") == []
    [kept] = (tmp_path / "cache" / "edgedense" / "tensorrt-rtx").iterdir()
    assert kept.read_bytes() == b"KERNELS"
    assert kept.name.endswith("-1.7.1.116-sm87.cache")
    assert kept.parent.stat().st_mode & 0o077 == 0
    assert [path.name for path in plan.parent.iterdir() if path.is_file()] == ["model.engine"]
    fake = api(RTX)
    with TensorRTRunner(plan, INTERFACE, "tensorrt_rtx") as runner, runner.fork():
        pass
    assert fake.args("IRuntimeCache.deserialize") == [(b"KERNELS",)]
    assert "IRuntimeCache.reset" not in fake.names()


def test_kernels_that_rtx_does_not_take_are_compiled_again(
    api: Install, plan: Path, tmp_path: Path
) -> None:
    for kernels in (b"OLD", b"NEW"):
        fake = api(RTX, Script(runtime_cache=kernels))
        TensorRTRunner(plan, INTERFACE, "tensorrt_rtx").close()
    assert "IRuntimeCache.reset" in fake.names()
    [kept] = (tmp_path / "cache" / "edgedense" / "tensorrt-rtx").iterdir()
    assert kept.read_bytes() == b"NEW"


def test_a_cache_directory_that_cannot_be_made_is_no_error(
    api: Install, plan: Path, tmp_path: Path
) -> None:
    api(RTX)
    (tmp_path / "cache").write_text("in the way")
    with TensorRTRunner(plan, INTERFACE, "tensorrt_rtx") as runner:
        runner(IMAGES)


def everything(plan: Path, module: str) -> None:
    """A run with all that a runner can do."""
    with TensorRTRunner(plan, INTERFACE, module) as runner:
        for _ in range(3):
            runner.timed(IMAGES)
        with runner.fork() as fork:
            fork(IMAGES)
        layer_times(runner, IMAGES, runs=1)
        runner(np.ones((5, 3, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("version", "binding"),
    [("8.6.1", "pycuda"), ("10.3.0", "pycuda"), ("10.3.0", "cuda-python"), (RTX, "cuda-python")],
)
def test_whatever_fails_everything_is_freed_once(
    version: str, binding: str, api: Install, plan: Path
) -> None:
    """Each call of a whole run fails in turn; what was handed out comes back, in order."""
    module = "tensorrt_rtx" if version == RTX else "tensorrt"
    whole = api(version, binding=binding)
    everything(plan, module)
    assert (whole.gpu.live, whole.gpu.wrongs) == ({}, [])
    survived = []
    for number in range(1, len(whole.calls) + 1):
        fake = api(version, Script(fail_at=number), binding)
        told = f"call {number}, which was survived"
        try:
            everything(plan, module)
        except (MachineError, RuntimeError) as error:
            told = f"{fake.failed}: {error}"
            del error
        else:
            survived.append(fake.failed)
        switch = fake.failed in SWITCHES
        assert switch or not fake.gpu.live, f"{told} left {fake.gpu.live}"
        assert switch or not fake.gpu.wrongs, f"{told} led to {fake.gpu.wrongs}"
        assert not [wrong for wrong in fake.gpu.wrongs if "twice" in wrong], told
    assert set(survived) <= MAY_FAIL


# without its context nothing can be freed, and the driver does that when the process ends
SWITCHES = {
    "cuda.Context.push", "cuda.Context.pop", "driver.cuCtxPushCurrent", "driver.cuCtxPopCurrent",
}  # fmt: skip
# a graph that cannot be captured is done without
MAY_FAIL = {
    "driver.cuStreamBeginCapture", "driver.cuStreamEndCapture", "driver.cuGraphInstantiate",
    "driver.cuGraphDestroy",
}  # fmt: skip
