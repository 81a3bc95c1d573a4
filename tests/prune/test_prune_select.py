import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from prune_nets import specs

from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.prune.groups import Scope, prunable, with_widths
from edgedense.prune.select import (
    Budget,
    Cost,
    Ranking,
    alignment_cost,
    allocate,
    allowed_widths,
    rank,
)

SIZE = (32, 32)
SPEC = DenseNetSpec.build([4, 4], 12, num_classes=10)


def random_rankings(spec: DenseNetSpec, scope: Scope) -> dict[str, Ranking]:
    random = np.random.default_rng(0)
    return {g.name: rank(random.random(g.width)) for g in prunable(spec, scope)}


def budget(share: float, align: int = 8, spec: DenseNetSpec = SPEC, of: Cost = "macs") -> Budget:
    return Budget(spec, share, align, SIZE, of)


@pytest.mark.parametrize(
    ("width", "align", "wanted"),
    [(48, 16, [48, 32, 16]), (20, 8, [20, 16, 8]), (8, 8, [8]), (5, 8, [5]), (3, 1, [3, 2, 1])],
)
def test_allowed_widths(width: int, align: int, wanted: list[int]) -> None:
    assert allowed_widths(width, align) == wanted


@pytest.mark.parametrize(
    ("width", "align", "wanted"),
    [
        (128, 32, [128, 96, 64, 32]),
        (48, 32, [48, 32, 16]),
        (32, 32, [32, 24, 16, 8]),
        (12, 32, [12, 8, 4]),
        (5, 32, [5, 4]),
        (9, 3, [9, 6, 3]),
    ],
)
def test_narrow_groups_get_finer_widths(width: int, align: int, wanted: list[int]) -> None:
    assert Budget(SPEC, 0.5, align, SIZE, finer=True).widths(width) == wanted


@given(
    specs(),
    st.sampled_from(("bottleneck", "all")),
    st.integers(1, 9),
    st.floats(0.2, 1.0),
    st.sampled_from(("macs", "params")),
)
def test_the_budget_is_met_with_allowed_widths_and_none_to_spare(
    spec: DenseNetSpec, scope: Scope, align: int, share: float, of: Cost
) -> None:
    assume(scope == "all" or spec.blocks[0][0].bottleneck)
    groups, rankings = prunable(spec, scope), random_rankings(spec, scope)

    def cost(widths: dict[str, int]) -> int:
        narrow = with_widths(spec, widths)
        return count_macs(narrow, SIZE) if of == "macs" else count_params(narrow)

    try:
        widths = allocate(spec, groups, rankings, budget(share, align, spec, of))
    except InputError:
        assert cost({g.name: allowed_widths(g.width, align)[-1] for g in groups}) > share * cost({})
        return
    assert cost(widths) <= share * cost({})
    shrunk = [g for g in groups if widths[g.name] < g.width]
    for group in groups:
        assert widths[group.name] in allowed_widths(group.width, align)
    if shrunk:
        # one step back from some group would exceed the share
        back = []
        for group in shrunk:
            allowed = allowed_widths(group.width, align)
            wider = allowed[allowed.index(widths[group.name]) - 1]
            back.append(cost({**widths, group.name: wider}) > share * cost({}))
        assert any(back)


def test_of_equal_losses_those_go_first_that_save_most() -> None:
    groups = prunable(SPEC, "bottleneck")
    equal = {g.name: rank(np.full(g.width, 0.1)) for g in groups}
    left = {g.name: count_macs(with_widths(SPEC, {g.name: 8}), SIZE) for g in groups}
    heavy = min(left, key=lambda name: left[name])
    share = left[heavy] / count_macs(SPEC, SIZE)
    widths = allocate(SPEC, groups, equal, budget(share))
    assert widths == {g.name: 8 if g.name == heavy else g.width for g in groups}
    spared = {**equal, heavy: rank(np.repeat((1e3, 0.1), (40, 8)))}
    assert allocate(SPEC, groups, spared, budget(share))[heavy] == 40


def test_idle_channels_go_before_all_others() -> None:
    groups = prunable(SPEC, "all")
    narrow = {g.name: next(w for w in (16, 8, g.width) if w <= g.width) for g in groups}
    rankings = {g.name: rank(1.0 * (np.arange(g.width) < narrow[g.name])) for g in groups}
    share = count_macs(with_widths(SPEC, narrow), SIZE) / count_macs(SPEC, SIZE)
    widths = allocate(SPEC, groups, rankings, budget(share))
    for group in groups:
        assert rankings[group.name].kept(widths[group.name]).tolist() == list(
            range(narrow[group.name])
        )


def test_alignment_costs_what_free_widths_would_keep() -> None:
    groups, rankings = prunable(SPEC, "bottleneck"), random_rankings(SPEC, "bottleneck")

    def cost(share: float, align: int) -> float | None:
        asked = budget(share, align)
        widths = allocate(SPEC, groups, rankings, asked)
        return alignment_cost(SPEC, groups, rankings, asked, widths)

    assert cost(0.7, 1) == 1
    assert cost(1.0, 8) is None
    fine, coarse = cost(0.7, 4), cost(0.7, 16)
    assert fine is not None
    assert coarse is not None
    assert 1 < fine < coarse


def test_a_share_of_one_keeps_everything() -> None:
    widths = allocate(SPEC, prunable(SPEC, "all"), random_rankings(SPEC, "all"), budget(1.0))
    assert widths == {g.name: g.width for g in prunable(SPEC, "all")}


@pytest.mark.parametrize("of", ["macs", "params"])
def test_the_smallest_share_that_the_error_names_can_be_reached(of: Cost) -> None:
    groups, rankings = prunable(SPEC, "bottleneck"), random_rankings(SPEC, "bottleneck")
    with pytest.raises(InputError, match=f"--{of} 0.01 is out of reach") as caught:
        allocate(SPEC, groups, rankings, budget(0.01, 16, of=of))
    least = float(caught.value.what.rpartition(", ")[2].split()[0])
    assert set(allocate(SPEC, groups, rankings, budget(least, 16, of=of)).values()) == {16}


@given(st.integers(1, 5), st.floats(0.1, 1.0))
def test_steps_go_down_by_one_factor_and_end_at_the_budget(count: int, share: float) -> None:
    steps = list(budget(share).steps(count))
    assert steps[-1] == budget(share)
    assert [step.share for step in steps] == pytest.approx(
        [share ** (k / count) for k in range(1, count + 1)]
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.data())
def test_the_best_stay_in_order(values: list[float], data: st.DataObject) -> None:
    scores = np.array(values)
    width = data.draw(st.integers(1, len(values)))
    kept = rank(scores).kept(width)
    gone = np.setdiff1d(np.arange(len(values)), kept)
    assert len(kept) == width
    assert np.all(np.diff(kept) > 0)
    assert gone.size == 0 or scores[gone].max() <= scores[kept].min()


def test_of_equal_channels_the_first_stay() -> None:
    assert rank(np.array([0.5, 0.5, 0.1, 0.5])).kept(2).tolist() == [0, 1]
