"""What came out of a training, or of one epoch of it, put together."""

from __future__ import annotations

from collections.abc import Sequence

from edgedense.densenet.count import count_macs, count_params
from edgedense.distributed import World
from edgedense.train.images import Source
from edgedense.train.job import Job
from edgedense.train.options import Epoch, TrainReport
from edgedense.train.state import State

# losses: of no use, times that of the first epoch, of no concern
_HOPELESS, _GROWN, _HARMLESS = 1e3, 10, 0.1


def line(epoch: Epoch, epochs: int) -> str:
    """One epoch of so many, for people."""
    figures = (
        *(("top-1", epoch.top1), ("mean IoU", epoch.miou)),
        ("pixel accuracy", epoch.pixel_accuracy),
    )
    right = "".join(f", {name} {value:.2f} %" for name, value in figures if value is not None)
    return (
        f"epoch {epoch.epoch} of {epochs}: loss {epoch.loss:.4f}{right}, lr {epoch.lr:g}, "
        f"{epoch.seconds:.1f} s"
    )


def report_of(
    job: Job, state: State, world: World, training: Source, evaluation: Source | None
) -> TrainReport:
    """The report of a finished training; how long it took and where it lies is the caller's."""
    spec, epochs = job.network.spec, state.epochs
    best = None if state.best_epoch is None else epochs[state.best_epoch - 1]
    chosen = best if best is not None and state.best is not None else epochs[-1]
    return TrainReport(
        params=count_params(spec),
        macs=count_macs(spec, job.preprocess.input_size),
        images=len(training),
        evaluated=0 if evaluation is None else len(evaluation),
        seen=_seen(training, evaluation),
        processes=world.size,
        epochs=epochs,
        kept_epoch=chosen.epoch,
        stopped_early=len(epochs) < job.options.epochs,
        top1=chosen.top1,
        last_top1=epochs[-1].top1,
        best_top1=None if best is None else best.top1,
        best_epoch=state.best_epoch,
        miou=chosen.miou,
        last_miou=epochs[-1].miou,
        best_miou=None if best is None else best.miou,
        pixel_accuracy=chosen.pixel_accuracy,
        diverged=has_diverged([epoch.loss for epoch in epochs]),
        teacher=None if job.teacher is None else str(job.teacher.source),
        seconds=0.0,
        artifact="",
    )


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the loss grew, finite as it stayed; one near 0 may do so without meaning anything."""
    return losses[-1] > min(_HOPELESS, max(_GROWN * losses[0], _HARMLESS))


def _seen(training: Source, evaluation: Source | None) -> int | None:
    if evaluation is None or not training.content or not evaluation.content:
        return None
    trained = frozenset(training.content)
    return sum(content in trained for content in evaluation.content)
