"""The stage ``quantize``: a trained DenseNet and calibration images in, ONNX files out."""

from __future__ import annotations

import difflib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches, refuse_overlap, set_sha256
from edgedense.densenet.checkpoints import Model, check_channels
from edgedense.densenet.count import describe
from edgedense.distributed import share
from edgedense.engines.pytorch import interface_of
from edgedense.engines.reference import RecordedReference, save_reference
from edgedense.errors import InputError
from edgedense.graph.export import Float, export_onnx
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Array, Graph
from edgedense.graph.run import GraphRunner
from edgedense.progress import SILENT, Progress
from edgedense.quantize.calibrate import Calibration, calibrate, gathered
from edgedense.quantize.place import place_conv, quantized_nodes
from edgedense.quantize.ranges import CALIBRATORS, Calibrator, choose_amax
from edgedense.quantize.verify import check_fp32, check_onnx, decibels, pytorch_logits

STAGE = "quantize"
MIN_IMAGES = 16
# each with its logits; those of a segmentation network have megabytes
GOLDEN_IMAGES = {"classification": 8, "segmentation": 2}
_JUDGED_IMAGES = {"classification": 32, "segmentation": 4}
_PIXELS_AT_ONCE = 8 * 224 * 224


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize.

    ``images`` is the most calibration images used, drawn by class with ``seed``; ``percentile`` is
    for that calibrator only; ``rest`` is the type of everything that is not INT8 in the file meant
    for GPUs (with ``fp32`` no FP16 file is written); ``skip`` names convolutions to leave
    unquantized (``conv0`` is the stem).
    """

    calibrator: Calibrator = "mse"
    percentile: float = 99.999
    placement: Literal["conv"] = "conv"
    rest: Float = "fp16"
    skip: tuple[str, ...] = ()
    images: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise InputError(
                f"--percentile {self.percentile:g} is not in 0 … 100", "Give one such as 99.99."
            )
        if self.calibrator not in CALIBRATORS:
            raise InputError(
                f"--calibrator {self.calibrator}: unknown", f"Use {', '.join(CALIBRATORS)}."
            )


@dataclass(frozen=True)
class QuantizeReport:
    """What quantization gave; ``sqnr_db`` is of the simulation's logits on calibration images."""

    onnx: str
    placement: str
    calibrator: str
    images: int
    sqnr_db: float
    seconds: float
    artifact: str
    quantized: int
    skipped: tuple[str, ...]
    agreement_db: dict[str, float]
    file_bytes: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def quantize(
    model: Model,
    calibration: ImageSet,
    preprocess: Preprocess,
    destination: Path,
    options: QuantizeOptions = QuantizeOptions(),
    reference: RecordedReference | None = None,
    progress: Progress = SILENT,
) -> QuantizeReport:
    """Quantize ``model`` and write the artifact ``destination``.

    ``reference`` holds FP32 logits of an evaluation set; they travel along, so that a device can
    validate without PyTorch. Nothing is written before the files were seen to compute what
    PyTorch (FP32) and the simulation (INT8) compute.
    Errors: InputError for too few images, an unknown ``skip``, channels or an input size that do
    not fit, and with ``rest="fp16"`` for a network that does not compute the same in FP16.
    """
    started = time.perf_counter()
    artifact.check_absent(destination)
    check_channels(model.spec, preprocess.channels)
    description = describe(model.spec, preprocess.input_size)
    sample = draw_calibration(calibration, options)
    graph = lower(model.network, preprocess.input_size)
    _check_skip(graph, options.skip)
    seen, amax = _ranges(graph, sample, preprocess, options, progress)
    if reference is not None:
        refuse_overlap(seen.content, reference.content, [item.name for item in sample.items])
    placed = place_conv(graph, amax, options.skip)
    judged = _judge(model, graph, placed, sample, preprocess)
    golden = judged.first(GOLDEN_IMAGES[model.spec.task])
    with artifact.create(
        destination,
        STAGE,
        parents={"model": model.sha256, "calibration": set_sha256(sample)},
        options=asdict(options),
        preprocess=preprocess.to_dict(),
        seed=options.seed,
    ) as draft:
        interface = interface_of(model.spec, preprocess.input_size)
        draft.interface = interface.to_dict()
        draft.model = description
        metadata = {
            "edgedense.preprocess": json.dumps(preprocess.to_dict()),
            "edgedense.activation": model.spec.activation,
        }
        paths = _export(graph, placed, draft.path, metadata, options.rest)
        agreement = check_onnx(paths, interface, golden.images, golden.fp32, golden.simulated)
        path = draft.path / artifact.GOLDEN_FILE
        np.savez(path, images=golden.images, logits=golden.fp32)
        artifact.write_json(
            draft.path / artifact.CALIBRATION_FILE, _record(model, seen, amax, sample)
        )
        if reference is not None:
            save_reference(draft.path / artifact.REFERENCE_FILE, reference)
        report = QuantizeReport(
            onnx=str(destination / f"int8.{options.rest}.onnx"),
            placement=options.placement,
            calibrator=options.calibrator,
            images=len(sample),
            sqnr_db=decibels(judged.fp32, judged.simulated),
            seconds=time.perf_counter() - started,
            artifact=str(destination),
            quantized=len(quantized_nodes(graph, options.skip)),
            skipped=options.skip,
            agreement_db=agreement,
            file_bytes={name: path.stat().st_size for name, path in paths.items()},
        )
        draft.report = report.to_dict()
    return report


def draw_calibration(calibration: ImageSet, options: QuantizeOptions) -> ImageSet:
    """The images of ``calibration`` that :func:`quantize` uses with these options.

    Errors: InputError where they are too few for ranges that hold.
    """
    sample = calibration.sample(options.images, options.seed)
    if len(sample) < MIN_IMAGES:
        raise InputError(
            f"{calibration.source}: {len(sample)} calibration images, at least {MIN_IMAGES} are "
            "needed for ranges that hold",
            "Give some hundred images from the training set (512 is the default).",
        )
    return sample


@dataclass(frozen=True)
class _Judged:
    """Images with their logits from PyTorch and from the simulation."""

    images: Array
    fp32: Array
    simulated: Array

    def first(self, count: int) -> _Judged:
        """The first ``count`` of them."""
        return _Judged(self.images[:count], self.fp32[:count], self.simulated[:count])


def _check_skip(graph: Graph, skip: tuple[str, ...]) -> None:
    names = [node.name for node in graph.weighted()]
    for name in skip:
        if name not in names:
            close = difflib.get_close_matches(name, names, 3) or names[:3]
            raise InputError(
                f"--skip {name}: no such convolution", f"Nearest: {', '.join(close)}, …"
            )


def _ranges(
    graph: Graph,
    sample: ImageSet,
    preprocess: Preprocess,
    options: QuantizeOptions,
    progress: Progress,
) -> tuple[Calibration, dict[str, float]]:
    values = [node.input for node in quantized_nodes(graph, options.skip)]
    size = _batch_size(preprocess)
    mine = replace(sample, items=share(sample.items, size))
    stream = batches(mine, preprocess, size, progress=progress, label="calibrate")
    seen = gathered(calibrate(graph, values, stream), size)
    amax = {
        name: choose_amax(histogram, options.calibrator, options.percentile)
        for name, histogram in seen.histograms.items()
    }
    return seen, amax


def _batch_size(preprocess: Preprocess) -> int:
    """Images at once: as many as keep a block's concat in some ten megabytes, and 32 at most."""
    height, width = preprocess.input_size
    return max(1, min(32, _PIXELS_AT_ONCE // (height * width)))


def _judge(
    model: Model, graph: Graph, placed: Graph, sample: ImageSet, preprocess: Preprocess
) -> _Judged:
    count = _JUDGED_IMAGES[model.spec.task]
    picked = replace(sample, items=sample.items[:: max(1, len(sample) // count)])
    images = next(iter(batches(picked, preprocess, count))).images
    whole, simulation = GraphRunner(graph), GraphRunner(placed)
    parts = np.array_split(images, math.ceil(len(images) / GOLDEN_IMAGES[model.spec.task]))
    fp32 = np.concatenate([pytorch_logits(model.network, part) for part in parts])
    check_fp32(fp32, np.concatenate([whole(part) for part in parts]), "the deployed graph")
    return _Judged(images, fp32, np.concatenate([simulation(part) for part in parts]))


def _export(
    graph: Graph, placed: Graph, directory: Path, metadata: dict[str, str], rest: Float
) -> dict[str, Path]:
    # with rest="fp32" nothing may depend on whether the network fits into FP16
    types: tuple[Float, ...] = ("fp32", "fp16") if rest == "fp16" else ("fp32",)
    paths = {}
    for float_type in types:
        for prefix, source in (("", graph), ("int8.", placed)):
            name = f"{prefix}{float_type}"
            paths[name] = directory / f"{name}.onnx"
            export_onnx(source, paths[name], float_type, metadata)
    return paths


def _record(
    model: Model, seen: Calibration, amax: dict[str, float], sample: ImageSet
) -> dict[str, Any]:
    content = tuple(dict.fromkeys((*model.calibration, *seen.content)))
    largest = {name: histogram.amax for name, histogram in seen.histograms.items()}
    return {"source": sample.source, "content": content, "amax": amax, "largest": largest}
