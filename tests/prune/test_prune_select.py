import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prune_nets import specs

from edgedense.densenet.count import count_macs
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.prune.groups import Scope, prunable, with_widths
from edgedense.prune.select import allocate, allowed_widths, keep_best, select

SIZE = (32, 32)
SPEC = DenseNetSpec.build([4, 4], 12, num_classes=10)


def scores_of(spec: DenseNetSpec, scope: Scope) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {g.name: random.random(g.width) for g in prunable(spec, scope)}


@pytest.mark.parametrize(
    ("width", "align", "wanted"),
    [(48, 16, [48, 32, 16]), (20, 8, [20, 16, 8]), (8, 8, [8]), (5, 8, [5]), (3, 1, [3, 2, 1])],
)
def test_allowed_widths(width: int, align: int, wanted: list[int]) -> None:
    assert allowed_widths(width, align) == wanted


@given(
    specs(),
    st.sampled_from(("bottleneck", "all")),
    st.integers(1, 9),
    st.floats(0.2, 1.0),
)
def test_share_is_met_with_allowed_widths_and_none_to_spare(
    spec: DenseNetSpec, scope: Scope, align: int, share: float
) -> None:
    assume(scope == "all" or spec.blocks[0][0].bottleneck)
    groups, scores = prunable(spec, scope), scores_of(spec, scope)
    total = count_macs(spec, SIZE)
    try:
        widths = allocate(spec, groups, scores, share, align, SIZE)
    except InputError:
        least = {g.name: allowed_widths(g.width, align)[-1] for g in groups}
        assert count_macs(with_widths(spec, least), SIZE) > share * total
        return
    assert count_macs(with_widths(spec, widths), SIZE) <= share * total
    shrunk = [g for g in groups if widths[g.name] < g.width]
    for group in groups:
        assert widths[group.name] in allowed_widths(group.width, align)
    if shrunk:
        # one step back from some group would exceed the share
        back = []
        for group in shrunk:
            allowed = allowed_widths(group.width, align)
            wider = allowed[allowed.index(widths[group.name]) - 1]
            candidate = with_widths(spec, {**widths, group.name: wider})
            back.append(count_macs(candidate, SIZE) > share * total)
        assert any(back)


def test_of_equal_scores_those_go_first_that_save_most() -> None:
    groups = prunable(SPEC, "bottleneck")
    equal = {g.name: np.full(g.width, 0.1) for g in groups}
    left = {g.name: count_macs(with_widths(SPEC, {g.name: 8}), SIZE) for g in groups}
    heavy = min(left, key=lambda name: left[name])
    share = left[heavy] / count_macs(SPEC, SIZE)
    widths = allocate(SPEC, groups, equal, share, 8, SIZE)
    assert widths == {g.name: 8 if g.name == heavy else g.width for g in groups}
    spared = {**equal, heavy: np.repeat((1e3, 0.1), (40, 8))}
    assert allocate(SPEC, groups, spared, share, 8, SIZE)[heavy] == 40


def test_idle_channels_go_before_all_others() -> None:
    groups = prunable(SPEC, "all")
    narrow = {g.name: next(w for w in (16, 8, g.width) if w <= g.width) for g in groups}
    scores = {g.name: np.where(np.arange(g.width) < narrow[g.name], 1.0, 0.0) for g in groups}
    share = count_macs(with_widths(SPEC, narrow), SIZE) / count_macs(SPEC, SIZE)
    kept = select(SPEC, groups, scores, share, 8, SIZE)
    for group in groups:
        assert kept[group.name].tolist() == list(range(narrow[group.name]))


def test_a_share_of_one_keeps_everything() -> None:
    kept = select(SPEC, prunable(SPEC, "all"), scores_of(SPEC, "all"), 1.0, 8, SIZE)
    assert {n: len(k) for n, k in kept.items()} == {g.name: g.width for g in prunable(SPEC, "all")}


def test_the_smallest_share_that_the_error_names_can_be_reached() -> None:
    groups, scores = prunable(SPEC, "bottleneck"), scores_of(SPEC, "bottleneck")
    with pytest.raises(InputError, match="out of reach") as caught:
        allocate(SPEC, groups, scores, 0.01, 16, SIZE)
    least = float(caught.value.what.rpartition(", ")[2].split()[0])
    widths = allocate(SPEC, groups, scores, least, 16, SIZE)
    assert set(widths.values()) == {16}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.data())
def test_the_best_stay_in_order(values: list[float], data: st.DataObject) -> None:
    scores = np.array(values)
    width = data.draw(st.integers(1, len(values)))
    kept = keep_best(scores, width)
    gone = np.setdiff1d(np.arange(len(values)), kept)
    assert len(kept) == width
    assert np.all(np.diff(kept) > 0)
    assert gone.size == 0 or scores[gone].max() <= scores[kept].min()
