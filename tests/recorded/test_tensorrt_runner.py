from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recorded_api import Api, Script

from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt import TensorRTRunner
from edgedense.errors import InputError, MachineError

Install = Callable[..., Api]
INTERFACE = Interface("images", (3, 4, 4), "logits", (10,))
IMAGES = np.ones((2, 3, 4, 4), np.float32)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "model.engine").write_bytes(b"PLAN")
    return tmp_path / "model.engine"


def test_another_thread_is_refused(api: Install, plan: Path) -> None:
    api("10.3.0")
    refusals: list[BaseException] = []

    def intrude(runner: TensorRTRunner) -> None:
        for call in (lambda: runner(IMAGES), runner.close):
            try:
                call()
            except RuntimeError as error:
                refusals.append(error)

    with TensorRTRunner(plan, INTERFACE) as runner:
        thread = threading.Thread(target=intrude, args=(runner,))
        thread.start()
        thread.join()
        runner(IMAGES)  # the owner still may
    assert len(refusals) == 2
    assert "thread" in str(refusals[0])


def test_closing_twice_is_fine_and_running_after_it_is_not(api: Install, plan: Path) -> None:
    fake = api("10.16.1.11")
    runner = TensorRTRunner(plan, INTERFACE)
    runner.close()
    runner.close()
    assert fake.names().count("cuda.Context.detach") == 1
    assert fake.memory == {}
    assert fake.contexts == []
    with pytest.raises(RuntimeError, match="closed"):
        runner(IMAGES)


def test_two_runners_interleave_and_close_in_any_order(api: Install, plan: Path) -> None:
    fake = api("10.3.0")
    first, second = TensorRTRunner(plan, INTERFACE), TensorRTRunner(plan, INTERFACE)
    np.testing.assert_array_equal(first(IMAGES), second(IMAGES))
    first.close()
    second(IMAGES)
    second.close()
    assert fake.contexts == []


def test_an_engine_of_another_version_is_explained_and_nothing_stays(
    api: Install, plan: Path
) -> None:
    fake = api("8.6.1", Script(opens=False))
    with pytest.raises(MachineError, match="another version of TensorRT") as caught:
        TensorRTRunner(plan, INTERFACE)
    assert "build-engine" in caught.value.remedy
    assert fake.contexts == []
    assert fake.names()[-1] == "cuda.Context.detach"


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
    assert fake.contexts == []


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


def test_no_gpu_is_a_machine_error(api: Install, plan: Path) -> None:
    fake = api("10.3.0")

    def refuse(flags: int = 0) -> None:
        raise fake.cuda.Error("cuInit failed: no CUDA-capable device is detected")

    fake.cuda.init = refuse
    with pytest.raises(MachineError, match="no CUDA-capable device"):
        TensorRTRunner(plan, INTERFACE)
