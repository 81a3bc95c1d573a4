import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedense.stats import SQNR_CAP_DB, agreeing, finite_rows, logit_sqnr_db, top_k
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
