"""What a pruned network is worth: as it is, with BN statistics estimated anew, and fine-tuned."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from edgedense.data import Batch, ImageSet, Preprocess, batches
from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.family import Network, network_of
from edgedense.densenet.specs import spec_from_dict
from edgedense.distributed import World
from edgedense.stats import PairedCounts, paired_difference, top_k
from edgedense.train import TrainOptions
from edgedense.train.engine import Engine, Streams
from edgedense.train.images import open_source
from edgedense.train.stream import Drawn, stream

BATCH = 64


@dataclass(frozen=True)
class Case:
    """The network file, the images that calibrate, those that train, and those that judge."""

    model: Path
    sample: ImageSet
    training: ImageSet
    judged: ImageSet
    preprocess: Preprocess

    def calibration(self) -> Iterator[Batch]:
        return batches(self.sample, self.preprocess, 64)


@dataclass(frozen=True)
class Answers:
    """Whether each image of a set was answered rightly, and the mean cross-entropy."""

    right: NDArray[np.bool_]
    loss: float


def answers(network: Network, images: ImageSet, preprocess: Preprocess) -> Answers:
    """Of a network in eval mode."""
    logits, labels = [], []
    with torch.inference_mode():
        for batch in batches(images, preprocess, 100):
            seen = torch.from_numpy(batch.images).contiguous(memory_format=torch.channels_last)
            logits.append(network.eval()(seen))
            labels.append(batch.labels)
    found, truth = torch.cat(logits), np.concatenate(labels)
    loss = float(F.cross_entropy(found, torch.from_numpy(truth)))
    return Answers(top_k(found.numpy(), truth, 1), loss)


def worth(network: Network, whole: Network, size: tuple[int, int]) -> dict[str, float]:
    """Shares of ``whole``."""
    ours, theirs = network.spec, whole.spec
    return {
        "macs_share": count_macs(ours, size) / count_macs(theirs, size),
        "params_share": count_params(ours) / count_params(theirs),
    }


def against(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any]:
    """Top-1 in percent, and the paired drop with its 95 % interval in percentage points."""
    drop = paired_difference(PairedCounts.of(before, after)).scaled(100)
    return {"top1": 100 * float(after.mean()), "drop_pp": drop.value, "drop_ci95": drop.interval}


def averaged(network: Network, case: Case) -> Network:
    """A copy with the plain averages of the calibration batches' BN statistics (adaptive BN).

    Source: Li et al., "EagleEye" (arXiv 2007.02491, section 3.3).
    """
    learner = copy.deepcopy(network).eval()
    for module in learner.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # PyTorch's name for the plain average of all batches
            module.train()
    with torch.no_grad():
        for batch in case.calibration():
            learner(torch.from_numpy(batch.images))
    for module in learner.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return learner.eval()


def finetuned(network: Network, case: Case, steps: int, lr: float) -> tuple[Network, float]:
    """A copy after so many steps on the labels alone, and their seconds of CPU time."""
    options = TrainOptions(epochs=steps, batch=BATCH, lr=lr)
    source = open_source(case.training, case.preprocess, None)
    images = stream(source, BATCH, World(), seed=options.seed, augmentation=options.augmentation)
    engine = Engine(copy.deepcopy(network), Streams(images, None), options, World())
    started = time.process_time()
    for step, drawn in enumerate(itertools.islice(_endless(images), steps)):
        engine.step(drawn, step)  # the schedule's epochs are steps here
    return engine.network.eval(), time.process_time() - started


def _endless(images: Any) -> Iterator[Drawn]:
    for epoch in itertools.count():
        yield from images.epoch(epoch)


def save(network: Network, path: Path) -> None:
    """Structure and weights, in two files."""
    path.with_suffix(".json").write_text(json.dumps(network.spec.to_dict()))
    torch.save(network.state_dict(), path.with_suffix(".pt"))


def read(path: Path) -> Network:
    """What :func:`save` wrote."""
    network = network_of(spec_from_dict(json.loads(path.with_suffix(".json").read_text())))
    network.load_state_dict(torch.load(path.with_suffix(".pt"), weights_only=True))
    return network.eval()
