"""Run an engine, and its reference, once over an evaluation set; nothing here judges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedense import stats
from edgedense.data import Batch, ImageSet, Preprocess, batches
from edgedense.distributed import gather_rows, share
from edgedense.engines.reference import RecordedReference, check_finite, infer
from edgedense.engines.runner import Floats, Runner
from edgedense.progress import SILENT, Progress
from edgedense.validate import evidence
from edgedense.validate.fit import check_fit, refuse_calibration_images

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers in percent (0 … 100).

    ``top1_ci95`` is Wilson's interval. ``top5`` is None with five classes or fewer, where it says
    nothing; everything is None where no image has a label.
    """

    top1: float | None
    top5: float | None
    top1_ci95: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        interval = list(self.top1_ci95) if self.top1_ci95 else None
        return {"top1": self.top1, "top5": self.top5, "top1_ci95": interval}


@dataclass(frozen=True, eq=False)
class Measurement:
    """Raw samples of one pass over an evaluation set, in its order; all else is derived.

    ``content`` SHA-256 of the decoded pixels (N); ``labels`` (N,), -1 where unknown;
    ``engine_logits`` and ``reference_logits`` float32 (N, classes), the latter None without one.
    ``names`` of the images and ``class_names`` may be empty; ``activation`` is what the trained
    network applies to its logits.
    """

    content: tuple[str, ...]
    labels: NDArray[np.int64]
    engine_logits: Floats
    reference_logits: Floats | None
    names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    activation: str = "none"

    @property
    def task(self) -> Literal["classification"]:
        """One answer an image."""
        return "classification"

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def labelled(self) -> Bools:
        """Which images have a label (N,)."""
        known: Bools = self.labels >= 0
        return known

    @cached_property
    def engine_correct(self) -> Bools:
        """Whether the engine's top class is the label, of the labelled images."""
        return stats.top_k(self.engine_logits[self.labelled], self.labels[self.labelled], 1)

    @cached_property
    def reference_correct(self) -> Bools | None:
        """The same of the reference; None without one."""
        if self.reference_logits is None:
            return None
        return stats.top_k(self.reference_logits[self.labelled], self.labels[self.labelled], 1)

    @cached_property
    def counts(self) -> stats.PairedCounts | None:
        """How engine and reference split the labelled images; None without labels or reference."""
        if self.reference_correct is None or not len(self.reference_correct):
            return None
        return stats.PairedCounts.of(self.reference_correct, self.engine_correct)

    @cached_property
    def not_finite(self) -> int:
        """Number of images for which the engine gave NaN or infinity."""
        return int(np.count_nonzero(~stats.finite_rows(self.engine_logits)))

    @cached_property
    def engine(self) -> Accuracy:
        """Accuracy of the engine."""
        return self._accuracy(self.engine_logits)

    @cached_property
    def reference(self) -> Accuracy | None:
        """Accuracy of the reference; None without one."""
        return None if self.reference_logits is None else self._accuracy(self.reference_logits)

    @cached_property
    def drop(self) -> stats.Estimate | None:
        """Top-1 of the reference minus top-1 of the engine, in pp, with Tango's 95 % interval.

        Positive where the engine is worse; None without labels or reference.
        """
        return None if self.counts is None else stats.paired_difference(self.counts).scaled(100)

    @cached_property
    def agreement_interval(self) -> stats.Estimate | None:
        """Percent of images where engine and reference name the same class, with Wilson's 95 %."""
        if self.reference_logits is None:
            return None
        same = int(np.count_nonzero(stats.agreeing(self.engine_logits, self.reference_logits)))
        return stats.wilson(same, self.samples).scaled(100)

    @property
    def agreement(self) -> float | None:
        """The same without its interval."""
        return self.agreement_interval.value if self.agreement_interval else None

    @cached_property
    def logit_sqnr_db(self) -> float | None:
        """Logit SQNR in dB over all images; None without a reference or with NaN or infinity."""
        if self.reference_logits is None:
            return None
        return stats.logit_sqnr_db(self.reference_logits, self.engine_logits)

    @cached_property
    def details(self) -> dict[str, Any]:
        """What only classification has to tell, as plain JSON values."""
        counts, agreement = self.counts, self.agreement_interval
        newcombe = stats.newcombe_difference(counts).scaled(100) if counts else None
        return {
            "labelled": int(np.count_nonzero(self.labelled)),
            "lost": counts.lost if counts else None,
            "gained": counts.gained if counts else None,
            "mcnemar_p": stats.mcnemar_p(counts) if counts else None,
            "mcnemar_mid_p": stats.mcnemar_mid_p(counts) if counts else None,
            "drop_newcombe_ci95": list(newcombe.interval) if newcombe else None,
            "agreement_ci95": list(agreement.interval) if agreement else None,
            **self._beside_the_reference(),
            "calibration": self._calibration(),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what deserves a look, whatever the verdict."""
        outputs = self.engine_logits.shape[1]
        found = evidence.notes(self.details, self.activation, outputs)
        original = self.reference
        if original is None or original.top1_ci95 is None:
            return found
        return (*evidence.guessing(original.top1_ci95[0], outputs, self.activation), *found)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The raw samples, to be kept."""
        found: dict[str, NDArray[Any]] = {
            "content": np.array(self.content, dtype="U64"),
            "labels": self.labels,
            "engine_logits": self.engine_logits,
        }
        if self.reference_logits is not None:
            found["reference_logits"] = self.reference_logits
        if self.names:
            found["names"] = np.array(self.names, np.str_)
        return found

    def _beside_the_reference(self) -> dict[str, Any]:
        """Divergence, margins, flips and classes; all None without a reference."""
        reference, engine, known = self.reference_logits, self.engine_logits, self.labelled
        if reference is None:
            return dict.fromkeys(("kl_nats", "kl_max_nats", "margin", "flips", "classes"))
        classes = None
        if self.reference_correct is not None and known.any():
            right = (self.reference_correct, self.engine_correct)
            classes = evidence.per_class(self.labels[known], *right, self.class_names)
        return {
            **evidence.divergences(reference, engine, self.activation),
            "margin": evidence.margin_change(reference, engine),
            "flips": evidence.flips(self.names, self.labels, reference, engine, self.class_names),
            "classes": classes,
        }

    def _calibration(self) -> dict[str, Any] | None:
        known, reference = self.labelled, self.reference_logits
        before = None if reference is None else reference[known]
        return evidence.calibration(
            self.labels[known], before, self.engine_logits[known], self.activation
        )

    def _accuracy(self, logits: Floats) -> Accuracy:
        labels = self.labels[self.labelled]
        n = len(labels)
        if not n:
            return Accuracy(None, None, None)
        known = logits[self.labelled]
        top1 = stats.wilson(int(np.count_nonzero(stats.top_k(known, labels, 1))), n)
        top5 = None
        if known.shape[1] > 5:
            top5 = 100 * float(np.mean(stats.top_k(known, labels, 5)))
        return Accuracy(100 * top1.value, top5, top1.scaled(100).interval)


def measure(
    engine: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    reference: Runner | RecordedReference | None,
    *,
    calibration: Collection[str] = (),
    batch_size: int = 32,
    progress: Progress = SILENT,
) -> Measurement:
    """Logits of every image from the engine and the reference, in one streaming pass.

    ``calibration`` are content hashes of the calibration images. Under torchrun each process takes
    whole batches, and the first has the logits of all; on the others Finished is raised.
    Errors: InputError where interface, classes and preprocessing do not fit each other (before
    anything runs), where an image was also used for calibration, where it has no recorded reference
    logits, or where the reference's logits are not finite.
    """
    check_fit(engine, images, preprocess, reference)
    seen = frozenset(calibration)
    none = np.zeros((0, engine.interface.output_shape[0]), np.float32)
    content: list[str] = []
    labels = [np.zeros(0, np.int64)]
    engine_logits: list[Floats] = [none]
    reference_logits: list[Floats] = [none]
    mine = replace(images, items=share(images.items, batch_size))
    for batch in batches(mine, preprocess, batch_size, progress=progress, label="validate"):
        refuse_calibration_images(batch, seen)
        engine_logits.append(infer(engine, batch.images))
        if reference is not None:
            reference_logits.append(_reference_logits(reference, batch))
        content.extend(batch.content)
        labels.append(batch.labels)
    rows: dict[str, NDArray[Any]] = {
        "content": np.array(content, "U64"),
        "labels": np.concatenate(labels),
        "engine_logits": np.concatenate(engine_logits),
    }
    if reference is not None:
        rows["reference_logits"] = np.concatenate(reference_logits)
    whole = gather_rows(rows, batch_size)
    return Measurement(
        content=tuple(map(str, whole["content"])),
        labels=whole["labels"],
        engine_logits=whole["engine_logits"],
        reference_logits=whole.get("reference_logits"),
        names=tuple(item.name for item in images.items),
        class_names=images.class_names,
        activation=engine.interface.activation,
    )


def _reference_logits(reference: Runner | RecordedReference, batch: Batch) -> Floats:
    if isinstance(reference, RecordedReference):
        logits = reference.logits_for(batch.content, batch.names)
    else:
        logits = infer(reference, batch.images)
    check_finite(logits, batch.names, reference.name)
    return logits
