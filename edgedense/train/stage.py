"""The stages ``train`` and ``finetune``: images in, a trained network out."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches
from edgedense.densenet.checkpoints import Model, save_weights
from edgedense.densenet.count import count_macs, count_params, describe
from edgedense.densenet.family import Network, Spec, initialised
from edgedense.distributed import World, barrier, from_first, joined, world
from edgedense.engines.pytorch import interface_of
from edgedense.errors import Interrupted
from edgedense.progress import SILENT, Progress
from edgedense.train import state as kept
from edgedense.train.engine import Engine, Streams
from edgedense.train.images import Source, open_source
from edgedense.train.job import Job
from edgedense.train.options import Epoch, Plan, TrainOptions, TrainReport
from edgedense.train.outcome import line, report_of
from edgedense.train.schedule import learning_rate
from edgedense.train.state import State
from edgedense.train.stream import stream

_TIMED_STEPS = 3


def train_job(
    spec: Spec,
    images: ImageSet,
    preprocess: Preprocess,
    options: TrainOptions,
    evaluation: ImageSet | None = None,
) -> Job:
    """Train a network of this structure from fresh weights, drawn with the options' seed."""
    network = initialised(spec, options.seed)
    return Job("train", network, images, preprocess, options, evaluation)


def finetune_job(
    model: Model,
    images: ImageSet,
    preprocess: Preprocess,
    options: TrainOptions,
    evaluation: ImageSet | None = None,
    *,
    teacher: Model | None = None,
    dropout: float | None = None,
) -> Job:
    """Train ``model`` further, itself left as it is; a ``teacher`` guides it by its logits."""
    spec = model.spec if dropout is None else replace(model.spec, dropout=dropout)
    network: Network = initialised(spec, options.seed)
    network.load_state_dict(model.network.state_dict())
    return Job("finetune", network, images, preprocess, options, evaluation, model, teacher)


def run(
    job: Job, destination: Path, progress: Progress = SILENT, steps: Progress | None = None
) -> TrainReport:
    """Do a job, or what is left of it, and write the artifact ``destination``.

    After each epoch the state goes to ``destination``.training; the same job goes on from there.
    ``steps`` shows the loops inside an epoch, where that is not for ``progress``. Under torchrun
    every process calls this: rank 0 speaks, writes and knows the accuracy.
    Errors: InputError for images and options that do not fit, for the unfinished training of
    another job, and where training diverges; Interrupted, saying what is kept.
    """
    started = time.perf_counter()
    artifact.check_absent(destination)
    job.check(world())
    with joined() as here:
        progress, steps = (p if here.first else SILENT for p in (progress, steps or progress))
        training, evaluation = _sources(job, progress)
        engine = _engine(job, here, training, evaluation)
        state = _epochs(job, engine, kept.place(destination), progress, steps)
        network = _kept_network(job.network.spec, state)
        report = replace(
            report_of(job, state, here, training, evaluation),
            seconds=time.perf_counter() - started,
            artifact=str(destination),
        )
        if here.first:
            _write(job, network, report, destination)
            kept.remove(kept.place(destination))
        barrier()
    return report


def plan(job: Job, progress: Progress = SILENT) -> Plan:
    """What :func:`run` would do, and how long it may take. Errors: as those of :func:`run`."""
    job.check(world())
    with joined() as here:
        source = Source(job.images, job.preprocess, job.mask_classes)
        engine = _engine(job, here, source, None)
        steps = len(engine.streams.training)
        drawn = next(engine.streams.training.epoch(0))
        seconds = []
        for _ in progress.track(range(_TIMED_STEPS + 1), "timing a few steps"):
            started = time.perf_counter()
            engine.step(drawn, 0)
            seconds.append(time.perf_counter() - started)
    each = float(np.median(seconds[1:]))  # the first one allocates
    spec, options = job.network.spec, job.options
    return Plan(
        epochs=options.epochs,
        steps_per_epoch=steps,
        images=len(job.images),
        left_out=len(job.images) - steps * options.batch,
        batch=options.batch,
        processes=here.size,
        params=count_params(spec),
        macs=count_macs(spec, job.preprocess.input_size),
        lr=_rates(options),
        seconds_per_step=each,
        seconds=each * steps * options.epochs,
    )


def _sources(job: Job, progress: Progress) -> tuple[Source, Source | None]:
    crops = job.options.augmentation == "resized-crop-flip"  # these need the whole files
    training = open_source(
        job.images,
        job.preprocess,
        job.mask_classes,
        keep=not crops,
        label="decode training images",
        progress=progress,
    )
    if job.evaluation is None:
        return training, None
    label = "decode evaluation images"
    return training, open_source(
        job.evaluation, job.preprocess, job.mask_classes, label=label, progress=progress
    )


def _engine(job: Job, world: World, training: Source, evaluation: Source | None) -> Engine:
    o = job.options
    streams = Streams(
        stream(
            training,
            o.batch,
            world,
            seed=o.seed,
            augmentation=o.augmentation,
            workers=o.workers,
        ),
        None if evaluation is None else stream(evaluation, o.batch, world, workers=o.workers),
        () if evaluation is None else evaluation.images.void,
    )
    teacher = None if job.teacher is None else job.teacher.network
    return Engine(job.network, streams, o, world, teacher)


def _epochs(
    job: Job, engine: Engine, directory: Path, progress: Progress, steps: Progress
) -> State:
    state = _resumed(job, engine, directory, progress)
    try:
        while len(state.epochs) < job.options.epochs:
            if _out_of_patience(state, job.options):
                progress.say(f"stopped: no gain in {job.options.patience} epochs")
                break
            epoch = engine.run_epoch(len(state.epochs), steps)
            state = _after(job, engine, state, epoch)
            if engine.world.first:
                kept.save(directory, state, job.identity)
            progress.say(line(epoch, job.options.epochs))
    except KeyboardInterrupt as interrupt:
        raise _interrupted(len(state.epochs), job.options.epochs, directory) from interrupt
    return state


def _out_of_patience(state: State, options: TrainOptions) -> bool:
    """Whether the best epoch is too long ago; the first process, which knows, decides for all."""
    patience = options.patience
    if patience is None:
        return False
    since = len(state.epochs) - (state.best_epoch or 0)
    return bool(from_first(lambda: b"stop" if since >= patience else b""))


def _interrupted(done: int, epochs: int, directory: Path) -> Interrupted:
    if not done:
        return Interrupted("No epoch was finished, so nothing is kept.")
    return Interrupted(
        f"{done} of {epochs} epochs are kept in {directory}: the same command goes on from there."
    )


def _resumed(job: Job, engine: Engine, directory: Path, progress: Progress) -> State:
    data = from_first(lambda: kept.read(directory, job.identity))
    if not data:
        return engine.state()
    state = kept.restored(data, directory)
    engine.load(state)
    progress.say(f"{directory}: going on after epoch {len(state.epochs)}")
    return state


def _after(job: Job, engine: Engine, before: State, epoch: Epoch) -> State:
    """The state with one epoch more, and the best weights so far where they are wanted."""
    now = replace(
        engine.state(),
        epochs=(*before.epochs, epoch),
        best=before.best,
        best_epoch=before.best_epoch,
    )
    best = max((e.judged for e in before.epochs if e.judged is not None), default=-1.0)
    if epoch.judged is None or epoch.judged <= best:
        return now
    weights = now.network if job.options.keep == "best" else None
    return replace(now, best=weights, best_epoch=epoch.epoch)


def _kept_network(spec: Spec, state: State) -> Network:
    network: Network = initialised(spec, 0)  # which leaves the caller's random numbers alone
    network.load_state_dict(state.best or state.network)
    return network.eval()


def _write(job: Job, network: Network, report: TrainReport, destination: Path) -> None:
    size = job.preprocess.input_size
    with artifact.create(
        destination,
        job.stage,
        parents=job.parents,
        options=asdict(job.options),
        preprocess=job.preprocess.to_dict(),
        seed=job.options.seed,
    ) as draft:
        draft.interface = interface_of(network.spec, size).to_dict()
        draft.model = describe(network.spec, size)
        draft.report = report.to_dict()
        save_weights(network, draft.path / artifact.WEIGHTS_FILE)
        golden = artifact.GOLDEN_IMAGES[network.spec.task]
        first = replace(job.images, items=job.images.items[:golden])
        images = next(batches(first, job.preprocess, golden)).images
        with torch.inference_mode():
            logits = network(torch.from_numpy(images)).numpy()
        np.savez(draft.path / artifact.GOLDEN_FILE, images=images, logits=logits)
        if job.model is not None and job.model.calibration:
            record = {"source": str(job.model.source), "content": job.model.calibration}
            artifact.write_json(draft.path / artifact.CALIBRATION_FILE, record)


def _rates(options: TrainOptions) -> tuple[tuple[int, float], ...]:
    o = options
    rates = [learning_rate(o.schedule, o.lr, o.milestones, e, o.epochs) for e in range(o.epochs)]
    changes = [e for e in range(o.epochs) if e == 0 or rates[e] != rates[e - 1]]
    return tuple((e + 1, rates[e]) for e in changes)
