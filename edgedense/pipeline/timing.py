"""Latency of all points of a sweep: measured together, when nothing else runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edgedense import artifact, benchmark
from edgedense.benchmark import BenchmarkOptions
from edgedense.engines.opening import open_engine
from edgedense.engines.runner import Runner
from edgedense.environment import thread_limit, version
from edgedense.pipeline.steps import Inputs
from edgedense.progress import Progress
from edgedense.run import Done, Step

LATENCY = "latency"


def latency_step(
    inputs: Inputs, engines: Mapping[str, str], options: BenchmarkOptions, progress: Progress
) -> Step:
    """The step that times every engine (``engines`` maps points to their stages) and FP32 PyTorch.

    All take turns in one process, so that a busy minute meets all of them.
    """

    def make(done: Done, directory: Path) -> None:
        with contextlib.ExitStack() as stack:
            runners: list[Runner] = []
            for stage in engines.values():
                runners.append(open_engine(done[stage]))
                stack.callback(runners[-1].close)
            found = benchmark.compare_all(runners, inputs.runner(), options, progress=progress)
        parents = {stage: done[stage].sha256 for stage in engines.values()}
        timed = dict(zip(engines, found, strict=True))
        with artifact.create(
            directory,
            LATENCY,
            parents={**parents, "against": inputs.model.sha256},
            options=asdict(options),
            seed=options.seed,
        ) as draft:
            samples = {name: row.engine.samples_ms.tolist() for name, row in timed.items()}
            against = {"against_ms": found[0].against.samples_ms.tolist()}
            artifact.write_json(draft.path / "samples.json", {"samples_ms": samples, **against})
            draft.report = {
                "points": {name: row.to_dict() for name, row in timed.items()},
                "against": found[0].against.to_dict(),
            }

    key = {
        "model": inputs.model.sha256,
        "preprocess": inputs.preprocess.to_dict(),
        "options": asdict(options),
        "machine": {**benchmark.describe_device(), "load_1min": None, "torch": version("torch")},
        "threads": thread_limit(),
        "points": list(engines),
    }
    what = f"latency of {len(engines)} engines and FP32 PyTorch, taking turns"
    return Step(LATENCY, what, tuple(engines.values()), key, make)
