"""The stage ``quantize``: a trained DenseNet and calibration images in, ONNX files out."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches, content_hashes, refuse_overlap, set_sha256
from edgedense.densenet.checkpoints import Model, check_channels
from edgedense.densenet.count import describe
from edgedense.engines.pytorch import interface_of
from edgedense.engines.reference import RecordedReference, save_reference
from edgedense.errors import InputError
from edgedense.graph.export import Float, export_onnx
from edgedense.graph.export_integer import export_integer
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Array, Graph
from edgedense.graph.run import GraphRunner
from edgedense.memory import give_back
from edgedense.progress import SILENT, Progress
from edgedense.quantize.advice import concat_advice
from edgedense.quantize.budget import Budget
from edgedense.quantize.choose import choose, settled
from edgedense.quantize.float_range import Extents, Reach, check_fp16, facts, union
from edgedense.quantize.labelled import labelled_set
from edgedense.quantize.observe import save_drawn
from edgedense.quantize.options import QuantizeOptions
from edgedense.quantize.place import quantized_nodes
from edgedense.quantize.prepare import Prepared, prepare
from edgedense.quantize.sensitivity import SENSITIVITY_FILE, Sensitivity
from edgedense.quantize.verify import (
    check_fp32,
    check_integer,
    check_onnx,
    decibels,
    in_parts,
    pytorch_logits,
    shaken,
)

STAGE = "quantize"
MIN_IMAGES = 16
_JUDGED_IMAGES = {"classification": 32, "segmentation": 4}


@dataclass(frozen=True)
class QuantizeReport:
    """What quantization gave; ``sqnr_db`` is of the simulation's logits on calibration images.

    ``reference_top1`` is FP32's on the evaluation set, in percent; None without one or its labels.
    """

    onnx: str
    placement: str
    effort: str
    calibrator: str
    images: int
    sqnr_db: float
    seconds: float
    artifact: str
    quantized: int
    skipped: tuple[str, ...]
    agreement_db: dict[str, float]
    file_bytes: dict[str, int]
    warnings: tuple[str, ...]
    float_concats: tuple[str, ...]
    sensitivity: Sensitivity | None
    budget: Budget | None
    reference_top1: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; the sensitivity's summary only, the rest has a file of its own."""
        summary = self.sensitivity.summary() if self.sensitivity else None
        return {**asdict(replace(self, sensitivity=None)), "sensitivity": summary}


def quantize(
    model: Model,
    calibration: ImageSet,
    preprocess: Preprocess,
    destination: Path,
    options: QuantizeOptions | None = None,
    reference: RecordedReference | None = None,
    progress: Progress = SILENT,
    evaluation: ImageSet | None = None,
) -> QuantizeReport:
    """Quantize ``model`` and write the artifact ``destination``.

    ``reference`` holds FP32 logits of an evaluation set; they travel along, so that a device can
    validate without PyTorch. ``evaluation`` are labelled images for the accuracy budget, where
    there is one; without them the calibration images tell. Nothing is written before the files
    were seen to compute what PyTorch (FP32) and the simulation (INT8) compute.
    Errors: InputError for too few images, an unknown ``skip`` or dense block, a budget that the
    labelled images cannot show, channels or an input size that do not fit, and with
    ``rest="fp16"`` for a network that does not compute the same in FP16.
    """
    started = time.perf_counter()
    options = options or QuantizeOptions()
    artifact.check_absent(destination)
    check_channels(model.spec, preprocess.channels)
    description = describe(model.spec, preprocess.input_size)
    sample = draw_calibration(calibration, options)
    graph = lower(model.network, preprocess.input_size)
    options = settled(graph, options)
    interface = interface_of(model.spec, preprocess.input_size)
    labelled = labelled_set(sample, evaluation, interface, options.max_drop_pp, progress)
    if reference is not None:
        names = [item.name for item in sample.items]
        content = content_hashes(sample, preprocess, progress=progress)
        refuse_overlap(content, reference.content, names)
    prepared = prepare(graph, sample, preprocess, options, progress)
    chosen = choose(prepared, sample, preprocess, options, labelled, progress)
    placed = chosen.placed
    judged = _judge(model, prepared.graph, placed, sample, preprocess)
    extents = {"plain": prepared.plain, "int8": union(prepared.extents, judged.extents)}
    sqnr_db = decibels(judged.fp32, judged.simulated)
    warnings = check_fp16(*extents.values()) if options.rest == "fp16" else ()
    advice = concat_advice(prepared, chosen, options, judged.images, judged.fp32, sqnr_db)
    give_back()
    golden = judged.first(artifact.GOLDEN_IMAGES[model.spec.task])
    with artifact.create(
        destination,
        STAGE,
        parents={"model": model.sha256, "calibration": set_sha256(sample)},
        options=asdict(options),
        preprocess=preprocess.to_dict(),
        seed=options.seed,
    ) as draft:
        interface = replace(interface, dtype="float16" if options.io == "fp16" else "float32")
        draft.interface = interface.to_dict()
        draft.model = description
        metadata = {
            "edgedense.preprocess": json.dumps(preprocess.to_dict()),
            "edgedense.activation": model.spec.activation,
        }
        paths = _export(graph, placed, draft.path, metadata, options)
        agreement = check_onnx(
            paths, interface, golden.images, golden.fp32, golden.simulated, golden.twin
        )
        path = paths["int8.cpu"] = draft.path / "int8.cpu.onnx"
        written = export_integer(placed, path, metadata)
        agreement["int8.cpu"] = check_integer(path, interface, written, golden.images, golden.fp32)
        path = draft.path / artifact.GOLDEN_FILE
        np.savez(path, images=golden.images, logits=golden.fp32)
        record = _record(model, prepared, sample)
        if chosen.budget is not None:
            record["budget"] = chosen.budget.to_dict()
        if chosen.sensitivity is not None:
            found = chosen.sensitivity.to_dict()
            artifact.write_json(draft.path / SENSITIVITY_FILE, found)
        record["float_range"] = {name: facts(found) for name, found in extents.items()}
        artifact.write_json(draft.path / artifact.CALIBRATION_FILE, record)
        save_drawn(draft.path / artifact.HISTOGRAMS_FILE, prepared.seen.histograms)
        if reference is not None:
            save_reference(draft.path / artifact.REFERENCE_FILE, reference)
        report = QuantizeReport(
            onnx=str(destination / f"int8.{options.rest}.onnx"),
            placement=options.placement,
            effort=options.effort,
            calibrator=options.calibrator,
            images=len(sample),
            sqnr_db=sqnr_db,
            seconds=time.perf_counter() - started,
            artifact=str(destination),
            quantized=len(quantized_nodes(graph, chosen.skip)),
            skipped=chosen.skip,
            agreement_db=agreement,
            file_bytes={name: path.stat().st_size for name, path in paths.items()},
            warnings=(*warnings, *advice),
            float_concats=chosen.float_concats,
            sensitivity=chosen.sensitivity,
            budget=chosen.budget,
            reference_top1=reference.top1 if reference is not None else None,
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
    """Images, their logits from PyTorch and from the simulation, and the latter's ``extents``.

    ``twin`` are the logits of the simulation with its parameters shaken.
    """

    images: Array
    fp32: Array
    simulated: Array
    twin: Array
    extents: Extents

    def first(self, count: int) -> _Judged:
        """The first ``count`` of them."""
        images, fp32, simulated = self.images[:count], self.fp32[:count], self.simulated[:count]
        return _Judged(images, fp32, simulated, self.twin[:count], self.extents)


def _judge(
    model: Model, graph: Graph, placed: Graph, sample: ImageSet, preprocess: Preprocess
) -> _Judged:
    count = _JUDGED_IMAGES[model.spec.task]
    picked = replace(sample, items=sample.items[:: max(1, len(sample) // count)])
    images = next(iter(batches(picked, preprocess, count))).images
    whole, simulation, reach = GraphRunner(graph), GraphRunner(placed), Reach(placed)
    fp32 = pytorch_logits(model.network, images)
    check_fp32(fp32, in_parts(whole, images), "the deployed graph")
    simulated = in_parts(lambda few: simulation(few, reach.observe), images)
    shaky = in_parts(GraphRunner(shaken(placed)), images)
    give_back()
    return _Judged(images, fp32, simulated, shaky, reach.extents)


def _export(
    graph: Graph,
    placed: Graph,
    directory: Path,
    metadata: dict[str, str],
    options: QuantizeOptions,
) -> dict[str, Path]:
    # with rest="fp32" nothing may depend on whether the network fits into FP16
    types: tuple[Float, ...] = ("fp32", "fp16") if options.rest == "fp16" else ("fp32",)
    paths = {}
    for float_type in types:
        io = options.io if float_type == "fp16" else "fp32"
        for prefix, source in (("", graph), ("int8.", placed)):
            name = f"{prefix}{float_type}"
            paths[name] = directory / f"{name}.onnx"
            export_onnx(source, paths[name], float_type, metadata, io)
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
