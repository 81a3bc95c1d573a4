"""Memory and time of a training step: the plain mode against the memory-efficient one, by depth.

Each point has a process of its own for each mode, which takes one step for memory: ``kept`` are the
bytes of all distinct storages that autograd keeps for the backward pass (parameters left out),
exact; ``peak`` is the highest resident memory of the process minus what it had before its first
step. Then two processes, one a mode, take steps in turn; the time ratio is that of their medians.

    python benchmarks/training_memory.py --depth 40 --depth 100 --batch 16 --batch 64
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import click

MODES = (False, True)
MB = 1e6


class Point(NamedTuple):
    depth: int
    growth: int
    batch: int
    side: int
    threads: int


class Memory(NamedTuple):
    kept: int
    peak: int


@click.command()
@click.option("--depth", type=int, multiple=True, default=(40, 100), show_default=True)
@click.option("--growth", type=int, default=12, show_default=True)
@click.option("--batch", type=int, multiple=True, default=(16,), show_default=True)
@click.option("--side", type=int, default=32, show_default=True, help="Pixels of the images.")
@click.option("--steps", type=int, default=3, show_default=True, help="Timed steps of each mode.")
@click.option("--threads", type=int, default=1, show_default=True)
def main(
    depth: tuple[int, ...],
    growth: int,
    batch: tuple[int, ...],
    side: int,
    steps: int,
    threads: int,
) -> None:
    """Print a Markdown table."""
    print("| DenseNet-BC | batch | kept plain MB | kept efficient MB | ratio | "
          "peak plain MB | peak efficient MB | ratio | s a step, plain | time ratio |")  # fmt: skip
    print("| --- " + "| ---: " * 9 + "|")
    for point in (Point(d, growth, b, side, threads) for d in depth for b in batch):
        memory = [in_process(measure_memory, point, mode) for mode in MODES]
        plain, efficient = times(point, steps)
        cells = (
            *(f"L{point.depth} k{growth}", point.batch),
            *compared(memory[0].kept, memory[1].kept),
            *compared(memory[0].peak, memory[1].peak),
            *(f"{plain:.2f}", f"{efficient / plain:.2f}" if plain else "-"),
        )
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def compared(plain: int, efficient: int) -> tuple[str, str, str]:
    return f"{plain / MB:.0f}", f"{efficient / MB:.0f}", f"{efficient / plain:.2f}"


def times(point: Point, steps: int) -> tuple[float, float]:
    """Median seconds a step of both modes, in turn."""
    if steps < 1:
        return 0.0, 0.0
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for mode in MODES:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=step_on_demand, args=(theirs, point, mode)))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    seconds: list[list[float]] = [[], []]
    for _ in range(steps + 1):
        for pipe, found in zip(pipes, seconds, strict=True):
            pipe.send(True)
            found.append(pipe.recv())
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()
    plain, efficient = (statistics.median(found[1:]) for found in seconds)
    return plain, efficient


def step_on_demand(pipe: Connection, point: Point, efficient: bool) -> None:
    step = stepper(point, efficient)
    while pipe.recv():
        started = time.perf_counter()
        step()
        pipe.send(time.perf_counter() - started)


def measure_memory(pipe: Connection, point: Point, efficient: bool) -> None:
    import torch
    from torch import Tensor

    step = stepper(point, efficient)
    leave_out = {p.untyped_storage().data_ptr() for p in step.engine.network.parameters()}
    before = resident()
    step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    kept: dict[int, int] = {}
    backward = torch.autograd.backward

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in leave_out:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    class Forward(Exception):  # noqa: N818  not an error: it ends the step before its backward pass
        pass

    def stop(*words: Any) -> None:
        raise Forward

    torch.autograd.backward = stop
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, contextlib.suppress(Forward):
        step()
    torch.autograd.backward = backward
    pipe.send(Memory(sum(kept.values()), peak))


class stepper:  # noqa: N801  called like the function that it stands for
    """One step of ``edgedense train`` on random images."""

    def __init__(self, point: Point, efficient: bool) -> None:
        import torch

        from edgedense.densenet.family import initialised
        from edgedense.densenet.zoo import cifar_bc
        from edgedense.distributed import World
        from edgedense.train import TrainOptions
        from edgedense.train.engine import Engine, Streams
        from edgedense.train.stream import Drawn

        torch.set_num_threads(point.threads)
        network = initialised(cifar_bc(point.depth, point.growth), 0)
        options = TrainOptions(epochs=1, batch=point.batch, lr=0.1, memory_efficient=efficient)
        self.engine = Engine(network, Streams(None, None), options, World())  # type: ignore[arg-type]
        images = torch.randn(point.batch, 3, point.side, point.side)
        self.drawn = Drawn(images, torch.randint(0, 10, (point.batch,)))

    def __call__(self) -> float:
        return self.engine.step(self.drawn, 0)


def in_process(target: Any, point: Point, efficient: bool) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, point, efficient))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
