"""One training: what it starts from, what it learns from, and whether all of that fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from edgedense.artifact import sha256_json
from edgedense.data import ImageSet, Preprocess, set_sha256
from edgedense.densenet.checkpoints import Model
from edgedense.densenet.count import count_macs
from edgedense.densenet.family import Network
from edgedense.distributed import World
from edgedense.errors import InputError
from edgedense.train.options import TrainOptions

_NO_MATTER = ("workers", "memory_efficient")  # options that may change while a training waits


@dataclass(frozen=True, eq=False)
class Job:
    """A ``network`` to train, which will be changed, and the images for it.

    ``model`` is what it was loaded from, None for fresh weights; ``teacher`` another network whose
    logits it learns.
    """

    stage: Literal["train", "finetune"]
    network: Network
    images: ImageSet
    preprocess: Preprocess
    options: TrainOptions
    evaluation: ImageSet | None = None
    model: Model | None = None
    teacher: Model | None = None

    @property
    def mask_classes(self) -> int | None:
        """Classes of a segmentation network's pixels; None for classification."""
        spec = self.network.spec
        return spec.num_classes if spec.task == "segmentation" else None

    @cached_property
    def parents(self) -> dict[str, str]:
        """SHA-256 of what the artifact is made from, by its role."""
        sets = {"data": self.images, "eval": self.evaluation}
        models = {"model": self.model, "teacher": self.teacher}
        return {
            **{role: model.sha256 for role, model in models.items() if model is not None},
            **{role: set_sha256(images) for role, images in sets.items() if images is not None},
        }

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes this training this one, as JSON values: a state of another is refused."""
        options = {k: v for k, v in asdict(self.options).items() if k not in _NO_MATTER}
        parents = {role: self.parents.get(role) for role in ("data", "eval", "teacher")}
        structure = sha256_json(self.network.spec.to_dict())
        model = f"{self.parents.get('model', '')}{structure}"
        preprocess = self.preprocess.to_dict()
        return {"stage": self.stage, "model": model, "preprocess": preprocess, **parents, **options}

    def check(self, world: World) -> None:
        """Raise InputError where network, images, options and processes do not fit."""
        self._check_network()
        for images in (self.images, self.evaluation):
            if images is not None:
                self._check_set(images)
        self._check_names()
        self._check_batch(world)
        if self.options.patience is not None and self.evaluation is None:
            raise InputError("--patience has nothing to judge by", "Give images with --eval.")
        if self.options.keep == "best" and self.evaluation is None:
            raise InputError("--keep best has nothing to judge by", "Give images with --eval.")
        if self.teacher is not None:
            self._check_teacher(self.teacher)

    def _check_network(self) -> None:
        spec = self.network.spec
        count_macs(spec, self.preprocess.input_size)  # says where images are too small
        if spec.in_channels != self.preprocess.channels:
            raise InputError(
                f"the network reads {spec.in_channels} channel(s), the preprocessing gives "
                f"{self.preprocess.channels}",
                "Choose another --preprocess, or a TOML file with the right colour.",
            )
        if spec.activation in ("sigmoid", "op_norm"):
            raise InputError(
                f"the network answers for each class by itself ({spec.activation})",
                "Training with several labels an image is not supported: one label is.",
            )
        if not 0 <= spec.dropout < 1:
            raise InputError(f"--dropout {spec.dropout:g} cannot work", "Give 0 or more, below 1.")

    def _check_set(self, images: ImageSet) -> None:
        if self.mask_classes is None and images.has_masks:
            raise InputError(
                f"{images.source} has masks, but the network gives one answer an image",
                "Take an fc-densenet, such as fc-densenet56, or images in one folder per class.",
            )
        if self.mask_classes is None:
            images.check_labels(self.network.spec.num_classes)
        elif not images.has_masks:
            raise InputError(
                f"{images.source} has no masks, but the network answers for each pixel",
                "Give a folder with images/ and masks/, or a CSV file with the columns path,mask; "
                "or take a network for classification, such as densenet121.",
            )
        if self.mask_classes is not None and self.options.augmentation == "resized-crop-flip":
            raise InputError(
                "segmentation is not trained on resized crops", "Use augmentation crop-flip."
            )

    def _check_names(self) -> None:
        """A class must have the same number in both sets."""
        names = self.images.class_names
        others = () if self.evaluation is None else self.evaluation.class_names
        if self.evaluation is not None and names and others and names != others:
            odd = sorted(set(names).symmetric_difference(others)) or ["in another order"]
            raise InputError(
                f"{self.images.source} and {self.evaluation.source} have different classes "
                f"({', '.join(odd[:3])}{', …' if len(odd) > 3 else ''})",
                "Give both the same class folders (or names): a label is a place among them.",
            )

    def _check_batch(self, world: World) -> None:
        batch, count = self.options.batch, len(self.images)
        if count < batch:
            raise InputError(
                f"{self.images.source}: {count} images do not fill one batch of {batch}",
                f"Give --batch {max(count // world.size, 1) * world.size} or less.",
            )
        world.check_divides(batch)
        if batch // world.size < 2:
            raise InputError(
                f"a batch of {batch} images leaves one for each of {world.size} processes",
                f"Give --batch {2 * world.size} or more, for BN needs two.",
            )

    def _check_teacher(self, teacher: Model) -> None:
        ours, theirs = self.network.spec, teacher.spec
        for what in ("task", "num_classes", "in_channels"):
            if getattr(ours, what) != getattr(theirs, what):
                raise InputError(
                    f"{teacher.source}: the teacher's {what} is {getattr(theirs, what)}, the "
                    f"network's {getattr(ours, what)}",
                    "Give the network that this one was pruned from, or one trained for the same.",
                )
