"""Benchmark drives the real TensorRT runner, against the recorded API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_gpu import BINDINGS

from edgedense.benchmark import BenchmarkOptions, benchmark, sweep
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt import TensorRTRunner

INTERFACE = Interface("images", (3, 4, 4), "logits", (10,))
QUICK = BenchmarkOptions(iterations=70, min_seconds=0, max_seconds=5, warmup=2, warmup_seconds=0)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "model.engine").write_bytes(b"PLAN")
    return tmp_path / "model.engine"


@pytest.mark.parametrize("binding", BINDINGS)
def test_phases_and_state_of_a_tensorrt_engine(
    binding: str, api: Callable[..., Any], plan: Path
) -> None:
    fake = api("10.3.0", binding=binding)
    with TensorRTRunner(plan, INTERFACE) as runner:
        found = benchmark(runner, QUICK).to_dict()
    json.dumps(found, allow_nan=False)
    assert list(found["phases"]) == ["copy_in", "compute", "copy_out"]
    assert found["state"]["cuda_graph"] is (binding == "cuda-python")  # pycuda captures none
    assert found["state"]["spin_wait"] == "auto"
    assert found["p90_ms"] > 0
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])


def test_streams_are_forks_that_are_freed(api: Callable[..., Any], plan: Path) -> None:
    fake = api("10.3.0", binding="pycuda")
    found = sweep(lambda: TensorRTRunner(plan, INTERFACE), "net", (1, 2), (1, 3), QUICK)
    assert [(cell.batch, cell.streams) for cell in found.cells] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert all(np.all(cell.samples_ns > 0) for cell in found.cells)
    assert (fake.gpu.live, fake.gpu.wrongs) == ({}, [])
