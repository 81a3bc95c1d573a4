"""INT8 against FP32 in ONNX Runtime on this CPU: what each form of a network takes, and where.

Four INT8 files of one network: Q/DQ as TensorRT takes it and the integer operators of target
``cpu``, each with placement ``conv`` and ``block``. All run one image, in turns in random order,
after each other in one process; "times faster" is the median over the turns of FP32's time over
this file's in the same turn, "fastest" that of the shortest times. Then the kernels' milliseconds
by operator, from ONNX Runtime's profile, a median a node: they leave out what lies between nodes.

    python benchmarks/cpu_int8.py --network densenet121
    python benchmarks/cpu_int8.py MODEL --calib SET --eval SET --preprocess cifar10

The first line takes random weights and synthetic images: its decibels compare files, not networks.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from quantization_cases import Case, case_of, case_options

from edgedense import artifact
from edgedense.data import batches
from edgedense.densenet.checkpoints import load_model
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.pytorch import reference_runner
from edgedense.engines.runner import Interface
from edgedense.environment import cpu_model, has_vnni
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.stats import logit_sqnr_db

FP32 = "FP32"
PLACEMENTS = ("conv", "block")
FORMS = {"int8.fp32.onnx": "Q/DQ", "int8.cpu.onnx": "integer"}


def written(case: Case, folder: Path) -> tuple[dict[str, Path], Interface]:
    """The files by their names in the table, and their interface."""
    paths = {}
    for placement in PLACEMENTS:
        made = folder / placement
        options = QuantizeOptions(placement=placement, rest="fp32")  # type: ignore[arg-type]
        quantize(load_model(case.model), case.sample, case.preprocess, made, options)
        found = artifact.read(made)
        paths[FP32] = found.file("fp32.onnx")
        for file, form in FORMS.items():
            paths[f"{form}, {placement}"] = found.file(file)
    return paths, Interface.from_dict(found.manifest.interface)


def sqnr_db(case: Case, paths: Mapping[str, Path], interface: Interface) -> dict[str, float | None]:
    """Logits against PyTorch's in FP32."""
    images = [batch.images for batch in batches(case.judged, case.preprocess, 16)]
    reference = reference_runner(load_model(case.model).network, case.preprocess.input_size)
    wanted = np.concatenate([reference(part) for part in images])
    found = {}
    for name, path in paths.items():
        runner = OnnxRunner(path, interface)
        found[name] = logit_sqnr_db(wanted, np.concatenate([runner(part) for part in images]))
        runner.close()
    return found


def taken(paths: Mapping[str, Path], interface: Interface, image: NDArray[np.float32],
          rounds: int, threads: int) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Milliseconds of each turn."""
    runners = {name: OnnxRunner(path, interface, threads=threads) for name, path in paths.items()}
    times: dict[str, list[float]] = {name: [] for name in paths}
    order = np.random.default_rng(0)
    for _ in range(rounds + 3):
        for name in order.permutation(list(paths)):
            started = time.perf_counter()
            runners[name](image)
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: np.array(found[3:]) for name, found in times.items()}


def kernels(path: Path, interface: Interface, image: NDArray[np.float32], rounds: int,
            threads: int, folder: Path) -> dict[str, tuple[int, float]]:  # fmt: skip
    """Nodes and milliseconds by operator."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for _ in range(rounds):
        session.run(None, {interface.input_name: image})
    nodes = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    found: dict[str, tuple[int, float]] = {}
    for (kind, _), milliseconds in nodes.items():
        count, total = found.get(kind, (0, 0.0))
        found[kind] = count + 1, total + float(np.median(milliseconds))
    return found


def measured(case: Case, rounds: int, threads: int, folder: Path) -> dict[str, dict[str, Any]]:
    paths, interface = written(case, folder)
    decibels = sqnr_db(case, paths, interface)
    image = next(iter(batches(case.judged, case.preprocess, 1))).images
    times = taken(paths, interface, image, rounds, threads)
    return {
        name: {
            "median_ms": float(np.median(times[name])),
            "times_faster": float(np.median(times[FP32] / times[name])),
            "fastest": float(times[FP32].min() / times[name].min()),
            "sqnr_db": decibels[name],
            "file_mb": path.stat().st_size / 1e6,
            "kernels": kernels(path, interface, image, rounds, threads, folder),
        }
        for name, path in paths.items()
    }


def show(found: Mapping[str, dict[str, Any]]) -> None:
    vnni = "with" if has_vnni() else "without"
    click.echo(f"{cpu_model()}, {vnni} VNNI, ONNX Runtime {onnxruntime.__version__}\n")
    click.echo("| file | times faster | fastest | median ms | logit SQNR dB | MB |")
    click.echo("| --- | --- | --- | --- | --- | --- |")
    for name, row in found.items():
        numbers = (row[k] for k in ("times_faster", "fastest", "median_ms", "sqnr_db", "file_mb"))
        click.echo(f"| {name} | {' | '.join(f'{n:.2f}' for n in numbers)} |")
    totals = {name: sum(ms for _, ms in row["kernels"].values()) for name, row in found.items()}
    kinds = {kind: 0.0 for row in found.values() for kind in row["kernels"]}
    for row in found.values():
        for kind, (_, milliseconds) in row["kernels"].items():
            kinds[kind] = max(kinds[kind], milliseconds)
    click.echo(f"\n| kernel ms (nodes) | {' | '.join(found)} |\n|{' --- |' * (1 + len(found))}")
    for kind in sorted((k for k in kinds if kinds[k] >= 0.05), key=kinds.__getitem__, reverse=True):
        cells = [row["kernels"].get(kind) for row in found.values()]
        shown = (f"{cell[1]:.2f} ({cell[0]})" if cell else "" for cell in cells)
        click.echo(f"| {kind} | {' | '.join(shown)} |")
    click.echo(f"| all | {' | '.join(f'{total:.2f}' for total in totals.values())} |")


@click.command()
@case_options
@click.option("--images", default=32, show_default=True, help="Calibration and judged images.")
@click.option("--rounds", default=60, show_default=True, help="Turns of each file.")
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(model: Path | None, calib: Path | None, evaluation: Path | None, preprocess: str | None,
         network: str | None, images: int, rounds: int, threads: int,
         as_json: bool) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        given = (model, calib, evaluation, preprocess, network)
        case = case_of(*given, images, images, Path(name))
        found = measured(case, rounds, threads, Path(name))
        click.echo(json.dumps(found)) if as_json else show(found)


if __name__ == "__main__":
    main()
