"""Every network of the zoo, from a checkpoint to an FP32 ONNX file and a TensorRT-RTX engine.

Weights are random, with BN statistics like those of trained networks: structure is what is tried
here. The engine is built ahead of time for SM 8.6, which needs no GPU. Each network runs in a
process of its own, so that its peak memory is its own; "error" is the largest difference between
the logits of the ONNX file (ONNX Runtime) and of PyTorch, over the largest logit, on one image.

    python benchmarks/zoo.py [--only NAME ...] [--json]
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from edgedense import artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.densenet import zoo
from edgedense.densenet.checkpoints import AS_FOUND, LoadOptions, Model, load_model
from edgedense.densenet.count import describe
from edgedense.densenet.family import Network, initialised
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.pytorch import reference_runner
from edgedense.errors import EdgedenseError
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower

NAMES = [entry.name for entry in zoo.ENTRIES if entry.spec is not None]


def like_trained(network: Network) -> Network:
    """Scales, shifts and statistics of every BN away from their first values."""
    draw = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            module.weight.data = torch.rand(shape, generator=draw) + 0.5
            module.bias.data = torch.randn(shape, generator=draw) / 4
            module.running_mean = torch.randn(shape, generator=draw) / 4
            module.running_var = torch.rand(shape, generator=draw) + 0.5
    return network.eval()


def measure(name: str) -> dict[str, Any]:
    """One row of the table; ``failed`` says why where a step did not succeed."""
    entry = next(entry for entry in zoo.ENTRIES if entry.name == name)
    row = {"name": name, "params": entry.params, "macs": entry.macs}
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run(entry, Path(folder), row)
        except EdgedenseError as error:
            row["failed"] = error.what
    row["peak_mb"] = peak_mb()
    return row


def _run(entry: zoo.Entry, folder: Path, row: dict[str, Any]) -> None:
    checkpoint = folder / "checkpoint.pth"
    network = like_trained(initialised(zoo.find(entry.name), 0))
    torch.save({"state_dict": network.state_dict(), "epoch": 0}, checkpoint)
    # the filter of a blur has no parameters, so the file alone does not tell it
    blur = entry.name == "densenetblur121d"
    options = LoadOptions(scheme="timm-blur") if blur else AS_FOUND
    started = time.perf_counter()
    model = load_model(checkpoint, options)
    row["load_seconds"] = time.perf_counter() - started
    if model.spec.block_widths() != network.spec.block_widths():
        raise EdgedenseError(f"{entry.name} came back as {model.spec.family}")
    del network
    started = time.perf_counter()
    source = _exported(model, entry.input_size, folder / "exported")
    row["export_seconds"] = time.perf_counter() - started
    row["onnx_bytes"] = source.file("fp32.onnx").stat().st_size
    row["error"] = _error(model, entry.input_size, source)
    report = build_engine(source, folder / "engine", BuildOptions("rtx-ampere", "fp32"))
    row["engine_bytes"], row["build_seconds"] = report.engine_bytes, report.seconds
    row["version"] = report.runtime_version


def _exported(model: Model, size: tuple[int, int], path: Path) -> artifact.Artifact:
    """What the build room takes: an artifact with the FP32 file alone."""
    runner = reference_runner(model.network, size)
    parents = {"model": model.sha256}
    with artifact.create(path, "quantize", parents=parents, options={}) as draft:
        export_onnx(lower(model.network, size), draft.path / "fp32.onnx", "fp32", {})
        draft.interface = runner.interface.to_dict()
        draft.model = describe(model.spec, size)
    return artifact.read(path)


def _error(model: Model, size: tuple[int, int], source: artifact.Artifact) -> float:
    reference = reference_runner(model.network, size)
    runner = OnnxRunner(source.file("fp32.onnx"), reference.interface)
    shape = (1, *reference.interface.input_shape)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wanted, found = reference(image), runner(image)
    runner.close()
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def peak_mb() -> float:
    """Peak memory of this process; getrusage would count what the parent had before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def measure_alone(name: str) -> dict[str, Any]:
    """Measure in a fresh process, whose death is a row too."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, name).result()
        except Exception as error:  # noqa: BLE001  whatever ends it is a row of the table
            return {"name": name, "failed": f"{type(error).__name__}: {error}"}


def cells(row: dict[str, Any]) -> list[str]:
    def cell(key: str, factor: float, digits: int) -> str:
        return f"{row[key] / factor:.{digits}f}" if key in row else "-"

    return [
        row["name"],
        f"{row['params']:,}" if "params" in row else "-",
        cell("macs", 1e9, 3),
        cell("onnx_bytes", 1e6, 1),
        cell("engine_bytes", 1e6, 1),
        *(cell(f"{step}_seconds", 1, 1) for step in ("load", "export", "build")),
        cell("peak_mb", 1e3, 1),
        f"{row['error']:.0e}" if "error" in row else "-",
        row.get("failed", "yes"),
    ]


HEAD = (
    "network", "parameters", "GMACs", "ONNX MB", "engine MB", "load s", "export s", "build s",
    "peak GB", "error", "built",
)  # fmt: skip


@click.command()
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="May be given repeatedly.")
@click.option("--json", "as_json", is_flag=True)
def main(only: tuple[str, ...], as_json: bool) -> None:
    if not as_json:
        click.echo(f"| {' | '.join(HEAD)} |\n| --- |{' ---: |' * (len(HEAD) - 2)} --- |")
    failed = False
    for name in only or NAMES:
        row = measure_alone(name)
        failed = failed or "failed" in row
        click.echo(json.dumps(row) if as_json else f"| {' | '.join(cells(row))} |")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
