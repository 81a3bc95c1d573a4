from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgedense import stats

CLASSES = 4
values = st.sampled_from([0, 1, 2, 3, 255])
maps = arrays.arrays(np.uint8, (3, 5), elements=values)


def brute_iou(truth: np.ndarray, said: np.ndarray) -> list[float | None]:
    """By sets of pixels, class by class."""
    found: list[float | None] = []
    judged = {tuple(p) for p in np.argwhere(truth != 255)}
    for c in range(CLASSES):
        true = {p for p in judged if truth[p] == c}
        predicted = {p for p in judged if said[p] == c}
        union = true | predicted
        found.append(len(true & predicted) / len(union) if union else None)
    return found


@given(maps, maps)
def test_iou_is_that_of_sets_of_pixels(truth: np.ndarray, said: np.ndarray) -> None:
    pixels = stats.class_pixels(stats.confusion(truth, said, CLASSES))
    wanted = brute_iou(truth, said)
    found = [None if np.isnan(v) else v for v in stats.iou(pixels)]
    assert found == pytest.approx(wanted)
    present = [v for v in wanted if v is not None]
    judged = truth != 255
    if present:
        assert stats.mean_iou(pixels) == pytest.approx(np.mean(present))
    if judged.any():
        share = np.mean(truth[judged] == said[judged])
        assert stats.pixel_accuracy(pixels) == pytest.approx(share)
    else:
        assert np.isnan(stats.mean_iou(pixels))
        assert np.isnan(stats.pixel_accuracy(pixels))


@given(maps, maps)
def test_confusion_counts_every_judged_pixel_once(truth: np.ndarray, said: np.ndarray) -> None:
    found = stats.confusion(truth, said, CLASSES)
    assert found.shape == (CLASSES, CLASSES + 1)
    for t in range(CLASSES):
        for p in range(CLASSES):
            assert found[t, p] == np.count_nonzero((truth == t) & (said == p))
        assert found[t, CLASSES] == np.count_nonzero((truth == t) & (said == 255))


@given(maps, maps, st.permutations(range(CLASSES)))
def test_mean_iou_does_not_depend_on_the_order_of_classes(
    truth: np.ndarray, said: np.ndarray, order: list[int]
) -> None:
    table = np.arange(256, dtype=np.uint8)
    table[:CLASSES] = order
    plain = stats.mean_iou(stats.class_pixels(stats.confusion(truth, said, CLASSES)))
    moved = stats.confusion(table[truth], table[said], CLASSES)
    assert stats.mean_iou(stats.class_pixels(moved)) == pytest.approx(float(plain), nan_ok=True)


def test_a_worked_example() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 2]], np.uint8)
    said = np.array([[0, 0, 1, 1], [1, 0, 2, 2]], np.uint8)
    pixels = stats.class_pixels(stats.confusion(truth, said, 4))
    # 0: 2 of 3 true + 3 said - 2; 1: 2 of 4; 2: 1 of 1 (what is said of void is not counted)
    np.testing.assert_allclose(stats.iou(pixels), [2 / 4, 2 / 4, 1, np.nan])
    assert stats.mean_iou(pixels) == pytest.approx(2 / 3)
    assert stats.pixel_accuracy(pixels) == pytest.approx(5 / 7)


def test_answers_are_argmax_and_nothing_where_not_finite() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(np.float32)
    logits[:, 3] = logits[:, 1]  # ties
    expected = logits.argmax(axis=1)
    logits[0, 2, 1, 1], logits[1, 4, 0, 3], logits[1, 0, 2, 2] = np.nan, np.inf, -np.inf
    expected[0, 1, 1] = expected[1, 0, 3] = expected[1, 2, 2] = 255
    found = stats.answers(logits)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def pair(images: int, seed: int, errors: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of two networks on the same masks; the second errs on a share of the pixels more."""
    random = np.random.default_rng(seed)
    first, second = [], []
    for _ in range(images):
        truth = random.integers(0, 3, (8, 8)).astype(np.uint8)
        said = np.where(random.random((8, 8)) < 0.2, random.integers(0, 3, (8, 8)), truth)
        worse = np.where(random.random((8, 8)) < errors, random.integers(0, 3, (8, 8)), said)
        for kept, answer in ((first, said), (second, worse)):
            kept.append(stats.class_pixels(stats.confusion(truth, answer.astype(np.uint8), 3)))
    return np.stack(first), np.stack(second)


@pytest.mark.parametrize("statistic", [stats.mean_iou, stats.pixel_accuracy])
def test_bootstrap_is_the_plain_one_written_out(statistic) -> None:  # type: ignore[no-untyped-def]
    first, second = pair(7, 1, 0.1)
    found = stats.bootstrap_drop(first, second, statistic, resamples=150, seed=3)
    assert found.value == pytest.approx(
        float(statistic(first.sum(axis=0)) - statistic(second.sum(axis=0)))
    )
    random, drops = np.random.default_rng(3), []
    for start in range(0, 150, 64):
        for draw in random.integers(0, 7, size=(min(64, 150 - start), 7)):
            drops.append(
                float(statistic(first[draw].sum(axis=0)) - statistic(second[draw].sum(axis=0)))
            )
    assert found.interval == pytest.approx(tuple(np.quantile(drops, [0.025, 0.975])))


def test_bootstrap_is_paired_and_deterministic() -> None:
    first, second = pair(40, 2, 0.02)
    found = stats.bootstrap_drop(first, second, stats.mean_iou)
    assert found == stats.bootstrap_drop(first, second, stats.mean_iou)
    assert found.low < found.value < found.high
    apart = stats.bootstrap_drop(first, np.roll(second, 11, axis=0), stats.mean_iou)
    assert apart.value == pytest.approx(found.value)
    assert apart.high - apart.low > 2 * (found.high - found.low)
    same = stats.bootstrap_drop(first, first, stats.mean_iou)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_bootstrap_covers_the_true_drop_about_as_often_as_it_says() -> None:
    many = pair(4000, 5, 0.1)
    true = stats.mean_iou(many[0].sum(axis=0)) - stats.mean_iou(many[1].sum(axis=0))
    covered = 0
    for seed in range(100, 200):
        found = stats.bootstrap_drop(*pair(40, seed, 0.1), stats.mean_iou, resamples=300)
        covered += found.low <= true <= found.high
    assert 87 <= covered <= 99


def test_an_image_that_is_all_void_does_no_harm() -> None:
    first, second = pair(12, 4, 0.1)
    none = np.zeros((1, 3, 3), np.int64)
    few = np.concatenate([none] * 6 + [first[:1]])
    found = stats.bootstrap_drop(few, few, stats.mean_iou)
    assert (found.low, found.high) == (0, 0)
    with_void = np.concatenate([first, none]), np.concatenate([second, none])
    plain = stats.bootstrap_drop(first, second, stats.mean_iou)
    assert stats.bootstrap_drop(*with_void, stats.mean_iou).value == pytest.approx(plain.value)


def test_images_to_separate() -> None:
    drop = stats.Estimate(0.5, 0.25, 1.5)
    assert stats.images_to_separate(drop, 100, 1.0) == 400  # (1 / 0.5)^2
    assert stats.images_to_separate(drop, 100, 0.375) == 400  # (0.25 / 0.125)^2
    assert stats.images_to_separate(drop, 100, 0.5) is None


def test_sqnr_of_energies() -> None:
    assert stats.sqnr_db(100.0, 1.0) == pytest.approx(20.0)
    assert stats.sqnr_db(1.0, 0.0) == stats.SQNR_CAP_DB
    assert stats.sqnr_db(0.0, 1.0) is None
    assert stats.sqnr_db(1.0, float("nan")) is None
    assert stats.sqnr_db(1.0, float("inf")) is None
