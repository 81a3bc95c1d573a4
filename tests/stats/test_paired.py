import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from edgedense.stats import (
    Estimate,
    PairedCounts,
    images_to_decide,
    mcnemar_mid_p,
    mcnemar_p,
    newcombe_difference,
    paired_difference,
    wilson,
)


@st.composite
def tables(draw: st.DrawFn) -> PairedCounts:
    n = draw(st.integers(1, 3000))
    lost = draw(st.integers(0, n))
    return PairedCounts(n, lost, draw(st.integers(0, n - lost)))


# (n11, n10, n01, n00), level, published interval, decimals printed there
PUBLISHED = [
    ("Tango 1998, matched pairs", (4, 9, 3, 16), 0.95, (-0.027, 0.390), 3),
    ("Tango 1998, cross-over", (43, 0, 1, 0), 0.90, (-0.096, 0.037), 3),
    ("Agresti and Min 2005", (53, 16, 8, 9), 0.95, (-0.020, 0.207), 3),
    ("Fagerland et al. 2014, Bentur 2009", (1, 1, 7, 12), 0.95, (-0.517, -0.026), 3),
    ("Fagerland et al. 2017, Cavo 2012", (59, 6, 16, 80), 0.95, (-0.1240, -0.0054), 4),
    ("PropCIs::scoreci.mp(25, 28, 618)", (565, 28, 25, 0), 0.90, (-0.0148, 0.0247), 4),
    ("Tang, Tang and Chan 2010", (8, 3, 1, 2), 0.95, (-0.1670, 0.4327), 4),
    ("Chang 2024, Ezra 2010", (7, 25, 2, 68), 0.95, (0.139, 0.321), 3),
]
# the same form; figures as in the tests of the R packages ratesci and contingencytables, and in
# Altman et al., Statistics with Confidence (2000), table 6.2, by way of biostatUZH
PUBLISHED_NEWCOMBE = [
    ("Newcombe 1998, method 10", (20, 12, 2, 16), (0.0562, 0.3292), 4),
    ("Fagerland et al. 2014, Bentur 2009", (1, 1, 7, 12), (-0.507, -0.026), 3),
    ("Fagerland et al. 2017, Cavo 2012", (59, 6, 16, 80), (-0.1186, -0.0046), 4),
    ("Tang, Tang and Chan 2010", (8, 3, 1, 2), (-0.1574, 0.4136), 4),
    ("Chang 2024, Ezra 2010", (7, 25, 2, 68), (0.133, 0.318), 3),
    ("Altman et al. 2000", (14, 5, 0, 22), (0.011, 0.226), 3),
]
# Fagerland, Lydersen and Laake 2013 and 2017: (table, exact p, mid-p, decimals)
PUBLISHED_MCNEMAR = [
    ((1, 1, 7, 12), 0.070, 0.039, 3),
    ((59, 6, 16, 80), 0.052479, 0.034690, 6),
]


def whole(table: tuple[int, int, int, int]) -> PairedCounts:
    return PairedCounts(sum(table), table[1], table[2], table[0])


@pytest.mark.parametrize(("source", "table", "level", "expected", "decimals"), PUBLISHED)
def test_tango_matches_published_examples(source, table, level, expected, decimals):
    counts = PairedCounts(sum(table), table[1], table[2])
    found = paired_difference(counts, level)
    assert (round(found.low, decimals), round(found.high, decimals)) == expected, source
    assert found.value == (table[1] - table[2]) / sum(table)


@pytest.mark.parametrize(("source", "table", "expected", "decimals"), PUBLISHED_NEWCOMBE)
def test_newcombe_matches_published_examples(source, table, expected, decimals):
    found = newcombe_difference(whole(table))
    assert (round(found.low, decimals), round(found.high, decimals)) == expected, source


@pytest.mark.parametrize(("both", "sign"), [(30, 0), (45, 1), (10, -1)])
def test_newcombe_is_square_and_add_of_wilson_narrowed_by_correlation(both, sign):
    # 60 and 50 of 100 are right; independent with 30 right in both
    table = PairedCounts(100, 60 - both, 50 - both, both)
    first, second = wilson(60, 100), wilson(50, 100)
    apart = table.drop - np.hypot(first.value - first.low, second.high - second.value)
    off = newcombe_difference(table).low - apart
    assert abs(off) < 1e-12 if sign == 0 else np.sign(off) == sign


@given(tables(), st.integers(0, 3000))
def test_newcombe_brackets_the_difference_and_mirrors(counts, both):
    both = min(both, counts.n - counts.lost - counts.gained)
    found = newcombe_difference(PairedCounts(counts.n, counts.lost, counts.gained, both))
    mirrored = newcombe_difference(PairedCounts(counts.n, counts.gained, counts.lost, both))
    assert -1 - 1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9
    assert found.low == pytest.approx(-mirrored.high, abs=1e-9)


@pytest.mark.parametrize("table", [(10, 1, 1, None), (10, 1, 1, 9), (10, 1, 1, -1)])
def test_newcombe_refuses_what_is_no_whole_table(table):
    with pytest.raises(ValueError, match="whole paired table"):
        newcombe_difference(PairedCounts(*table))


def closed_form_tango(n: int, b: int, c: int, z: float) -> tuple[float, float]:
    """The quartic of Yang, Sun and Hardin (Statistics in Medicine 32, 2013), by its real roots."""
    g, d, s = z * z, b - c, b + c
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
        n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - s) / g,
    ]
    real = [r.real for r in np.roots(quartic) if abs(r.imag) < 1e-7]
    return min(real), max(real)


@pytest.mark.parametrize(
    ("n", "b", "c"),
    [(112, 20, 70), (1000, 31, 12), (5000, 40, 25), (21, 1, 7), (400, 3, 0), (60, 0, 9)],
)
def test_tango_matches_the_closed_form(n, b, c):
    found = paired_difference(PairedCounts(n, b, c))
    low, high = closed_form_tango(n, b, c, scipy_stats.norm.ppf(0.975))
    assert found.low == pytest.approx(low, abs=1e-6)
    assert found.high == pytest.approx(high, abs=1e-6)


def test_tango_without_discordant_pairs_is_still_an_interval():
    z2 = scipy_stats.norm.ppf(0.975) ** 2
    found = paired_difference(PairedCounts(400, 0, 0))
    assert found.value == 0
    assert found.high == pytest.approx(z2 / (400 + z2), abs=1e-9)
    assert found.low == pytest.approx(-found.high, abs=1e-9)


@given(tables())
def test_tango_brackets_the_difference_and_mirrors(counts):
    found = paired_difference(counts)
    mirrored = paired_difference(PairedCounts(counts.n, counts.gained, counts.lost))
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(-mirrored.high, abs=1e-9)
    assert found.high == pytest.approx(-mirrored.low, abs=1e-9)


@given(tables(), st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_tango_grows_with_the_level(counts, level):
    narrow, wide = paired_difference(counts, level), paired_difference(counts, level + 0.005)
    assert wide.low <= narrow.low + 1e-11
    assert narrow.high <= wide.high + 1e-11


@pytest.mark.parametrize(
    ("n", "lost", "gained"), [(100, 0.10, 0.05), (100, 0.03, 0.02), (60, 0.15, 0.10)]
)
def test_tango_covers_at_its_level_by_enumeration(n, lost, gained):
    truth = lost - gained
    coverage = 0.0
    for b, c in itertools.product(range(40), range(40)):
        if b + c > n:
            continue
        found = paired_difference(PairedCounts(n, b, c))
        if found.low <= truth <= found.high:
            shares = [lost, gained, 1 - lost - gained]
            coverage += scipy_stats.multinomial.pmf([b, c, n - b - c], n, shares)
    assert coverage == pytest.approx(0.95, abs=0.012)


# images, share of discordant ones, true drop; every cell with 20 or more discordant images to be
# expected of n in (400, 1000, 2000, 5000), discordant in (1, 2, 5, 10 %), drop in (0, 0.5, 1, 2 pp)
SETTINGS = [
    (n, discordant, drop)
    for n in (400, 1000, 2000, 5000)
    for discordant in (0.01, 0.02, 0.05, 0.10)
    for drop in (0.0, 0.005, 0.01, 0.02)
    if n * discordant >= 20 and drop <= discordant
]
SETS = 10_000


def coverage(n: int, discordant: float, drop: float) -> float:
    """Share of simulated sets whose Tango interval holds the true drop."""
    lost, gained = (discordant + drop) / 2, (discordant - drop) / 2
    shares = [lost, gained, 1 - lost - gained]
    draws = np.random.default_rng(7).multinomial(n, shares, SETS)
    # many sets are the same table
    found, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    ends = [paired_difference(PairedCounts(n, int(b), int(c))) for b, c in found]
    held = np.array([e.low <= drop <= e.high for e in ends])
    return float(times[held].sum() / SETS)


def test_the_95_percent_interval_covers_94_to_96_percent():
    assert len(SETTINGS) == 50
    found = {setting: coverage(*setting) for setting in SETTINGS}
    outside = {setting: share for setting, share in found.items() if not 0.94 <= share <= 0.96}
    assert not outside
    assert np.mean(list(found.values())) == pytest.approx(0.95, abs=0.002)


@pytest.mark.parametrize(
    "setting", [(400, 0.01, 0.0), (400, 0.01, 0.005), (400, 0.02, 0.01), (1000, 0.01, 0.01)]
)
def test_few_discordant_images_make_coverage_rough(setting):
    # so few outcomes are possible that no interval can hold its level evenly
    assert 0.93 <= coverage(*setting) <= 0.975


@pytest.mark.parametrize("table", [(0, 0, 0), (10, -1, 2)])
def test_tango_refuses_what_is_no_table(table):
    with pytest.raises(ValueError, match="paired table"):
        paired_difference(PairedCounts(*table))


def test_counts_of_two_answer_sheets():
    first = np.array([1, 1, 1, 0, 0, 1], dtype=bool)
    second = np.array([1, 0, 0, 1, 0, 1], dtype=bool)
    counts = PairedCounts.of(first, second)
    assert counts == PairedCounts(6, 2, 1, both=2)
    assert counts.drop == pytest.approx(1 / 6)
    assert counts.discordant == pytest.approx(3 / 6)


@pytest.mark.parametrize(("table", "exact", "mid_p", "decimals"), PUBLISHED_MCNEMAR)
def test_mcnemar_matches_published_examples(table, exact, mid_p, decimals):
    assert round(mcnemar_p(whole(table)), decimals) == exact
    assert round(mcnemar_mid_p(whole(table)), decimals) == mid_p


@given(tables())
def test_mid_p_is_the_exact_p_less_half_of_what_is_as_extreme(counts):
    trials = counts.lost + counts.gained
    p = scipy_stats.binom.pmf(np.arange(trials + 1), trials, 0.5)
    away = np.abs(np.arange(trials + 1) - trials / 2)
    here = abs(counts.lost - trials / 2)
    expected = p[away > here].sum() + p[away == here].sum() / 2 if trials else 1.0
    assert mcnemar_mid_p(counts) == pytest.approx(expected, rel=1e-7, abs=1e-280)
    assert mcnemar_mid_p(counts) <= mcnemar_p(counts) + 1e-12


@given(tables())
def test_mcnemar_is_the_exact_binomial_test(counts):
    trials = counts.lost + counts.gained
    expected = scipy_stats.binomtest(counts.lost, trials).pvalue if trials else 1.0
    assert mcnemar_p(counts) == pytest.approx(expected, rel=1e-8, abs=1e-280)


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_matches_newcombe_1998_table_1(successes, n, expected):
    found = wilson(successes, n)
    assert (round(found.low, 4), round(found.high, 4)) == expected


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_stays_inside_and_matches_scipy(table):
    found = wilson(*table)
    other = scipy_stats.binomtest(*table).proportion_ci(method="wilson")
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.interval == pytest.approx((other.low, other.high), abs=1e-9)


@pytest.mark.parametrize("table", [(1, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_what_is_no_proportion(table):
    with pytest.raises(ValueError, match="proportion"):
        wilson(*table)


def test_images_to_decide_is_near_the_planning_formula():
    # margin 1 pp, 5 % discordant; one-sided 5 % is a two-sided 90 % interval
    even = PairedCounts(1000, 25, 25)
    worse = PairedCounts(1000, 28, 25)
    assert images_to_decide(even, 0.01, level=0.90) == pytest.approx(3100, rel=0.03)
    assert images_to_decide(worse, 0.01, level=0.90) == pytest.approx(
        6.1826 * 0.053 / 0.007**2, rel=0.02
    )
    assert images_to_decide(even, 0.01) == pytest.approx(7.8489 * 0.05 / 0.01**2, rel=0.03)


def test_images_to_decide_by_hand():
    # at a drop of 1 pp: q = (sqrt(b^2 + 8 * 0.025 * 0.01 * 0.99) - b) / 4 for b = 0.02 - 0.05
    q = (np.sqrt(0.03**2 + 8 * 0.025 * 0.01 * 0.99) + 0.03) / 4
    on_margin, measured = np.sqrt(2 * q + 0.01 * 0.99), np.sqrt(0.05)
    needed = ((1.959964 * on_margin + 0.841621 * measured) / 0.01) ** 2
    assert images_to_decide(PairedCounts(1000, 25, 25), 0.01) == np.ceil(needed)


@given(tables(), st.sampled_from([0.0, 0.002, 0.005, 0.01, 0.05, 0.3]))
@example(PairedCounts(500, 1, 0), 0.01)
@example(PairedCounts(100, 1, 0), 0.05)
def test_what_cannot_decide_is_never_enough(counts, margin):
    drop = paired_difference(counts)
    needed = images_to_decide(counts, margin)
    if drop.low + 1e-9 < margin < drop.high - 1e-9 and needed is not None:
        assert needed > counts.n


def test_that_many_images_do_decide_four_times_in_five():
    lost, gained, margin = 0.03, 0.025, 0.015
    needed = images_to_decide(PairedCounts(10_000, 300, 250), margin)
    draws = np.random.default_rng(3).multinomial(needed, [lost, gained, 1 - lost - gained], 1500)
    ends = [paired_difference(PairedCounts(needed, int(b), int(c))).high for b, c, _ in draws]
    assert np.mean(np.array(ends) <= margin) == pytest.approx(0.80, abs=0.04)


def test_a_set_without_discordant_pairs_needs_what_tango_needs():
    needed = images_to_decide(PairedCounts(50, 0, 0), 0.01)
    assert paired_difference(PairedCounts(needed, 0, 0)).high <= 0.01
    assert paired_difference(PairedCounts(needed - 2, 0, 0)).high > 0.01


def test_no_number_decides_on_the_margin_itself():
    assert images_to_decide(PairedCounts(100, 2, 1), 0.01) is None


def test_estimate_scales_all_three():
    assert Estimate(0.01, -0.02, 0.04).scaled(100) == Estimate(1.0, -2.0, 4.0)
