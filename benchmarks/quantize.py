"""Quantizers side by side: edgedense against ONNX Runtime's quantize_static.

Same network, same calibration images, same evaluation images, same runtime and session settings.
Every quantizer runs in a process of its own, so that its peak memory is its own. The latencies are
of one run after another, not interleaved: take them as orders of magnitude.

    python benchmarks/quantize.py MODEL --calib SET --eval SET --preprocess cifar10
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgedense.data import ImageSet, Preprocess, batches, load_preprocess, load_set
from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.spec import INPUT
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.pytorch import reference_runner
from edgedense.engines.reference import RecordedReference, record_reference
from edgedense.engines.runner import Interface
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.stats import agreeing, logit_sqnr_db, top_k


def edgedense_tool(calibrator: Any) -> Callable[..., Path]:
    def run(model: Path, fp32: Path, sample: ImageSet, pre: Preprocess, out: Path) -> Path:
        options = QuantizeOptions(calibrator=calibrator, images=len(sample))
        quantize(load_model(model), sample, pre, out, options)
        return out / "int8.fp32.onnx"

    return run


def onnxruntime_tool(method: str) -> Callable[..., Path]:
    def run(model: Path, fp32: Path, sample: ImageSet, pre: Preprocess, out: Path) -> Path:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.feed = ({INPUT: batch.images} for batch in batches(sample, pre, 1))

            def get_next(self) -> dict[str, Any] | None:
                return next(self.feed, None)

        quantize_static(
            fp32,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            # what TensorRT accepts: symmetric, no INT32 bias
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
            },
        )
        return out

    return run


TOOLS = {
    "edgedense mse": edgedense_tool("mse"),
    "edgedense max": edgedense_tool("max"),
    "ONNX Runtime min-max": onnxruntime_tool("MinMax"),
    "ONNX Runtime percentile": onnxruntime_tool("Percentile"),
}


def quantize_alone(name: str, *given: Any) -> tuple[Path, float, float]:
    """Quantize in a fresh process: the file, seconds, and peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (name, *given))


def _measured(name: str, *given: Any) -> tuple[Path, float, float]:
    started = time.perf_counter()
    path = TOOLS[name](*given)
    seconds = time.perf_counter() - started
    return path, seconds, peak_mb()


def peak_mb() -> float:
    """Peak memory of this process; getrusage would count what the parent had before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def judge(path: Path, interface: Interface, data: ImageSet, reference: RecordedReference,
          preprocess: Preprocess) -> dict[str, Any]:  # fmt: skip
    runner = OnnxRunner(path, interface)
    logits = np.concatenate([runner(batch.images) for batch in batches(data, preprocess, 32)])
    latency_ms = [_timed(runner) for _ in range(60)][10:]
    wanted = reference.logits
    return {
        "top1": 100 * float(top_k(logits, reference.labels, 1).mean()),
        "agreement": 100 * float(agreeing(logits, wanted).mean()),
        "sqnr_db": logit_sqnr_db(wanted, logits),
        "cpu_ms": float(np.median(latency_ms)),
        "file_mb": path.stat().st_size / 1e6,
        "rtx": _accepted(path),
    }


def _timed(runner: OnnxRunner) -> float:
    image = np.zeros((1, *runner.interface.input_shape), np.float32)
    started = time.perf_counter()
    runner(image)
    return 1e3 * (time.perf_counter() - started)


def _accepted(path: Path) -> str:
    """Whether TensorRT-RTX parses the file."""
    try:
        import tensorrt_rtx as trt
    except ImportError:
        return "not tried"
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    return "yes" if trt.OnnxParser(network, logger).parse(path.read_bytes()) else "no"


def rows(model: Path, calib: Path, evaluation: Path, preprocess: str, images: int,
         eval_images: int) -> Iterator[dict[str, Any]]:  # fmt: skip
    pre = load_preprocess(preprocess)
    sample = load_set(calib).sample(images, 0)
    data = load_set(evaluation)
    data = data.sample(min(eval_images, len(data)), 0)
    loaded = load_model(model)
    graph = lower(loaded.network, pre.input_size)
    runner = reference_runner(loaded.network, pre.input_size)
    interface = runner.interface
    reference = record_reference(runner, data, pre)
    yield {
        "tool": "FP32 PyTorch",
        "top1": 100 * float(top_k(reference.logits, reference.labels, 1).mean()),
    }
    with tempfile.TemporaryDirectory() as folder:
        fp32 = Path(folder) / "fp32.onnx"
        export_onnx(graph, fp32, "fp32", {})
        yield {"tool": "FP32 ONNX", **judge(fp32, interface, data, reference, pre)}
        for number, name in enumerate(TOOLS):
            out = Path(folder) / f"out{number}.onnx"
            path, seconds, peak_mb = quantize_alone(name, model, fp32, sample, pre, out)
            found = judge(path, interface, data, reference, pre)
            yield {"tool": name, "seconds": seconds, "peak_mb": peak_mb, **found}


COLUMNS = {
    "tool": "quantizer", "seconds": "seconds", "peak_mb": "peak MB", "sqnr_db": "logit SQNR dB",
    "top1": "top-1 %", "agreement": "same top-1 %", "file_mb": "file MB", "cpu_ms": "CPU ms",
    "rtx": "TensorRT-RTX parses",
}  # fmt: skip


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--calib", type=click.Path(path_type=Path), required=True)
@click.option("--eval", "evaluation", type=click.Path(path_type=Path), required=True)
@click.option("--preprocess", required=True)
@click.option("--images", default=512, show_default=True)
@click.option("--eval-images", default=5000, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(as_json: bool, **given: Any) -> None:
    click.echo("" if as_json else f"| {' | '.join(COLUMNS.values())} |\n|{' --- |' * len(COLUMNS)}")
    for row in rows(**given):
        if as_json:
            click.echo(json.dumps(row))
        else:
            cells = [row.get(key) for key in COLUMNS]
            text = ["" if c is None else f"{c:.2f}" if isinstance(c, float) else c for c in cells]
            click.echo(f"| {' | '.join(text)} |")


if __name__ == "__main__":
    main()
