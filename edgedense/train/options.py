"""What is asked of the stages ``train`` and ``finetune``, and what came out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from edgedense.densenet.family import Spec
from edgedense.errors import InputError
from edgedense.train.augment import AUGMENTATIONS, Augmentation
from edgedense.train.schedule import SCHEDULES, Schedule

Optimizer = Literal["sgd", "rmsprop"]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
Keep = Literal["last", "best"]
KEEPS: tuple[str, ...] = get_args(Keep)


@dataclass(frozen=True)
class TrainOptions:
    """How to train; :func:`recipe` has the papers' values.

    ``batch`` is the number of images of one step over all processes. ``milestones`` are shares of
    the epochs at which schedule ``step`` divides ``lr`` by 10. ``momentum`` is Nesterov's with
    ``sgd``. ``keep`` says which weights the artifact holds: of the last epoch, or of the one that
    was best on the evaluation set (by top-1, or by mean IoU). ``patience`` ends the training after
    so many epochs in a row that were no better there than the best before them; None never does.
    ``sync_bn`` lets BN see the images of all processes. ``temperature`` and ``alpha`` are for a
    teacher: alpha is its share of the loss. Errors: InputError for values that cannot work.
    """

    epochs: int
    batch: int
    lr: float
    optimizer: Optimizer = "sgd"
    schedule: Schedule = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    augmentation: Augmentation = "crop-flip"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    keep: Keep = "last"
    patience: int | None = None
    seed: int = 0
    sync_bn: bool = True
    temperature: float = 4.0
    alpha: float = 0.9
    memory_efficient: bool = False
    amp: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        self._check("epochs", self.epochs >= 1, "1 or more")
        self._check("batch", self.batch >= 2, "2 or more, for BN needs two images")
        self._check("patience", self.patience is None or self.patience >= 1, "1 or more")
        self._check("workers", self.workers >= 0, "0 or more")
        self._check("seed", self.seed >= 0, "0 or more")
        self._check("lr", 0 < self.lr < math.inf, "a number above 0, such as 0.1")
        self._check("temperature", 0 < self.temperature < math.inf, "a number above 0, such as 4")
        self._check("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        for name in ("momentum", "label_smoothing"):
            self._check(name, 0 <= getattr(self, name) < 1, "0 or more, and below 1")
        self._check("alpha", 0 <= self.alpha <= 1, "0 to 1")
        choices = (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("keep", KEEPS))
        for name, known in (*choices, ("augmentation", AUGMENTATIONS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{flag(name)} {getattr(self, name)}: unknown", f"Give {' or '.join(known)}."
                )

    def _check(self, name: str, works: bool, wanted: str) -> None:
        if not works:
            raise InputError(f"{flag(name)} {getattr(self, name):g} cannot work", f"Give {wanted}.")


def flag(name: str) -> str:
    """An option's name as the command line has it."""
    return f"--{name.replace('_', '-')}"


def recipe(spec: Spec, optimizer: Optimizer | None = None) -> TrainOptions:
    """How the papers train a network of this kind, or so with another ``optimizer``.

    Classification (1608.06993, section 4.2): SGD. ImageNet stems: 90 epochs, batch 256, lr / 10
    after 1/3 and 2/3. All others: 300 epochs, batch 64, after 1/2 and 3/4. Segmentation
    (1611.09326, section 4.1): RMSprop, its rate falling each epoch. The paper stops early, and
    takes batches of 3 crops: here it is 200 epochs, and 4 images. An optimizer brings its rate,
    schedule and momentum.
    """
    if spec.task == "segmentation":
        base = TrainOptions(200, 4, 1e-3)
    elif spec.stem == "cifar":
        base = TrainOptions(300, 64, 0.1)
    else:
        thirds = (1 / 3, 2 / 3)
        base = TrainOptions(90, 256, 0.1, milestones=thirds, augmentation="resized-crop-flip")
    if (optimizer or ("rmsprop" if spec.task == "segmentation" else "sgd")) == "sgd":
        return replace(base, lr=0.1)
    return replace(base, optimizer="rmsprop", lr=1e-3, schedule="exponential", momentum=0.0)


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1.

    ``lr`` is of its first step, ``loss`` the mean over its steps. The rest is in percent, of the
    evaluation set, None without one: ``top1`` for classification, ``miou`` and ``pixel_accuracy``
    for segmentation.
    """

    epoch: int
    lr: float
    loss: float
    top1: float | None
    seconds: float
    miou: float | None = None
    pixel_accuracy: float | None = None

    @property
    def judged(self) -> float | None:
        """The figure by which epochs are compared."""
        return self.top1 if self.miou is None else self.miou


@dataclass(frozen=True)
class TrainReport:
    """What training gave.

    ``kept_epoch`` is the epoch whose weights the artifact holds. The accuracies (percent) and
    ``best_epoch`` are of the evaluation set, None without one; ``top1``, ``miou`` and
    ``pixel_accuracy`` belong to the kept weights, and are None for the other task. The best epoch
    was chosen on that same set, so its figure flatters. ``stopped_early`` says that patience
    ended it before all epochs were done. ``seen`` counts evaluation images that are training images
    too, None where that was not looked at. ``diverged`` says that the loss grew instead of falling.
    """

    params: int
    macs: int
    images: int
    evaluated: int
    seen: int | None
    processes: int
    epochs: tuple[Epoch, ...]
    kept_epoch: int
    stopped_early: bool
    top1: float | None
    last_top1: float | None
    best_top1: float | None
    best_epoch: int | None
    miou: float | None
    last_miou: float | None
    best_miou: float | None
    pixel_accuracy: float | None
    diverged: bool
    teacher: str | None
    seconds: float
    artifact: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What a command would do; ``lr`` lists (first epoch, learning rate) where it changes.

    ``left_out`` images of each epoch, others each time, do not fill its last batch. ``seconds`` is
    an estimate from a few steps on this machine, without evaluation and decoding.
    """

    epochs: int
    steps_per_epoch: int
    images: int
    left_out: int
    batch: int
    processes: int
    params: int
    macs: int
    lr: tuple[tuple[int, float], ...]
    seconds_per_step: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
