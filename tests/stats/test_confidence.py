import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgedense.stats import calibration_change, calibration_error


def draw(n, over, seed, count=1):
    """Networks that claim ``over`` more than they hold."""
    random = np.random.default_rng(seed)
    confidence = random.beta(6, 2, (count, n)) * 0.6 + 0.4
    right = random.random((count, n)) < np.clip(confidence - over, 0, 1)
    return confidence, right


def test_the_example_of_torchmetrics():
    # its MulticlassCalibrationError: 4 rows, 3 bins, norm l1 gives 0.2000
    confidence = np.array([0.55, 0.55, 0.60, 0.90])
    assert calibration_error(confidence, np.array([False, False, True, True]), 3).ece == (
        pytest.approx(0.2)
    )


def guo(logits: torch.Tensor, labels: torch.Tensor, bins: int) -> float:
    """Equation 3 of Guo et al., bin by bin, as their code has it."""
    confidences, predictions = torch.max(torch.softmax(logits, 1), 1)
    edges, found = torch.linspace(0, 1, bins + 1, dtype=torch.float64), 0.0
    for low, high in itertools.pairwise(edges):
        inside = confidences.gt(low) & confidences.le(high)
        if inside.any():
            accuracy = predictions[inside].eq(labels[inside]).double().mean()
            found += float((confidences[inside].mean() - accuracy).abs() * inside.double().mean())
    return found


@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 20))
def test_it_is_what_guo_et_al_compute(seed, n, bins):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (n,), generator=generator)
    confidence = torch.softmax(logits, 1).max(1).values.numpy()
    right = (logits.argmax(1) == labels).numpy()
    assert calibration_error(confidence, right, bins).ece == pytest.approx(
        guo(logits, labels, bins)
    )


def test_debiasing_removes_what_chance_adds():
    for over in (0.0, 0.05):
        confidence, right = draw(400, over, seed=3, count=300)
        found = [calibration_error(c, r) for c, r in zip(confidence, right, strict=True)]
        plain = np.mean([f.ece for f in found]) - over
        debiased = np.mean([f.debiased for f in found]) - over
        assert plain > 0.005
        assert abs(debiased) < 0.6 * plain


def test_the_bias_is_the_mean_of_drawn_errors():
    # verified_calibration's normal_debiased_ce draws what is exact here
    confidence, right = draw(500, 0.03, seed=1)
    confidence, right = confidence[0], right[0]
    place = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    bins = [
        (right[place == b].mean(), confidence[place == b].mean(), (place == b).sum())
        for b in np.unique(place)
    ]
    accuracy, mean, images = map(np.array, zip(*bins, strict=True))
    random = np.random.default_rng(0)
    drawn = random.normal(
        accuracy, np.sqrt(accuracy * (1 - accuracy) / images), (20_000, len(bins))
    )
    expected = 2 * (np.abs(accuracy - mean) @ images) - (np.abs(drawn - mean) @ images).mean()
    assert calibration_error(confidence, right).debiased == pytest.approx(expected / 500, abs=2e-4)


def test_adaptive_bins_hold_equally_many():
    confidence = np.linspace(0.5, 1.0, 40)
    right = np.arange(40) % 4 > 0
    expected = np.mean([abs(confidence[k : k + 4].mean() - 0.75) for k in range(0, 40, 4)])
    assert calibration_error(confidence, right, 10).adaptive == pytest.approx(expected)


def test_the_change_is_that_of_the_errors_and_its_interval_covers_it():
    held = []
    for seed in range(120):
        before, after = draw(1500, 0.06, 2 * seed), draw(1500, 0.12, 2 * seed + 1)
        pair = ((before[0][0], after[0][0]), (before[1][0], after[1][0]))
        found = calibration_change(*pair, resamples=200, seed=seed)
        if seed == 0:
            errors = [calibration_error(c, r).ece for c, r in zip(*pair, strict=True)]
            assert found.value == pytest.approx(errors[1] - errors[0])
        held.append(found.low <= 0.06 <= found.high)
    assert np.mean(held) > 0.85


def test_equal_networks_do_not_change():
    (confidence,), (right,) = draw(200, 0.1, 0)
    found = calibration_change((confidence, confidence), (right, right))
    assert found.interval == (0.0, 0.0)
