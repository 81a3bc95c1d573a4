import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from edgedense.stats import class_changes, holm, mcnemar_p


def test_holm_matches_a_worked_example():
    # R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") and the example of
    # statsmodels.stats.multitest: ascending p times 5, 4, 3, 2, 1, never falling
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]).tolist() == pytest.approx(
        [0.05, 0.08, 0.09, 0.09, 0.09]
    )
    assert holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    # a hypothesis falls where Bonferroni rejects each intersection that holds it (Marcus et al.)
    m = len(p_values)
    for k, adjusted in enumerate(holm(p_values)):
        others = [j for j in range(m) if j != k]
        worst = max(
            min(1.0, (len(some) + 1) * min(p_values[j] for j in (k, *some)))
            for size in range(m)
            for some in itertools.combinations(others, size)
        )
        assert adjusted == pytest.approx(worst)


def test_holm_holds_the_familywise_level():
    random = np.random.default_rng(0)
    wrong = [(holm(random.random(20)) <= 0.05).any() for _ in range(4000)]
    assert np.mean(wrong) == pytest.approx(1 - 0.9975**20, abs=0.012)


def test_each_class_is_tested_on_its_own_images():
    labels = np.repeat([0, 2, 5], [40, 30, 10])
    first, second = np.ones(80, bool), np.ones(80, bool)
    second[:12] = False  # class 0 loses 12
    first[40:43] = False  # class 2 gains 3
    found = class_changes(labels, first, second)
    assert [(c.index, c.counts.n, c.counts.lost, c.counts.gained) for c in found] == [
        (0, 40, 12, 0),
        (2, 30, 0, 3),
        (5, 10, 0, 0),
    ]
    assert found[0].p == pytest.approx(2 * 0.5**12)
    assert found[0].p_holm == pytest.approx(3 * found[0].p)
    assert found[1].p == pytest.approx(scipy_stats.binomtest(0, 3).pvalue)
    assert found[2].p == found[2].p_holm == mcnemar_p(found[2].counts) == 1.0
