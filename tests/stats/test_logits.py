import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedense.stats import (
    SQNR_CAP_DB,
    agreeing,
    confidences,
    divergence,
    finite_rows,
    label_divergence,
    logit_sqnr_db,
    margins,
    top_k,
)
from edgedense.stats.logits import ROWS_AT_ONCE

LOGITS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.integers(2, 12)), elements=st.integers(-4, 4)
)


@given(LOGITS, st.integers(0, 10**6))
def test_top_1_is_argmax_also_with_ties(logits, seed):
    labels = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    assert (top_k(logits, labels, 1) == (logits.argmax(axis=1) == labels)).all()


@given(LOGITS, st.integers(0, 10**6), st.integers(1, 12))
def test_top_k_is_membership_in_a_stable_sort(logits, seed, k):
    labels = np.random.default_rng(seed).integers(0, logits.shape[1], len(logits))
    first = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    assert (top_k(logits, labels, k) == (first == labels[:, None]).any(axis=1)).all()


def test_rows_that_are_not_finite_are_wrong_and_disagree():
    logits = np.array([[1, 0], [np.nan, 0], [np.inf, 0], [0, 1]], dtype=np.float32)
    labels = np.array([0, 0, 0, 1])
    assert finite_rows(logits).tolist() == [True, False, False, True]
    assert top_k(logits, labels, 1).tolist() == [True, False, False, True]
    assert agreeing(logits, logits).tolist() == [True, False, False, True]


def test_more_rows_than_fit_at_once():
    n = ROWS_AT_ONCE + 5
    logits = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    labels = logits.argmax(axis=1)
    labels[-1] = (labels[-1] + 1) % 3
    right = top_k(logits, labels, 1)
    assert right[:-1].all()
    assert not right[-1]
    assert finite_rows(logits).shape == (n,)


def test_agreement():
    first = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    second = np.array([[9, 0], [0, 2], [0, 1]], dtype=np.float32)
    assert agreeing(first, second).tolist() == [True, True, False]


@pytest.mark.parametrize("decibels", [10.0, 25.3, 60.0])
def test_sqnr_of_known_noise(decibels):
    reference = np.random.default_rng(0).normal(size=(5000, 10)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=reference.shape) * 10 ** (-decibels / 20)
    found = logit_sqnr_db(reference, (reference + noise).astype(np.float32))
    assert found == pytest.approx(decibels, abs=0.1)


def test_sqnr_by_hand():
    assert logit_sqnr_db(
        np.array([[3, 4]], np.float32), np.array([[3, 3.5]], np.float32)
    ) == pytest.approx(20.0)


def test_sqnr_of_equal_logits_is_capped_and_of_broken_ones_unknown():
    logits = np.ones((2, 2), np.float32)
    broken = np.array([[1, np.nan], [1, 1]], np.float32)
    assert logit_sqnr_db(logits, logits) == SQNR_CAP_DB
    assert logit_sqnr_db(logits, broken) is None
    assert logit_sqnr_db(broken, logits) is None
    assert logit_sqnr_db(0 * logits, logits) is None


def pair_of_logits(n=50, classes=6, scale=1.0):
    random = np.random.default_rng(5)
    first = 4 * random.normal(size=(n, classes)).astype(np.float32)
    return first, first + scale * random.normal(size=first.shape).astype(np.float32)


def test_divergence_is_torchs():
    first, second = (torch.from_numpy(part).double() for part in pair_of_logits())
    logs = [torch.log_softmax(part, 1) for part in (first, second)]
    expected = torch.nn.functional.kl_div(logs[1], logs[0], reduction="none", log_target=True)
    found = divergence(first.float().numpy(), second.float().numpy())
    np.testing.assert_allclose(found, expected.sum(1).numpy(), rtol=1e-10)


def test_label_divergence_is_torchs():
    first, second = (torch.from_numpy(part).double() for part in pair_of_logits())
    said = [torch.distributions.Bernoulli(logits=part) for part in (first, second)]
    expected = torch.distributions.kl_divergence(*said).sum(1)
    found = label_divergence(first.float().numpy(), second.float().numpy())
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("of", [divergence, label_divergence])
def test_divergence_of_equal_huge_and_broken_logits(of):
    first, _ = pair_of_logits()
    assert (of(first, first) < 1e-12).all()
    huge = np.array([[3e38, -3e38]], np.float32)
    assert of(huge, huge).tolist() == [0.0]
    broken = np.array([[np.nan, 0], [np.inf, 0], [1, 0]], np.float32)
    assert np.isnan(of(np.zeros_like(broken), broken)).tolist() == [True, True, False]
    assert of(first[:0], first[:0]).shape == (0,)


def test_margins_by_hand():
    logits = np.array([[3, 1, 2], [0, 5, 5], [1, 2, 4]], np.float32)
    assert margins(logits, np.array([0, 1, 0])).tolist() == [1.0, 0.0, -3.0]
    with pytest.raises(ValueError, match="two classes"):
        margins(logits[:, :1], np.zeros(3, np.int64))


def test_confidences_are_softmaxs_largest():
    first, _ = pair_of_logits(n=ROWS_AT_ONCE + 3)
    expected = torch.softmax(torch.from_numpy(first).double(), 1).max(1).values.numpy()
    np.testing.assert_allclose(confidences(first), expected, rtol=1e-12)
