"""Pruning down to a predicted latency."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prune_nets import specs

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess
from edgedense.densenet.checkpoints import Model, load_model
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.latency import LatencyTable, Predictor, Row, predict
from edgedense.prune.groups import Scope, prunable, with_widths
from edgedense.prune.options import PruneOptions
from edgedense.prune.select import Budget, Ranking, allocate, rank
from edgedense.prune.stage import prune
from edgedense.targets import Target, find_target

SIZE = (32, 32)
ORIN = find_target("jetson-orin-nano")
# no launches, so that small networks can be made much faster
BARE = replace(ORIN, launch_us=0.0)
SPEC = DenseNetSpec.build([4, 4], 32, num_classes=10)


def rankings(spec: Any, scope: Scope, seed: int = 0) -> dict[str, Ranking]:
    random = np.random.default_rng(seed)
    return {g.name: rank(random.random(g.width)) for g in prunable(spec, scope)}


def budget(share: float, align: int, spec: Any, target: Target = BARE) -> Budget:
    return Budget(spec, share, align, SIZE, "latency", clock=Predictor(target, SIZE))


@given(specs(), st.sampled_from(("bottleneck", "all")), st.integers(1, 9), st.floats(0.2, 1.0))
@settings(deadline=None, max_examples=40)
def test_the_latency_is_met_and_no_group_could_be_wider(
    spec: DenseNetSpec, scope: Scope, align: int, share: float
) -> None:
    assume(scope == "all" or spec.blocks[0][0].bottleneck)
    groups, asked = prunable(spec, scope), budget(share, align, spec)
    try:
        widths = allocate(spec, groups, rankings(spec, scope), asked)
    except InputError:
        least = {g.name: asked.widths(g.width)[-1] for g in groups}
        assert not asked.holds(with_widths(spec, least))
        return
    assert asked.holds(with_widths(spec, widths))
    for group in groups:
        allowed = asked.widths(group.width)
        place = allowed.index(widths[group.name])
        if place:
            wider = {**widths, group.name: allowed[place - 1]}
            assert not asked.holds(with_widths(spec, wider))


def test_channels_go_by_whole_paddings_where_products_bound() -> None:
    """Widths between two multiples of 32 save no products: what they would lose is not lost."""
    slow = replace(BARE, int8_tops=1e-3)
    spec = DenseNetSpec.build([4], 32, num_classes=10)
    asked = budget(0.8, 8, spec, slow)
    widths = allocate(spec, prunable(spec, "bottleneck"), rankings(spec, "bottleneck"), asked)
    narrowed = [width for width in widths.values() if width < 128]
    assert narrowed
    assert all(width % 32 == 0 for width in narrowed)


def test_idle_channels_go_first() -> None:
    groups = prunable(SPEC, "bottleneck")
    idle = {g.name: rank(1.0 * (np.arange(g.width) < 64)) for g in groups}
    half = with_widths(SPEC, {g.name: 64 for g in groups})
    share = Predictor(BARE, SIZE).latency_ms(half) / Predictor(BARE, SIZE).latency_ms(SPEC)
    widths = allocate(SPEC, groups, idle, budget(share, 32, SPEC))
    assert set(widths.values()) == {64}


def test_a_budget_of_everything_keeps_everything() -> None:
    widths = allocate(SPEC, prunable(SPEC, "all"), rankings(SPEC, "all"), budget(1.0, 8, SPEC))
    assert widths == {g.name: g.width for g in prunable(SPEC, "all")}


def test_channels_that_nothing_may_remove_go_last() -> None:
    groups = prunable(SPEC, "bottleneck")
    found = rankings(SPEC, "bottleneck")
    dear = groups[0].name
    losses = found[dear].losses.copy()
    losses[32:] = math.inf
    found[dear] = Ranking(found[dear].order, losses)
    widths = allocate(SPEC, groups, found, budget(0.9, 32, SPEC))
    assert widths[dear] >= 96
    assert min(widths.values()) < 96


def test_the_least_that_the_error_names_can_be_reached() -> None:
    groups, found = prunable(SPEC, "bottleneck"), rankings(SPEC, "bottleneck")
    with pytest.raises(InputError, match="predicted, on jetson-orin-nano") as caught:
        allocate(SPEC, groups, found, budget(0.01, 32, SPEC))
    least = float(caught.value.what.partition(" ms is the least")[0].split()[-1])
    whole = Predictor(BARE, SIZE).latency_ms(SPEC)
    widths = allocate(SPEC, groups, found, budget(least / whole, 32, SPEC))
    assert set(widths.values()) == {32}


def test_one_channel_of_a_padded_group_still_saves_something() -> None:
    slow = replace(BARE, int8_tops=1e-3)
    asked = budget(0.5, 32, SPEC, slow)
    for group in prunable(SPEC, "all"):
        assert asked.saving(SPEC, group) > 0


def bumpy(spec: Any) -> LatencyTable:
    """A device on which narrower is not always faster."""
    random = np.random.default_rng(1)
    blank = [
        Row(kind, "int8" if kind != "pass" else "fp16", wide, wide, side**2, 1.0)
        for kind in ("conv1x1", "conv3x3", "pass")
        for wide in (8, 16, 32, 48, 64, 128, 256)
        for side in (4, 16, 32)
    ]
    rows = [replace(r, us=float(random.uniform(0.5, 2)) * r.fan_in) for r in blank]
    return LatencyTable(ORIN.name, "tensorrt", 10.0, tuple(rows))


@pytest.mark.parametrize("share", [0.95, 0.85])
def test_measured_latencies_that_do_not_fall_are_met(share: float) -> None:
    clock = Predictor(ORIN, SIZE, table=bumpy(SPEC))
    asked = Budget(SPEC, share, 8, SIZE, "latency", clock=clock)
    groups = prunable(SPEC, "bottleneck")
    widths = allocate(SPEC, groups, rankings(SPEC, "bottleneck"), asked)
    assert asked.holds(with_widths(SPEC, widths))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"latency_ms": 0.0, "target": "cpu"}, "--latency-ms 0"),
        ({"latency_ms": float("nan"), "target": "cpu"}, "--latency-ms nan"),
        ({"latency_ms": float("inf"), "target": "cpu"}, "--latency-ms inf"),
        ({"latency_ms": 2.0}, "--latency-ms needs the device"),
        ({"latency_table": "t.json"}, "without a latency"),
    ],
)
def test_options_that_cannot_work(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        PruneOptions(**wrong)


@pytest.mark.parametrize("method", ["magnitude", "reconstruct"])
@pytest.mark.parametrize("scope", ["bottleneck", "all"])
def test_the_artifact_has_the_latency(
    model: Model,
    preprocess: Preprocess,
    image_set: Callable[..., ImageSet],
    tmp_path: Path,
    method: Any,
    scope: Scope,
) -> None:
    whole = predict(model.spec, preprocess.input_size, ORIN).latency_ms
    asked = round(0.999 * whole, 6)
    options = PruneOptions(
        latency_ms=asked, target=ORIN.name, method=method, scope=scope, align=2, images=20
    )
    report = prune(model, image_set(), preprocess, tmp_path / "pruned", options)
    after = load_model(tmp_path / "pruned").spec
    assert report.latency is not None
    assert report.latency.before_ms == whole
    found = predict(after, preprocess.input_size, ORIN).latency_ms
    assert report.latency.after_ms == found <= asked
    assert (report.latency.basis, report.latency.target) == ("predicted", ORIN.name)
    assert (report.asked, report.of, report.share) == (asked, "latency", found / whole)
    kept = artifact.read(tmp_path / "pruned").manifest.report
    assert kept == json.loads(json.dumps(report.to_dict()))


def test_a_measured_table_takes_the_data_sheets_place(
    model: Model, preprocess: Preprocess, tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    artifact.write_json(path, bumpy(model.spec).to_dict())
    clock = Predictor(ORIN, preprocess.input_size, table=bumpy(model.spec))
    plain = PruneOptions(method="magnitude", reestimate_bn=False, align=2)
    asked = replace(
        plain,
        latency_ms=2 * clock.latency_ms(model.spec),
        target=ORIN.name,
        latency_table=str(path),
    )
    report = prune(model, None, preprocess, tmp_path / "same", asked)
    assert report.latency is not None
    assert report.latency.basis == "from measured table"
    assert report.latency.after_ms == report.latency.before_ms  # it was fast enough
    parents = artifact.read(tmp_path / "same").manifest.parents
    assert parents["latency_table"] == artifact.sha256_file(path)
    with pytest.raises(InputError, match="measured on jetson-orin-nano, not on rtx-ada"):
        prune(model, None, preprocess, tmp_path / "p", replace(asked, target="rtx-ada"))
    no_rates = replace(asked, target="cpu", latency_table=None)
    with pytest.raises(InputError, match="cpu: no bandwidth"):
        prune(model, None, preprocess, tmp_path / "p", no_rates)
    with pytest.raises(InputError, match="out of reach"):
        prune(model, None, preprocess, tmp_path / "p", replace(asked, latency_ms=1e-6))
    assert not (tmp_path / "p").exists()


def test_the_terminal_tells_latency_and_alignment(
    tiny: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    calib = ["--calib", tiny.train, "--preprocess", tiny.toml]
    words = ["prune", tiny.checkpoint, "-o", tmp_path / "p", *calib]
    asked = ["--latency-ms", 1, "--target", "jetson-orin-nano", "--align", 4]
    ended = edgedense(*words, *asked)
    assert ended.code == 0, ended.err
    assert "ms on jetson-orin-nano (1 was asked)" in ended.err
    assert "INT8, predicted" in ended.err
    assert "aligned to 4, of" in ended.err
    words[3] = tmp_path / "q"
    for other in (["--macs", 0.5], ["--params", 0.5]):
        wrong = edgedense(*words, *other, *asked)
        assert (wrong.code, "Give one of --macs" in wrong.err) == (2, True)
