"""One real run, and a way to write runs of any kind without running anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedense import artifact

Made = dict[str, Any]
VALIDATED: Made = {
    "task": "classification",
    "samples": 400,
    "engine_name": "tensorrt",
    "reference_name": "pytorch-fp32",
    "reference": {"top1": 94.5, "top5": None, "top1_ci95": [92.0, 96.0]},
    "engine": {"top1": 94.0, "top5": None, "top1_ci95": [91.5, 95.5]},
    "drop_pp": 0.5,
    "drop_ci95": [-0.25, 0.75],
    "lost": 3,
    "gained": 1,
    "mcnemar_p": 0.625,
    "agreement": 98.75,
    "logit_sqnr_db": 31.25,
    "not_finite": 0,
    "max_drop_pp": 1.0,
    "min_speedup": None,
    "verdict": "pass",
    "reasons": ["Top-1 drop 0.50 pp on 400 images: within the allowed 1 pp."],
}
TIMED: Made = {
    "engine_name": "tensorrt",
    "batch": 1,
    "iterations": 700,
    "p50_ms": 2.0,
    "p90_ms": 2.5,
    "p99_ms": 3.0,
    "throughput_ips": 500.0,
    "cov": 0.01,
    "stable": True,
    "notes": [],
    "device": {"name": "Orin", "governor": None},
}
BUILT: Made = {
    "engine": "model.engine",
    "backend": "tensorrt",
    "target": "jetson-orin-nano",
    "precision": "int8",
    "engine_bytes": 2_000_000,
    "weights_bytes": 1_000_000,
    "activation_bytes": None,
    "seconds": 5.0,
    "runtime_version": "10.3.0",
    "layers": 120,
}
QUANTIZED: Made = {
    "onnx": "int8.fp16.onnx",
    "placement": "conv",
    "effort": "default",
    "calibrator": "mse",
    "images": 64,
    "sqnr_db": 35.0,
    "seconds": 3.0,
    "quantized": 9,
    "skipped": [],
    "float_concats": [],
    "warnings": [],
}
MODEL: Made = {"family": "DenseNet-BC-22", "task": "classification", "macs": 700, "params": 600_000}
Write = Callable[..., str]


@pytest.fixture(scope="session")
def whole_run(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgedense.benchmark import BenchmarkOptions
    from edgedense.data import load_preprocess, load_set
    from edgedense.densenet.checkpoints import load_model
    from edgedense.pipeline import DeployOptions, Inputs, deploy
    from edgedense.prune import PruneOptions
    from edgedense.quantize import QuantizeOptions
    from edgedense.validate import ValidateOptions

    run = tmp_path_factory.mktemp("reported") / "first"
    options = DeployOptions(
        ("cpu",),
        prune=PruneOptions(macs=0.8),
        quantize=QuantizeOptions(sensitivity=True, sensitivity_images=4),
        validate=ValidateOptions(max_drop_pp=5),
        benchmark=BenchmarkOptions(iterations=20, min_seconds=0, warmup_seconds=0),
    )
    preprocess = load_preprocess(str(tiny.toml))
    images = load_set(tiny.train), load_set(tiny.test)
    deploy(Inputs(load_model(tiny.checkpoint), *images, preprocess), run, options)
    return run


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run, tmp_path / "first"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a stage into ``tmp_path / "made"``; its hash comes back, for those made from it.

    ``files`` are JSON values, or dictionaries of arrays for names in .npz.
    """

    def make(name: str, kind: str, report: Made, *, files: Made | None = None, **given: Any) -> str:
        sections = {"parents": {}, "options": {}, "preprocess": {}, **given}
        model, interface = sections.pop("model", {}), sections.pop("interface", {})
        place = tmp_path / "made" / name
        with artifact.create(place, kind, **sections) as draft:
            for file, content in (files or {}).items():
                if file.endswith(".npz"):
                    np.savez(draft.path / file, **content)
                else:
                    (draft.path / file).write_text(json.dumps(content))
            draft.report, draft.model, draft.interface = report, model, interface
        return artifact.read(place).sha256

    return make


@pytest.fixture
def chain(write: Write, tmp_path: Path) -> Callable[..., None]:
    """Write reference, quantize, engine, benchmark and validate of one target.

    Names that begin with "second" have another network, all others share one. ``latency`` is what
    the benchmark tells otherwise.
    """

    def make(
        target: str = "jetson-orin-nano", name: str = "", latency: Made | None = None, **judged: Any
    ) -> None:
        name, place = name or target, tmp_path / "made"
        whole = {**MODEL, "macs": 1000, "params": 1_000_000}
        report = {"samples": 400, "params": 1_000_000, "macs": 1000}
        if not (place / "reference").exists():
            write("reference", "reference", report, model=whole, parents={"model": "0" * 64})
        if name.startswith("second"):
            quantized = write(
                f"quantize-{name}", "quantize", QUANTIZED, model=MODEL, options={"skip": [name]}
            )
        elif (place / "quantize").exists():
            quantized = artifact.read(place / "quantize").sha256
        else:
            quantized = write("quantize", "quantize", QUANTIZED, model=MODEL)
        backend = "onnxruntime" if target == "cpu" else "tensorrt"
        built = {**BUILT, "target": target, "backend": backend}
        parents = {"model": quantized}
        engine = write(f"engine-{name}", "build-engine", built, parents=parents, model=MODEL)
        samples = {"samples_ms": np.linspace(1, 3, 700).tolist(), "against_ms": [9.0] * 700}
        against = {**TIMED, "engine_name": "pytorch-fp32", "p50_ms": 9.0, "p90_ms": 9.0}
        timed = {**TIMED, "against": against, "speedup": 4.5, "speedup_ci95": [4.4, 4.6]}
        timed |= latency or {}
        parents = {"engine": engine}
        files = {"samples.json": samples}
        write(f"benchmark-{name}", "benchmark", timed, parents=parents, files=files)
        told = {**VALIDATED, "engine_name": backend, **judged}
        write(f"validate-{name}", "validate", told, parents=parents)

    return make
