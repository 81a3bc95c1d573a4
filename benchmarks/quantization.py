"""Quantizers side by side: edgedense, ONNX Runtime, NVIDIA Model Optimizer and NNCF.

Same network, same calibration images, same evaluation images, same runtime and session settings;
what is not INT8 stays FP32 in every file. Every quantizer runs in a process of its own, so that its
peak memory is its own. Seconds leave imports out; ours include reading the checkpoint, decoding the
images and checking the files, where the others get an ONNX file and preprocessed arrays. The CPU
latencies (one image) are interleaved over all files: the medians' ratio to the FP32 ONNX.

    python benchmarks/quantization.py MODEL --calib SET --eval SET --preprocess cifar10
    python benchmarks/quantization.py --network densenet121 --images 64

The second line takes random weights and synthetic images: it has no accuracy. The other tools are
looked for in the interpreter ``--peer-python``, because they want their own versions of much; for
one: python -m venv peers && peers/bin/pip install 'nvidia-modelopt[onnx]' nncf onnxruntime
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from peers import PEERS, peak_mb

from edgedense.build import BuildOptions
from edgedense.build.tensorrt import build_tensorrt
from edgedense.data import ImageSet, Preprocess, batches, load_preprocess, load_set
from edgedense.densenet import zoo
from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.family import initialised
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.pytorch import reference_runner
from edgedense.engines.reference import RecordedReference, record_reference
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt_api import load as load_tensorrt
from edgedense.errors import EdgedenseError
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower
from edgedense.lint import lint
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.stats import agreeing, logit_sqnr_db, top_k
from edgedense.targets import find_target

OURS = {
    "edgedense conv": QuantizeOptions("mse", rest="fp32"),
    "edgedense conv, max": QuantizeOptions("max", rest="fp32"),
    "edgedense block": QuantizeOptions("mse", placement="block", rest="fp32"),
}
TOOLS = (*OURS, *PEERS)
FP32 = "FP32 ONNX"
# pixels of a batch for the others: more made none faster
PIXELS = 8 * 32 * 32


@dataclass(frozen=True)
class Case:
    """What is quantized; ``judged`` None where the weights are random."""

    model: Path
    sample: ImageSet
    judged: ImageSet
    preprocess: Preprocess
    trained: bool


@dataclass(frozen=True)
class Given:
    """The files and logits that all tools share, in ``folder``."""

    case: Case
    folder: Path
    interface: Interface
    reference: RecordedReference
    fp32: Path
    images: Path


def prepared(case: Case, folder: Path) -> Given:
    """FP32 ONNX, calibration images as an array, and PyTorch's logits."""
    network = load_model(case.model).network
    runner = reference_runner(network, case.preprocess.input_size)
    reference = record_reference(runner, case.judged, case.preprocess)
    fp32, images = folder / "fp32.onnx", folder / "calibration.npy"
    given = Given(case, folder, runner.interface, reference, fp32, images)
    export_onnx(lower(network, case.preprocess.input_size), given.fp32, "fp32", {})
    parts = [batch.images for batch in batches(case.sample, case.preprocess, 32)]
    np.save(given.images, np.concatenate(parts))
    return given


def quantized(name: str, given: Given, peer_python: str) -> dict[str, Any]:
    """Quantize in a fresh process: ``path``, seconds and peak memory, or why it failed."""
    out = given.folder / f"{name.replace(' ', '-')}.onnx"
    if name in OURS:
        return alone(_ours, OURS[name], given.case, out.with_suffix(""))
    # ONNX Runtime's quantizer comes with our extras, and so is of the version that runs the files
    python = sys.executable if PEERS[name].package == "onnxruntime" else peer_python
    height, width = given.case.preprocess.input_size
    batch = max(1, PIXELS // (height * width))
    result = out.with_suffix(".json")
    script = Path(__file__).with_name("peers.py")
    words = [script, name, given.fp32, given.interface.input_name, given.images, batch, out, result]
    run = subprocess.run(
        [python, *map(str, words)], capture_output=True, text=True, errors="replace", check=False
    )
    if not result.exists():
        return {"failed": f"exit code {run.returncode}: {run.stderr.strip()[-200:]}"}
    return json.loads(result.read_text()) | {"path": out}


def alone(work: Callable[..., Any], *given: Any) -> Any:
    """The result of ``work`` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *given).result()


def _ours(options: QuantizeOptions, case: Case, out: Path) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        quantize(load_model(case.model), case.sample, case.preprocess, out, options)
    except EdgedenseError as error:
        return {"failed": error.what}
    seconds = time.perf_counter() - started
    return {"path": out / "int8.fp32.onnx", "seconds": seconds, "peak_mb": peak_mb()}


def judged(path: Path, given: Given) -> dict[str, Any]:
    """What the file computes, weighs, and meets in the lint and in TensorRT-RTX."""
    runner = OnnxRunner(path, given.interface)
    parts = batches(given.case.judged, given.case.preprocess, 32)
    logits = np.concatenate([runner(batch.images) for batch in parts])
    runner.close()
    wanted = given.reference.logits
    found = lint(path)
    row = {
        "sqnr_db": logit_sqnr_db(wanted, logits),
        "file_mb": path.stat().st_size / 1e6,
        "lint": f"{found.count('error')} / {found.count('warning')}",
        "lint_rules": {
            f"{group.first.rule} {group.first.severity}": len(group.findings)
            for group in found.groups()
        },
        **alone(_built, path, given.interface),
    }
    if given.case.trained:
        row["top1"] = 100 * float(top_k(logits, given.reference.labels, 1).mean())
        row["agreement"] = 100 * float(agreeing(logits, wanted).mean())
    return row


def _built(path: Path, interface: Interface) -> dict[str, Any]:
    """Whether TensorRT-RTX builds the file for SM 8.6, and its activation memory."""
    target = find_target("rtx-ampere")
    options = BuildOptions(target.name, rest="fp32")  # batch 1:1:8; types are those in the file
    plan = path.with_suffix(".engine")
    try:
        built = build_tensorrt(
            load_tensorrt(target.module), path, plan,
            interface=interface, options=options, target=target,
        )  # fmt: skip
    except EdgedenseError as error:
        return {"built": f"no: {error.what.partition(': ')[2] or error.what}"}
    finally:
        plan.unlink(missing_ok=True)
    return {"built": "yes", "activation_mb": (built.activation_bytes or 0) / 1e6}


def latencies(paths: dict[str, Path], given: Given, rounds: int) -> dict[str, float]:
    """Median milliseconds of one image on the CPU, all files in turns, in random order."""
    runners = {name: OnnxRunner(path, given.interface) for name, path in paths.items()}
    image = np.load(given.images, mmap_mode="r")[:1].copy()
    order = np.random.default_rng(0)
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds + 3):
        for name in order.permutation(list(paths)):
            started = time.perf_counter()
            runners[name](image)
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(times[3:])) for name, times in taken.items()}


def rows(case: Case, tools: tuple[str, ...], peer_python: str, rounds: int,
         folder: Path) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One row a tool; those with a file have ``path``."""
    given = prepared(case, folder)
    found = [{"tool": FP32, "path": given.fp32, **judged(given.fp32, given)}]
    for name in tools:
        click.echo(f"{name} …", err=True)
        row = quantized(name, given, peer_python)
        if "failed" not in row:
            try:
                row |= judged(row["path"], given)
            except EdgedenseError as error:
                row["failed"] = error.what
        found.append({"tool": name, **row})
    paths = {row["tool"]: row["path"] for row in found if "failed" not in row}
    taken = latencies(paths, given, rounds)
    for row in found:
        milliseconds = taken.get(row["tool"])
        if milliseconds is not None:
            row |= {"cpu_ms": milliseconds, "cpu_ratio": milliseconds / taken[FP32]}
        yield row


def synthetic(name: str, images: int, folder: Path) -> Case:
    """A network of the zoo with random weights, and coloured noise in several sizes as images."""
    import torch
    from PIL import Image
    from zoo import like_trained

    checkpoint = folder / f"{name}.pth"
    torch.save(
        {"state_dict": like_trained(initialised(zoo.find(name), 0)).state_dict()}, checkpoint
    )
    draw = np.random.default_rng(0)
    for number in range(2 * images):
        coarse = draw.integers(0, 256, (2 << number % 5, 2 << number % 5, 3), np.uint8)
        place = folder / ("calibration", "judged")[number % 2] / f"{number // 2 % 2}"
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
        picture.save(place / f"{number}.png")
    sets = [load_set(folder / part) for part in ("calibration", "judged")]
    preprocess = load_preprocess("imagenet")
    network = initialised(zoo.find(name), 0).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.from_numpy(next(iter(batches(sets[0], preprocess, 16))).images))
    checkpoint = folder / f"{name}.pth"
    torch.save({"state_dict": network.state_dict()}, checkpoint)
    return Case(checkpoint, *sets, preprocess, trained=False)


COLUMNS = {
    "tool": "quantizer", "sqnr_db": "logit SQNR dB", "top1": "top-1 %",
    "agreement": "same top-1 %", "seconds": "seconds", "peak_mb": "peak MB", "file_mb": "file MB",
    "built": "TensorRT-RTX builds it", "activation_mb": "activation MB",
    "lint": "lint errors / warnings", "cpu_ratio": "CPU time / FP32's",
}  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    failed = {"built": f"**{' '.join(row['failed'].split())[:120]}**"} if "failed" in row else {}
    version = f" {row['version']}" if "version" in row else ""
    shown = row | failed | {"tool": f"{row['tool']}{version and f' ({version.strip()})'}"}
    values = [shown.get(key) for key in COLUMNS]
    return [
        "" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v)[:120] for v in values
    ]


@click.command()
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--calib", type=click.Path(path_type=Path))
@click.option("--eval", "evaluation", type=click.Path(path_type=Path))
@click.option("--preprocess")
@click.option("--network", help="Instead of MODEL: a network of the zoo with random weights.")
@click.option("--images", default=512, show_default=True, help="Calibration images.")
@click.option("--eval-images", default=5000, show_default=True)
@click.option("--rounds", default=60, show_default=True, help="Latency runs of each file.")
@click.option("--peer-python", default=sys.executable, help="An interpreter with the other tools.")
@click.option("--only", multiple=True, type=click.Choice(TOOLS), help="May be given repeatedly.")
@click.option("--quick", is_flag=True, help="64 calibration and 256 evaluation images, 10 rounds.")
@click.option("--json", "as_json", is_flag=True)
def main(model: Path | None, calib: Path | None, evaluation: Path | None, preprocess: str | None,
         network: str | None, images: int, eval_images: int, rounds: int, peer_python: str,
         only: tuple[str, ...], quick: bool, as_json: bool) -> None:  # fmt: skip
    if quick:
        images, eval_images, rounds = min(images, 64), min(eval_images, 256), min(rounds, 10)
    with tempfile.TemporaryDirectory() as name:
        if network:
            case = synthetic(network, images, Path(name))
        elif model and calib and evaluation and preprocess:
            data = load_set(evaluation)
            data = data.sample(min(eval_images, len(data)), 0)
            sample = load_set(calib).sample(images, 0)
            case = Case(model, sample, data, load_preprocess(preprocess), trained=True)
        else:
            raise click.UsageError("give MODEL, --calib, --eval and --preprocess, or --network")
        if not as_json:
            click.echo(f"| {' | '.join(COLUMNS.values())} |\n|{' --- |' * len(COLUMNS)}")
        for row in rows(case, only or TOOLS, peer_python, rounds, Path(name)):
            click.echo(json.dumps(row, default=str) if as_json else f"| {' | '.join(cells(row))} |")


if __name__ == "__main__":
    main()
