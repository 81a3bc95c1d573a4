"""Two engines image by image: against counting by hand, and in whatever order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgedense import stats
from edgedense.compare import difference
from edgedense.errors import InputError
from edgedense.validate import Measurement, SegmentationMeasurement


def classifier(answers: list[int], labels: list[int], classes: int = 3) -> Measurement:
    logits = np.eye(classes, dtype=np.float32)[answers]
    content = tuple(f"{number:064}" for number in range(len(labels)))
    return Measurement(content, np.array(labels), logits, logits)


def shuffled(one: Measurement, seed: int) -> Measurement:
    order = np.random.default_rng(seed).permutation(one.samples)
    return Measurement(
        tuple(one.content[k] for k in order), one.labels[order], one.engine_logits[order], None
    )


def test_pairs_are_counted_image_by_image() -> None:
    labels = [0, 1, 2, 0, 1, 2, 0, 1]
    first = classifier([0, 1, 2, 0, 1, 0, 0, 0], labels)  # wrong on 5 and 7
    second = classifier([0, 1, 0, 1, 1, 2, 0, 0], labels)  # wrong on 2, 3 and 7
    found = difference(first, second)
    assert (found.lost, found.gained, found.images) == (2, 1, 8)
    assert found.agreement == pytest.approx(100 * 5 / 8)
    wanted = stats.paired_difference(stats.PairedCounts(8, 2, 1)).scaled(100)
    assert found.drop is not None
    assert found.drop.interval == pytest.approx(wanted.interval)
    assert found.drop.value == pytest.approx(12.5)
    assert found.mcnemar_p == pytest.approx(1.0)


def test_the_order_of_images_does_not_matter() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60).tolist()
    first = classifier(random.integers(0, 3, 60).tolist(), labels)
    second = classifier(random.integers(0, 3, 60).tolist(), labels)
    straight = difference(first, second)
    assert difference(shuffled(first, 1), shuffled(second, 2)) == straight
    back = difference(second, first)
    assert straight.drop is not None
    assert back.drop is not None
    assert back.drop.value == pytest.approx(-straight.drop.value)
    assert (back.lost, back.gained) == (straight.gained, straight.lost)


def test_without_labels_there_is_agreement_only() -> None:
    first, second = classifier([0, 1, 2], [-1] * 3), classifier([0, 1, 1], [-1] * 3)
    found = difference(first, second)
    assert found.drop is None
    assert found.agreement == pytest.approx(200 / 3)


def test_images_without_a_label_are_not_counted() -> None:
    found = difference(classifier([0, 1, 2], [0, -1, 2]), classifier([0, 2, 1], [0, -1, 2]))
    assert (found.images, found.lost) == (2, 1)


def segmented(seed: int, errors: int) -> SegmentationMeasurement:
    random = np.random.default_rng(0)
    truth = random.integers(10, 50, (20, 2))
    hit = truth - np.random.default_rng(seed).integers(0, errors + 1, (20, 2))
    said = hit + (truth - hit)[:, ::-1]
    pixels = np.stack([hit, truth, said], axis=1)
    content = tuple(f"{number:064}" for number in range(20))
    confusion = np.zeros((2, 3), np.int64)
    return SegmentationMeasurement(content, ("a", "b"), (), 100, 0, pixels, confusion)


def test_segmentation_is_resampled_by_image() -> None:
    first, second = segmented(1, 1), segmented(2, 9)
    found = difference(first, second)
    wanted = stats.bootstrap_drop(first.engine_pixels, second.engine_pixels, stats.mean_iou)
    assert found.drop == wanted.scaled(100)
    assert found.drop.low > 0


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (classifier([0, 1], [0, 1]), classifier([0, 1, 2], [0, 1, 2]), "images"),
        (classifier([0, 1], [0, 1]), classifier([0, 1], [0, 2]), "labels"),
        (classifier([0, 1], [0, 1]), classifier([0, 1], [0, 1], 5), "classes"),
        (classifier([0], [0]), segmented(1, 1), "one engine classifies"),
        (classifier([], []), classifier([], []), "images"),
    ],
)
def test_what_does_not_belong_together_is_refused(first: Any, second: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        difference(first, second)
