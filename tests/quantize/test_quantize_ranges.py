from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedense.data import Batch
from edgedense.errors import InputError
from edgedense.graph.nodes import Affine, Graph, Relu
from edgedense.quantize.calibrate import calibrate
from edgedense.quantize.observe import BINS, COUNTED, Histogram, sampled
from edgedense.quantize.ranges import choose_amax

VALUES = st.lists(
    st.one_of(
        st.floats(-(2.0**30), 2.0**30, width=32),
        st.floats(-1, 1, width=32),
        st.sampled_from((0.0, -0.0, 1.0, 2.0, -4.0, 2.0**-140, 2.0**100, -(2.0**111))),
    ),
    min_size=1,
    max_size=40,
)


def histogram(*parts: object) -> Histogram:
    filled = Histogram()
    for part in parts:
        filled.add(torch.as_tensor(np.asarray(part, np.float32)))
    return filled


def seen(one: Histogram) -> tuple[object, ...]:
    return one.counts.tolist(), one.exponent, one.amax


@settings(deadline=None, max_examples=150)
@given(VALUES, st.data())
def test_batches_make_no_difference(values: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(values))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(values)), max_size=4)))
    edges = [0, *cuts, len(values)]
    parts = [order[a:b] for a, b in pairwise(edges) if a < b]
    assert seen(histogram(*parts)) == seen(histogram(values))
    merged = Histogram()
    for part in parts:  # as if each had been counted in a process of its own
        merged.merge(Histogram.from_array(histogram(part).to_array()))
    assert seen(merged) == seen(histogram(values))


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_counts_are_those_of_numpy(values: list[float]) -> None:
    found = histogram(values)
    magnitudes = np.abs(np.array(values, np.float32)).astype(np.float64)
    assert found.counts.sum() == len(values)
    assert found.counts.shape == (BINS,)
    assert found.amax == magnitudes.max()
    bins = np.floor(magnitudes / found.width).astype(int)
    np.testing.assert_array_equal(found.counts, np.bincount(bins, minlength=BINS))
    if magnitudes.max() > 2.0**-80:  # as fine as the range allows
        assert BINS / 2 <= magnitudes.max() / found.width < BINS


def test_width_is_a_power_of_two_that_grows_by_merging_pairs() -> None:
    small = histogram([0.99, 0.3, 0.3001])
    assert (small.exponent, small.width) == (-12, 2.0**-12)
    small.add(torch.tensor([1.0]))
    assert small.exponent == -11
    small.add(torch.tensor([-1000.0]))
    assert small.exponent == -2
    assert small.counts[[0, 1, 3, 4, 4000]].tolist() == [0, 2, 1, 1, 1]
    small.add(torch.tensor([0.1]))
    assert small.exponent == -2


def test_zeros_count_before_and_after_the_first_value() -> None:
    found = histogram([0, 0], [3.0], [0.0], [-0.0])
    assert found.counts[0] == 4
    assert found.counts.sum() == 5
    assert histogram([0, 0]).amax == 0


def test_long_tensors_are_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, counts above 2**24 would stand still: tensors are counted in pieces."""
    from edgedense.quantize import observe

    monkeypatch.setattr(observe, "_CHUNK", 7)
    assert histogram(np.full(40, 0.5)).counts.max() == 40


def test_a_histogram_does_not_grow_nor_touch_its_data() -> None:
    x = torch.randn(3, 4, 5, 5)
    before = x.clone()
    found = Histogram()
    for _ in range(5):
        found.add(x)
    assert found.counts.nbytes == BINS * 8
    assert set(vars(found)) == {"counts", "exponent", "amax"}
    assert torch.equal(x, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0**113])
def test_values_that_are_not_finite(bad: float) -> None:
    with pytest.raises(ArithmeticError):
        histogram([1.0, bad, 2.0])


def batch(x: np.ndarray, *content: str) -> Batch:
    images = np.asarray(x, np.float32).reshape(len(content), 1, 1, -1)
    return Batch(images, np.zeros(len(content), np.int64), content, content)


def graph() -> Graph:
    ones = np.ones(1, np.float32)
    return Graph("x", (1, 1, 2), (Affine("a", "x", 2 * ones, -ones), Relu("r", "a")))


def test_calibration_sees_the_named_values_of_all_batches() -> None:
    stream = [batch([[1, 2], [3, -4]], "p", "q"), batch([[0, 5]], "r")]
    found = calibrate(graph(), ["a", "r", "x"], iter(stream))
    assert found.content == ("p", "q", "r")
    amax = {name: h.amax for name, h in found.histograms.items()}
    assert amax == {"a": 9, "r": 9, "x": 5}
    assert all(h.counts.sum() == 6 for h in found.histograms.values())
    assert found.histograms["r"].counts[0] == 2  # after the ReLU: -9 and -1
    assert found.histograms["a"].counts[0] == 0  # before it, although it runs in place


def test_calibration_names_the_value_that_is_not_finite() -> None:
    with pytest.raises(InputError, match=r"^a has values that are not finite") as caught:
        calibrate(graph(), ["a"], [batch([[1, math.inf]], "p")])
    assert "--preprocess" in caught.value.remedy


SAMPLES = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed)
        .standard_t(1 + seed % 7, size=3000)
        .clip(-(10.0 ** (seed % 5)), 10.0 ** (seed % 5))
        .astype(np.float32)
    )
)


@settings(deadline=None, max_examples=40)
@given(SAMPLES, st.floats(50, 100))
def test_percentile_is_numpys_to_a_bin(x: np.ndarray, percentile: float) -> None:
    found = histogram(x)
    amax = choose_amax(found, "percentile", percentile)
    exact = np.percentile(np.abs(x.astype(np.float64)), percentile, method="inverted_cdf")
    assert exact <= amax <= exact + found.width
    assert amax <= found.amax


@settings(deadline=None, max_examples=40)
@given(SAMPLES)
def test_max_clips_nothing(x: np.ndarray) -> None:
    assert choose_amax(histogram(x), "max", 50) == float(np.abs(x).max())
    assert choose_amax(histogram(x), "percentile", 100) == float(np.abs(x).max())


def squared_error(x: np.ndarray, amax: float) -> float:
    step = amax / 127
    return float(np.square(x - np.clip(np.rint(x / step), -127, 127) * step).sum())


@settings(deadline=None, max_examples=60)
@given(SAMPLES, st.booleans())
def test_mse_beats_max_and_percentile_in_true_squared_error(x: np.ndarray, relu: bool) -> None:
    """To the 2 % that the grid of candidates and the width of a bin cost."""
    x = np.maximum(x, 0) if relu else x
    found = histogram(x)
    errors = {
        name: squared_error(x.astype(np.float64), choose_amax(found, name, 99.9))
        for name in ("max", "percentile", "mse")
    }
    assert errors["mse"] <= 1.02 * min(errors.values())


def test_mse_clips_an_outlier_that_max_keeps() -> None:
    """Clipping costs 16 (40 - amax)^2, rounding n (amax / 127)^2 / 12: least at amax = 10.1."""
    found = histogram(np.random.default_rng(0).normal(size=9_200_000), [40.0])
    assert choose_amax(found, "mse", 0) == pytest.approx(10.1, rel=0.05)
    assert choose_amax(found, "max", 0) == 40


@pytest.mark.parametrize("calibrator", ["max", "percentile", "mse"])
def test_a_dead_value_gets_a_range_that_serves(calibrator: str) -> None:
    assert choose_amax(histogram(np.zeros(9)), calibrator, 99.9) == 1.0


def test_of_large_images_the_same_places_are_counted_however_they_come() -> None:
    """The largest value of all is known; the counts are those of any other batches."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 8, 64, 64)).astype(np.float32))
    x[3, 5, 7, 9] = 40.0
    whole = histogram(x)
    assert whole.amax == 40.0
    assert 0.7 < whole.counts.sum() / (6 * COUNTED) < 1.3
    assert seen(histogram(x[:1], x[1:4], x[4:])) == seen(whole)
    places = sampled(torch.arange(8 * 64 * 64), COUNTED)
    for axis in (64, 64 * 64):  # columns and rows, channels: all alike
        counts = torch.bincount(places // axis if axis > 64 else places % axis)
        assert counts.max() - counts.min() <= 1
