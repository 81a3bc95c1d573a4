"""Other tools' quantizers: with their best documented settings for TensorRT, and as they come.

Run by quantization.py, each in a process of its own and in whatever interpreter has the tool: this
file needs NumPy and the tool, nothing of edgedense. All get the same FP32 ONNX and the same
preprocessed images, read from the disk a batch at a time; what is not quantized stays FP32, but in
the files of ``DEFAULTS``.

    python benchmarks/peers.py TOOL FP32.onnx INPUT IMAGES.npy BATCH OUT.onnx RESULT.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
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
    """Quantize ``fp32`` to ``out`` with the array in ``images`` (N, channels, height, width).

    ``feed`` is the name of the network's input. ``batch`` divides the number of images: some tools
    stack the batches.
    """

    fp32: Path
    feed: str
    images: Path
    batch: int
    out: Path

    @property
    def shape(self) -> tuple[int, ...]:
        return self._mapped().shape

    def batches(self, start: int = 0, end: int | None = None) -> Iterator[NDArray[np.float32]]:
        stop = self.shape[0] if end is None else end
        for at in range(start, stop, self.batch):
            # mapped anew each time: pages of a mapping that stays would count as the tool's memory
            yield np.array(self._mapped()[at : at + self.batch])

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self.batches()

    def _mapped(self) -> NDArray[np.float32]:
        return np.load(self.images, mmap_mode="r", allow_pickle=False)


@dataclass(frozen=True)
class Peer:
    """A tool with its settings; ``package`` is what to install for it.

    ``batched`` where more images at once made it faster: histograms of ONNX Runtime and ModelOpt.
    NNCF's statistics are those of a sample, so it gets one.
    """

    package: str
    run: Callable[[Job], None]
    batched: bool = False


def onnxruntime_as_it_comes(**options: bool) -> Callable[[Job], None]:
    """quantize_static with ``options`` among its extra ones."""

    def run(job: Job) -> None:
        from onnxruntime.quantization import quantize_static

        quantize_static(job.fp32, job.out, _onnxruntime_reader(job), extra_options=options)

    return run


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
            self.set_range(0, len(self))

        def __len__(self) -> int:
            return job.shape[0]

        def set_range(self, start_index: int, end_index: int) -> None:
            self.feed = job.batches(start_index, end_index)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.feed, None)
            return None if images is None else {job.feed: images}

        def get_first(self) -> dict[str, Any]:  # ModelOpt asks for this and the next
            return {job.feed: next(job.batches())}

        def rewind(self) -> None:
            self.set_range(0, len(self))

    return Reader()


def modelopt_quantizer(method: str, **options: Any) -> Callable[[Job], None]:
    """NVIDIA Model Optimizer's ONNX PTQ; ``options`` are its own."""

    def run(job: Job) -> None:
        from modelopt.onnx.quantization import quantize

        shape = "x".join(map(str, (job.batch, *job.shape[1:])))
        quantize(
            str(job.fp32),
            quantize_mode="int8",
            calibration_data_reader=_onnxruntime_reader(job),
            calibration_method=method,
            calibration_shapes=f"{job.feed}:{shape}",
            calibration_eps=["cpu"],
            output_path=str(job.out),
            log_level="ERROR",
            **options,
        )

    return run


# alone, ModelOpt leaves out narrow convolutions and classifiers and those of a batch of one; its
# option for DLA leaves out nothing, and with the operators named it adds nothing elsewhere
_FP32 = {"high_precision_dtype": "fp32"}
_USUAL = _FP32 | {"op_types_to_quantize": WEIGHTED}
_ALL = _USUAL | {"target_dla": True}


def nncf_quantizer(*, int8: bool) -> Callable[[Job], None]:
    """NNCF's post-training quantization as documented.

    It makes ReLU outputs uint8, which TensorRT takes for int8, and its signedness_to_force is
    refused for every target device. With ``int8`` we rewrite its file to the same ranges in int8.
    """

    def run(job: Job) -> None:
        import nncf
        import onnx

        data = nncf.Dataset(job, lambda images: {job.feed: images})
        count = job.shape[0] // job.batch
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
    "ONNX Runtime, defaults": Peer("onnxruntime", onnxruntime_as_it_comes()),
    "ModelOpt entropy": Peer("nvidia-modelopt", modelopt_quantizer("entropy", **_USUAL), True),
    "ModelOpt max": Peer("nvidia-modelopt", modelopt_quantizer("max", **_USUAL)),
    "ModelOpt entropy, all convolutions": Peer(
        "nvidia-modelopt", modelopt_quantizer("entropy", **_ALL), True
    ),
    "ModelOpt max, all convolutions": Peer("nvidia-modelopt", modelopt_quantizer("max", **_ALL)),
    "ModelOpt entropy, own operators": Peer(
        "nvidia-modelopt", modelopt_quantizer("entropy", **_FP32), True
    ),
    "NNCF": Peer("nncf", nncf_quantizer(int8=False)),
    "NNCF, made int8 by us": Peer("nncf", nncf_quantizer(int8=True)),
}
# to be linted, no rows of the table: ModelOpt's FP16 beside INT8, and what is often told to mend
# ONNX Runtime's defaults for TensorRT
DEFAULTS = {
    "ONNX Runtime, defaults made symmetric": Peer(
        "onnxruntime", onnxruntime_as_it_comes(ActivationSymmetric=True, QuantizeBias=False)
    ),
    "ModelOpt entropy, defaults": Peer("nvidia-modelopt", modelopt_quantizer("entropy")),
    "ModelOpt max, defaults": Peer("nvidia-modelopt", modelopt_quantizer("max")),
}


def run(peer: Peer, job: Job) -> dict[str, Any]:
    """Seconds and peak memory of quantizing; of the imports, memory only."""
    try:
        version = metadata.version(peer.package)
    except metadata.PackageNotFoundError:
        return {"failed": f"{peer.package} is not installed"}
    try:
        _import(peer.package)
        memory = Memory()
        started = time.perf_counter()
        peer.run(job)
        seconds = time.perf_counter() - started
    except Exception as error:  # noqa: BLE001  whatever ends it is a row of the table
        return {"version": version, "failed": f"{type(error).__name__}: {error}"}
    return {"version": version, "seconds": seconds, **memory.peak()}


def _import(package: str) -> None:
    """What the tool takes seconds to import, so that the clock does not count it."""
    if package == "onnxruntime":
        import onnxruntime.quantization.shape_inference  # noqa: F401
    elif package == "nvidia-modelopt":
        import modelopt.onnx.quantization  # noqa: F401
    else:
        import nncf  # noqa: F401
        import onnx  # noqa: F401


class Memory:
    """Peak memory of this process from here on, on Linux.

    getrusage would count what the parent had before exec.
    """

    def __init__(self) -> None:
        self.before = self._status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports

    def peak(self) -> dict[str, float]:
        peak = self._status("VmHWM")
        return {"peak_mb": peak, "above_imports_mb": peak - self.before}

    @staticmethod
    def _status(key: str) -> float:
        return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) / 1e3


if __name__ == "__main__":
    tool, fp32, feed, images, batch, out, result = sys.argv[1:]
    chosen = (PEERS | DEFAULTS)[tool]
    count = len(np.load(images, mmap_mode="r", allow_pickle=False))
    at_once = int(batch) if chosen.batched and count % int(batch) == 0 else 1
    given = Job(Path(fp32), feed, Path(images), at_once, Path(out))
    Path(result).write_text(json.dumps(run(chosen, given)))
