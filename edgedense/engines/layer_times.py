"""How long each layer of a TensorRT engine takes, by TensorRT's own profiler."""

from __future__ import annotations

from statistics import mean, median
from typing import Any

from edgedense.engines.runner import Images
from edgedense.engines.tensorrt_lane import Lane
from edgedense.progress import SILENT, Progress

WARM_UP_RUNS = 5


def layer_times(runner: Lane, images: Images, runs: int = 30) -> dict[str, float]:
    """Mean time of each layer in ms, in the order of execution.

    Their sum is more than a whole run takes: the profiler waits for every layer, and a CUDA graph
    cannot be used. ``images`` (N, channels, height, width) are one batch.
    """
    return {name: mean(times) for name, times in samples(runner, images, runs).items()}


def profile_rows(
    runner: Lane, images: Images, runs: int = 30, progress: Progress = SILENT
) -> list[dict[str, Any]]:
    """The times as ``trtexec --exportProfile`` writes them: a count, then a row for each layer."""
    found = samples(runner, images, runs, progress)
    total = sum(map(sum, found.values())) or 1.0
    rows = [
        {
            "name": name,
            "timeMs": sum(times),
            "averageMs": mean(times),
            "medianMs": median(times),
            "percentage": 100 * sum(times) / total,
        }
        for name, times in found.items()
    ]
    return [{"count": runs}, *rows]


def samples(
    runner: Lane, images: Images, runs: int, progress: Progress = SILENT
) -> dict[str, list[float]]:
    """Times of each layer in ms, one for each run."""
    found: dict[str, list[float]] = {}
    with runner.fork(graphs=False) as lane:
        batch = lane.interface.batch
        one = images[: batch[2]] if batch else images
        last = lane.watch_layers()
        for run in progress.track(range(WARM_UP_RUNS + runs), "layer times", WARM_UP_RUNS + runs):
            last.clear()
            lane(one)
            if run >= WARM_UP_RUNS:
                for name, ms in last.items():
                    found.setdefault(name, []).append(ms)
    return found
