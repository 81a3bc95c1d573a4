"""The stage ``quantize``: a trained DenseNet and calibration images in, ONNX files out."""

from __future__ import annotations

import difflib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches, refuse_overlap, set_sha256
from edgedense.densenet.checkpoints import Model, check_channels
from edgedense.densenet.count import describe
from edgedense.engines.pytorch import interface_of
from edgedense.engines.reference import RecordedReference, save_reference
from edgedense.errors import InputError
from edgedense.graph.export import Float, export_onnx
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Array, Graph
from edgedense.graph.run import GraphRunner
from edgedense.progress import SILENT, Progress
from edgedense.quantize.options import QuantizeOptions
from edgedense.quantize.place import place_block, place_conv, quantized_nodes
from edgedense.quantize.prepare import Prepared, prepare
from edgedense.quantize.verify import check_fp32, check_onnx, decibels, pytorch_logits

STAGE = "quantize"
MIN_IMAGES = 16
_JUDGED_IMAGES = {"classification": 32, "segmentation": 4}


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
    options: QuantizeOptions | None = None,
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
    options = options or QuantizeOptions()
    artifact.check_absent(destination)
    check_channels(model.spec, preprocess.channels)
    description = describe(model.spec, preprocess.input_size)
    sample = draw_calibration(calibration, options)
    graph = lower(model.network, preprocess.input_size)
    _check_skip(graph, options.skip)
    prepared = prepare(graph, sample, preprocess, options, progress)
    if reference is not None:
        names = [item.name for item in sample.items]
        refuse_overlap(prepared.seen.content, reference.content, names)
    place = place_block if options.placement == "block" else place_conv
    placed = place(prepared.graph, prepared.scales, options.skip)
    judged = _judge(model, prepared.graph, placed, sample, preprocess)
    golden = judged.first(artifact.GOLDEN_IMAGES[model.spec.task])
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
        record = _record(model, prepared, sample)
        artifact.write_json(draft.path / artifact.CALIBRATION_FILE, record)
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


def _judge(
    model: Model, graph: Graph, placed: Graph, sample: ImageSet, preprocess: Preprocess
) -> _Judged:
    count = _JUDGED_IMAGES[model.spec.task]
    picked = replace(sample, items=sample.items[:: max(1, len(sample) // count)])
    images = next(iter(batches(picked, preprocess, count))).images
    whole, simulation = GraphRunner(graph), GraphRunner(placed)
    parts = np.array_split(images, math.ceil(len(images) / artifact.GOLDEN_IMAGES[model.spec.task]))
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


def _record(model: Model, prepared: Prepared, sample: ImageSet) -> dict[str, Any]:
    content = tuple(dict.fromkeys((*model.calibration, *prepared.seen.content)))
    largest = {name: histogram.amax for name, histogram in prepared.seen.histograms.items()}
    return {
        "source": sample.source,
        "content": content,
        "amax": prepared.amax,
        "scale": prepared.scales,
        "moved": prepared.moved,
        "largest": largest,
    }
