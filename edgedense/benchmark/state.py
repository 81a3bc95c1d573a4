"""The state that a latency was measured in: a number without it cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedense.benchmark.options import BenchmarkOptions
from edgedense.engines.runner import Runner
from edgedense.environment import cores, thread_limit, version

# whose version is told for which runner
_RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
    "pytorch-fp32": "torch",
}


def settings_of(runner: Runner) -> dict[str, Any]:
    """How a runner runs, after it has run: graphs are captured meanwhile.

    ``copies`` says whether a whole call includes moving images and logits to and from the device.
    ``cuda_graph`` and ``spin_wait`` are None where there is no GPU in it, or it does not tell;
    ``auto`` leaves it to the driver whether to spin. ``notes`` are the runner's own, on what is not
    as it was where the engine was built.
    """
    on_gpu = runner.name in ("tensorrt", "tensorrt_rtx")
    return {
        "runtime": runner.name,
        "version": version(_RUNTIMES[runner.name]) if runner.name in _RUNTIMES else None,
        "copies": "in and out included" if on_gpu else "none: host memory",
        "cuda_graph": getattr(runner, "cuda_graph", None),
        "spin_wait": "auto" if on_gpu else None,
        "notes": list(getattr(runner, "notes", ())),
    }


def state_of(
    options: BenchmarkOptions,
    settings: Mapping[str, Any],
    *,
    streams: int = 1,
    repeats: int = 1,
    interleaved: bool = False,
    fresh_processes: bool = False,
) -> dict[str, Any]:
    """Everything but the device that a latency depends on, as plain JSON values."""
    return {
        "batch": options.batch,
        "streams": streams,
        "warm_up_calls": options.warmup,
        "warm_up_seconds": options.warmup_seconds,
        "repeats": repeats,
        "interleaved": interleaved,
        "fresh_processes": fresh_processes,
        "threads": thread_limit() or cores(),
        "tensorrt": version("tensorrt"),
        **settings,
    }
