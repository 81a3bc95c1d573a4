import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.stats import PairedCounts, images_to_exclude, paired_difference, resolution


def test_400_images_exclude_drops_above_about_2_points():
    found = resolution(400, 0.05)
    # 1.96 * sqrt(0.05 / 400) is Wald's half-width; a score interval is somewhat wider
    assert 0.0219 < found.excluded < 0.025
    # 3,100 images detect 1 pp with a one-sided level of 5 %, so with 2.5 % it takes more
    assert found.detectable == pytest.approx((1.960 + 0.8416) * np.sqrt(0.05 / 400), rel=1e-3)
    assert resolution(3925, 0.05).detectable == pytest.approx(0.01, rel=1e-3)


def test_detectable_drops_are_detected_four_times_in_five():
    found = resolution(2000, 0.04)
    draws = np.random.default_rng(0).multinomial(2000, [0.02, 0.02, 0.96], 2000)
    ends = [paired_difference(PairedCounts(2000, int(b), int(c))).high for b, c, _ in draws]
    assert np.mean(np.array(ends) <= found.detectable) == pytest.approx(0.80, abs=0.04)


@given(st.integers(1, 5000), st.sampled_from([0.0, 0.01, 0.05]))
def test_nothing_smaller_is_excluded_by_equal_answers(n, discordant):
    found = resolution(n, discordant)
    each = round(n * discordant / 2)
    assert found.excluded >= paired_difference(PairedCounts(n, each, each)).high - 1e-9 or each > (
        n * discordant / 2
    )
    assert found.detectable >= found.excluded


@given(st.floats(0.0005, 0.5))
def test_the_fewest_images_are_just_enough(drop):
    n = images_to_exclude(drop)
    assert n is not None
    assert paired_difference(PairedCounts(n, 0, 0)).high <= drop + 1e-9
    if n > 1:
        assert paired_difference(PairedCounts(n - 1, 0, 0)).high > drop - 1e-9


def test_a_drop_of_zero_is_never_excluded():
    assert images_to_exclude(0.0) is None
