"""The stage ``prune``: a trained DenseNet in, a narrower one out."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgedense import artifact
from edgedense.data import Batch, ImageSet, Preprocess, batches, content_hashes, set_sha256
from edgedense.densenet.checkpoints import Model, check_channels, save_weights
from edgedense.densenet.count import count_macs, count_params, describe
from edgedense.densenet.family import Network, Spec
from edgedense.densenet.wiring import Grid, grids
from edgedense.engines.pytorch import interface_of
from edgedense.errors import InputError
from edgedense.latency import Precision, Predictor, read_table
from edgedense.progress import SILENT, Progress
from edgedense.prune.groups import aligned_convs, count_convs, prunable
from edgedense.prune.options import GroupReport, LatencyReport, PruneOptions, PruneReport
from edgedense.prune.reconstruct import reconstruct
from edgedense.prune.remove import Pruned
from edgedense.prune.scored import prune_by_scores
from edgedense.prune.select import Budget, check_share
from edgedense.prune.walk import Setting
from edgedense.targets import find_target

STAGE = "prune"
MIN_IMAGES = 16

_PIXELS_AT_ONCE = 1 << 20


def prune(
    model: Model,
    calibration: ImageSet | None,
    preprocess: Preprocess,
    destination: Path,
    options: PruneOptions | None = None,
    progress: Progress = SILENT,
) -> PruneReport:
    """Prune ``model`` to a share of its MACs or to a latency; write the artifact ``destination``.

    ``model`` itself stays as it is. ``calibration`` may be None where ``options`` need no images.
    Errors: InputError for a share that cannot be reached, images that are needed and missing (or
    unlabelled, for Taylor), channels that do not match.
    """
    started = time.perf_counter()
    options = options or PruneOptions()
    if options.method is None:
        options = replace(options, method="magnitude" if calibration is None else "reconstruct")
    artifact.check_absent(destination)
    check_channels(model.spec, preprocess.channels)
    size = preprocess.input_size
    budget = _budget(model.spec, size, options)
    check_share(model.spec, prunable(model.spec, options.scope), budget)
    images = _images(calibration, model.spec, preprocess, options, progress)
    found = _pruned(model.network, budget, images, options, progress)
    pruned = found.network
    golden = None if images is None else _golden(pruned, images)
    with artifact.create(
        destination,
        STAGE,
        parents=_parents(model, images, options),
        options=asdict(options),
        preprocess=preprocess.to_dict(),
        seed=options.seed,
    ) as draft:
        draft.interface = interface_of(pruned.spec, preprocess.input_size).to_dict()
        draft.model = describe(pruned.spec, preprocess.input_size)
        save_weights(pruned, draft.path / artifact.WEIGHTS_FILE)
        if images is not None and golden is not None:
            np.savez(draft.path / artifact.GOLDEN_FILE, images=golden.images, logits=golden.logits)
            artifact.write_json(draft.path / artifact.CALIBRATION_FILE, images.record())
        report = replace(
            _report(model.spec, pruned.spec, budget, options),
            images=len(images.sample) if images is not None and options.needs_images else 0,
            artifact=str(destination),
            alignment_cost=found.alignment_cost,
            seconds=time.perf_counter() - started,
        )
        draft.report = report.to_dict()
    return report


def _budget(spec: Spec, size: Grid, options: PruneOptions) -> Budget:
    share, clock = options.share, None
    if options.latency_ms is not None and options.target is not None:
        target, path = find_target(options.target), options.latency_table
        precision: Precision = "int8" if target.int8 else "fp16"
        table = read_table(Path(path)) if path is not None else None
        clock = Predictor(target, size, precision, table=table)
        share = min(1.0, options.latency_ms / clock.latency_ms(spec))
    return Budget(spec, share, options.align, size, options.of, options.finer, clock)


@dataclass(frozen=True)
class _Images:
    """The calibration images that are used, read as often as they are needed."""

    sample: ImageSet
    preprocess: Preprocess
    batch_size: int
    golden: int
    mask_classes: int | None
    progress: Progress

    def batches(self, label: str) -> Iterator[Batch]:
        return batches(
            self.sample,
            self.preprocess,
            self.batch_size,
            mask_classes=self.mask_classes,
            progress=self.progress,
            label=label,
        )

    def first(self) -> NDArray[np.float32]:
        few = replace(self.sample, items=self.sample.items[: self.golden])
        return next(batches(few, self.preprocess, self.golden)).images

    def record(self) -> dict[str, object]:
        content = content_hashes(self.sample, self.preprocess, progress=self.progress)
        return {"source": self.sample.source, "content": content}


@dataclass(frozen=True)
class _Golden:
    """A few images (N, C, H, W) and the pruned network's logits (N, classes)."""

    images: NDArray[np.float32]
    logits: NDArray[np.float32]


def _images(
    calibration: ImageSet | None,
    spec: Spec,
    preprocess: Preprocess,
    options: PruneOptions,
    progress: Progress,
) -> _Images | None:
    if calibration is None:
        if options.needs_images:
            raise InputError(
                f"{options.needs_images} needs calibration images",
                "Give training images with --calib; or --method magnitude --keep-bn.",
            )
        return None
    golden = artifact.GOLDEN_IMAGES[spec.task]
    mask_classes = None
    if options.method == "taylor" and spec.task == "segmentation":
        mask_classes = spec.num_classes
    elif options.method == "taylor":
        calibration.check_labels(spec.num_classes)
    if mask_classes and not calibration.has_masks:
        raise InputError(
            f"{calibration.source} has no masks, which --method taylor needs",
            "Give a folder with images/ and masks/ inside, or another --method.",
        )
    sample = calibration.sample(options.images if options.needs_images else golden, options.seed)
    if options.needs_images and len(sample) < MIN_IMAGES:
        raise InputError(
            f"{calibration.source}: {len(sample)} calibration images, at least {MIN_IMAGES} are "
            f"needed for {options.needs_images}",
            "Give some hundred images from the training set (512 is the default).",
        )
    batch_size = _batch_size(spec, preprocess, options)
    return _Images(sample, preprocess, batch_size, golden, mask_classes, progress)


def _batch_size(spec: Spec, preprocess: Preprocess, options: PruneOptions) -> int:
    """As many as asked, or as keep a block's concat in some hundred megabytes; 2 at least."""
    height, width = grids(spec, preprocess.input_size)[0]
    return min(options.batch_size, max(2, _PIXELS_AT_ONCE // (height * width)))


def _pruned(
    network: Network,
    budget: Budget,
    images: _Images | None,
    options: PruneOptions,
    progress: Progress,
) -> Pruned:
    if options.method == "reconstruct" and images is not None:
        if budget.share == 1:
            return Pruned(copy.deepcopy(network).eval(), None)
        size, count = budget.input_size, len(images.sample)
        setting = Setting(images.batches, count, size, options.seed, progress)
        return reconstruct(network, options.scope, budget, setting, options.iterations)
    stream = None if images is None else images.batches
    return prune_by_scores(network, budget, options, stream, progress)


def _golden(pruned: Network, images: _Images) -> _Golden:
    first = images.first()
    with torch.inference_mode():
        logits = pruned(torch.from_numpy(first)).numpy()
    if not np.isfinite(logits).all():
        raise InputError(
            "the pruned network gives NaN or infinite logits on calibration images",
            "Check --preprocess, and the checkpoint by: edgedense inspect",
        )
    return _Golden(first, logits)


def _parents(model: Model, images: _Images | None, options: PruneOptions) -> dict[str, str]:
    parents = {"model": model.sha256}
    if images is not None:
        parents["calibration"] = set_sha256(images.sample)
    if options.latency_table is not None:
        parents["latency_table"] = artifact.sha256_file(Path(options.latency_table))
    return parents


def _report(before: Spec, after: Spec, budget: Budget, options: PruneOptions) -> PruneReport:
    size, groups = budget.input_size, prunable(before, options.scope)
    widths = {group.name: group.width for group in prunable(after, "all")}
    return PruneReport(
        macs_before=count_macs(before, size),
        macs_after=count_macs(after, size),
        params_before=count_params(before),
        params_after=count_params(after),
        seconds=0.0,
        artifact="",
        asked=options.asked,
        of=options.of,
        share=budget.cost(after) / budget.cost(before),
        scope=options.scope,
        method=options.method or "magnitude",
        align=options.align,
        reestimated_bn=options.moves_bn and after != before,
        images=0,
        convs=count_convs(after),
        aligned_before=aligned_convs(before, options.align),
        alignment_cost=None,
        aligned_after=aligned_convs(after, options.align),
        groups=tuple(GroupReport(g.name, g.width, widths[g.name]) for g in groups),
        latency=_latency(before, after, budget.clock),
    )


def _latency(before: Spec, after: Spec, clock: Predictor | None) -> LatencyReport | None:
    if clock is None:
        return None
    return LatencyReport(
        before_ms=clock.latency_ms(before),
        after_ms=clock.latency_ms(after),
        basis=clock.basis,
        target=clock.target.name,
        precision=clock.precision,
        placement=clock.placement,
    )
