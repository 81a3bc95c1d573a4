"""Other tools' quantizers, each with its best documented settings for TensorRT.

Run by quantization.py, each in a process of its own and in whatever interpreter has the tool: this
file needs NumPy and the tool, nothing of edgedense. All get the same FP32 ONNX and the same
preprocessed images, in batches; what is not quantized stays FP32.

    python benchmarks/peers.py TOOL FP32.onnx INPUT IMAGES.npy BATCH OUT.onnx RESULT.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# what all of them quantize alike: the convolutions and the classifier
WEIGHTED = ["Conv", "Gemm"]


@dataclass(frozen=True)
class Job:
    """Quantize ``fp32`` to ``out`` with ``images`` (N, channels, height, width), preprocessed.

    ``feed`` is the name of the network's input. ``batch`` divides the number of images: some tools
    stack the batches.
    """

    fp32: Path
    feed: str
    images: NDArray[np.float32]
    batch: int
    out: Path

    def batches(self, start: int = 0, end: int | None = None) -> list[NDArray[np.float32]]:
        stop = len(self.images) if end is None else end
        return [self.images[at : at + self.batch] for at in range(start, stop, self.batch)]


@dataclass(frozen=True)
class Peer:
    """A tool with its settings; ``package`` is what to install for it.

    ``batched`` where more images at once made it faster: histograms of ONNX Runtime and ModelOpt.
    NNCF's statistics are those of a sample, so it gets one.
    """

    package: str
    run: Callable[[Job], None]
    batched: bool = False


def onnxruntime_quantizer(method: str, *, outputs: bool = False) -> Callable[[Job], None]:
    """quantize_static, symmetric, per-channel weights, no INT32 bias: TensorRT refuses the others.

    With ``outputs``, what convolutions give out is quantized, too: its default.
    """

    def run(job: Job) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        prepared = job.out.with_suffix(".prepared.onnx")
        quant_pre_process(job.fp32, prepared, skip_symbolic_shape=True)
        options = {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": True,
            "DedicatedQDQPair": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": [] if outputs else WEIGHTED,
        }
        if method != "MinMax":  # without it the values of all images are kept until the last
            options["CalibStridedMinMax"] = job.batch
        quantize_static(
            prepared,
            job.out,
            _onnxruntime_reader(job),
            op_types_to_quantize=WEIGHTED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options=options,
        )

    return run


def _onnxruntime_reader(job: Job) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.set_range(0, len(job.images))

        def __len__(self) -> int:
            return len(job.images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.feed = iter(job.batches(start_index, end_index))

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.feed, None)
            return None if images is None else {job.feed: images}

    return Reader()


def modelopt_quantizer(method: str, *, everywhere: bool = False) -> Callable[[Job], None]:
    """NVIDIA Model Optimizer's ONNX PTQ; ``everywhere`` leaves it the choice of operators."""

    def run(job: Job) -> None:
        from modelopt.onnx.quantization import quantize

        shape = "x".join(map(str, (job.batch, *job.images.shape[1:])))
        quantize(
            str(job.fp32),
            quantize_mode="int8",
            calibration_data=np.ascontiguousarray(job.images),
            calibration_method=method,
            calibration_shapes=f"{job.feed}:{shape}",
            calibration_eps=["cpu"],
            op_types_to_quantize=None if everywhere else WEIGHTED,
            high_precision_dtype="fp32",
            output_path=str(job.out),
            log_level="ERROR",
        )

    return run


def nncf_quantizer(*, int8: bool) -> Callable[[Job], None]:
    """NNCF's post-training quantization as documented.

    It makes ReLU outputs uint8, which TensorRT takes for int8, and its signedness_to_force is
    refused for every target device. With ``int8`` we rewrite its file to the same ranges in int8.
    """

    def run(job: Job) -> None:
        import nncf
        import onnx

        data = nncf.Dataset(job.batches(), lambda images: {job.feed: images})
        count = len(job.images) // job.batch
        model = nncf.quantize(onnx.load(job.fp32), data, subset_size=count)
        if int8:
            signed(model)
        onnx.save(model, job.out)

    return run


def signed(model: Any) -> None:
    """Turn uint8 quantization with zero point 0 into int8 of the same range, in place."""
    from onnx import numpy_helper

    arrays = {array.name: array for array in model.graph.initializer}
    kinds = ("QuantizeLinear", "DequantizeLinear")
    pairs = [node for node in model.graph.node if node.op_type in kinds]
    values = {node.input[2]: numpy_helper.to_array(arrays[node.input[2]]) for node in pairs}
    wrong = [node for node in pairs if values[node.input[2]].dtype == np.uint8]
    for name in {node.input[1] for node in wrong}:
        scale = numpy_helper.to_array(arrays[name])
        arrays[name].CopyFrom(numpy_helper.from_array((scale * 255 / 127).astype("f"), name))
    for name in {node.input[2] for node in wrong}:
        zero = values[name]
        if zero.any():
            raise ValueError(f"{name}: zero point {zero}")
        arrays[name].CopyFrom(numpy_helper.from_array(zero.astype(np.int8), name))
    del model.graph.value_info[:]  # it still says uint8


PEERS = {
    "ONNX Runtime min-max": Peer("onnxruntime", onnxruntime_quantizer("MinMax")),
    "ONNX Runtime entropy": Peer("onnxruntime", onnxruntime_quantizer("Entropy"), True),
    "ONNX Runtime percentile": Peer("onnxruntime", onnxruntime_quantizer("Percentile"), True),
    "ONNX Runtime percentile, outputs too": Peer(
        "onnxruntime", onnxruntime_quantizer("Percentile", outputs=True), True
    ),
    "ModelOpt entropy": Peer("nvidia-modelopt", modelopt_quantizer("entropy"), True),
    "ModelOpt max": Peer("nvidia-modelopt", modelopt_quantizer("max")),
    "ModelOpt entropy, own operators": Peer(
        "nvidia-modelopt", modelopt_quantizer("entropy", everywhere=True), True
    ),
    "NNCF": Peer("nncf", nncf_quantizer(int8=False)),
    "NNCF, made int8 by us": Peer("nncf", nncf_quantizer(int8=True)),
}


def run(name: str, job: Job) -> dict[str, Any]:
    """Seconds and peak memory in MB of quantizing, imports included in the memory only."""
    peer = PEERS[name]
    try:
        version = metadata.version(peer.package)
    except metadata.PackageNotFoundError:
        return {"failed": f"{peer.package} is not installed"}
    try:
        _import(peer.package)
        started = time.perf_counter()
        peer.run(job)
        seconds = time.perf_counter() - started
    except Exception as error:  # noqa: BLE001  whatever ends it is a row of the table
        return {"version": version, "failed": f"{type(error).__name__}: {error}"}
    return {"version": version, "seconds": seconds, "peak_mb": peak_mb()}


def _import(package: str) -> None:
    """What the tool takes seconds to import, so that the clock does not count it."""
    if package == "onnxruntime":
        import onnxruntime.quantization.shape_inference  # noqa: F401
    elif package == "nvidia-modelopt":
        import modelopt.onnx.quantization  # noqa: F401
    else:
        import nncf  # noqa: F401
        import onnx  # noqa: F401


def peak_mb() -> float:
    """Peak memory of this process; getrusage would count what the parent had before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


if __name__ == "__main__":
    tool, fp32, feed, file, batch, out, result = sys.argv[1:]
    images = np.load(file, allow_pickle=False)
    at_once = int(batch) if PEERS[tool].batched and len(images) % int(batch) == 0 else 1
    given = Job(Path(fp32), feed, images, at_once, Path(out))
    Path(result).write_text(json.dumps(run(tool, given)))
