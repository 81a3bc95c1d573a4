"""What checkpoint files wrap a network's tensors in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgedense.densenet.checkpoints.twins import without_prefix
from edgedense.densenet.checkpoints.wrappers import ENTRIES, unwrap
from edgedense.errors import InputError

State = dict[str, Tensor]
PATH = Path("x.pth")
STATE = {"features.conv0.weight": torch.ones(2, 3, 3, 3), "classifier.bias": torch.zeros(5)}


def prefixed(prefix: str, state: State = STATE) -> State:
    return {prefix + key: value for key, value in state.items()}


def same(found: Any, wanted: State) -> bool:
    return found.keys() == wanted.keys() and all(found[key] is wanted[key] for key in wanted)


# DDP's, torch.compile's, those of users' own modules, and any other
PREFIXES = st.sampled_from(("module.", "_orig_mod.", "encoder.", "densenet.", "backbone.")) | (
    st.from_regex(r"[a-z_]\w{0,8}\.", fullmatch=True)
)


@given(st.lists(PREFIXES, max_size=5), st.lists(st.sampled_from(ENTRIES), max_size=4))
def test_any_nesting_of_wrappers_and_prefixes_is_undone(
    prefixes: list[str], entries: list[str]
) -> None:
    raw: Any = prefixed("".join(prefixes))
    for entry in entries:
        raw = {entry: raw, "epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}}
    found = unwrap(raw, PATH)
    assert same(found.state, STATE)
    told = f"Taken off the name of every tensor: {''.join(prefixes)}"
    assert found.notes == ((told,) if prefixes else ())
    assert ("epoch" in found.beside) == bool(entries)


@pytest.mark.parametrize(
    "extra",
    [
        "criterion.weight",
        "loss_fn.weight",
        "metric.total",
        "train_acc.correct",
        "val_auroc.preds",
        "model.features.conv0.total_ops",
        "model.total_params",
    ],
)
def test_tensors_of_losses_and_metrics_are_left_out_and_named(extra: str) -> None:
    raw = {"state_dict": {**prefixed("model."), extra: torch.ones(1)}, "global_step": 7}
    found = unwrap(raw, PATH)
    assert same(found.state, STATE)
    assert found.notes[-1] == f"Left out, no part of the network: {extra}."


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (("features.conv0.weight", "features.norm0.bias"), ""),
        (("a.features.conv0.weight", "a.features.norm0.bias"), "a."),
        (("fc.weight", "fc.bias"), ""),
        (("m.fc.weight", "m.op_threshs"), "m."),
        (("a.b.c", "b.b.c"), ""),
        (("a", "a.b.c"), "a."),
        (("", "."), ""),
        (("..", "..."), ".."),
    ],
)
def test_what_is_a_prefix(names: tuple[str, ...], prefix: str) -> None:
    value = torch.ones(1)
    found, taken = without_prefix(dict.fromkeys(names, value))
    assert taken == prefix
    assert len(found) == len(names)


AVERAGE = {key: value + 1 for key, value in STATE.items()}
TWINS: dict[str, Callable[[State], dict[str, Any]]] = {
    "state_dict_ema": lambda s: {"state_dict_ema": s},
    "model_ema": lambda s: {"model_ema": s},
    "ema": lambda s: {"ema": s},
    "ema-prefixed": lambda s: {"ema": prefixed("module.", s)},
    "ema-module": lambda s: {"ema": {"module": s, "decay": 0.999, "updates": 5}},
    "ema-state_dict": lambda s: {"ema": {"state_dict": s}},
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("twin", TWINS)
def test_ema_twins(twin: str, inside: bool) -> None:
    raw: dict[str, Any] = {"model": STATE, **TWINS[twin](AVERAGE)}
    raw = {"state_dict": raw} if inside else raw
    plain, averaged = unwrap(raw, PATH), unwrap(raw, PATH, ema=True)
    assert same(plain.state, STATE)
    assert same(averaged.state, AVERAGE)
    name = next(iter(TWINS[twin](AVERAGE)))
    assert plain.notes[0] == f"EMA weights are in the file too ({name}): edgedense import --ema."
    assert averaged.notes[0] == f"Weights taken: {name}, the exponential moving average (EMA)."


COUNT = torch.tensor(3)
# in one state dict: (trained, averaged, counters)
PREFIX_TWINS = [
    ("model.", "ema_model.", ()),
    ("model.", "ema.", ()),
    ("model.", "model_ema.", ()),
    ("", "ema.module.", ()),
    ("model.net.", "ema_model.module.net.", ("ema_model.n_averaged",)),
    ("online_model.", "ema_model.", ("initted", "step")),
    ("ema.online_model.", "ema.ema_model.", ("ema.initted", "ema.step")),
]


@pytest.mark.parametrize("entry", [None, "state_dict"])
@pytest.mark.parametrize("outer", ["", "module.", "module.net."])
@pytest.mark.parametrize(("own", "copy", "counters"), PREFIX_TWINS)
def test_ema_twins_told_by_a_prefix(
    own: str, copy: str, counters: tuple[str, ...], outer: str, entry: str | None
) -> None:
    twins = prefixed(outer + own) | prefixed(outer + copy, AVERAGE)
    if not outer:
        twins |= dict.fromkeys(counters, COUNT)
    raw: dict[str, Any] = {entry: twins, "epoch": 3} if entry else twins
    plain, averaged = unwrap(raw, PATH), unwrap(raw, PATH, ema=True)
    assert same(plain.state, STATE)
    assert same(averaged.state, AVERAGE)
    assert re.search(r"in the file too \(.*ema.*\*\): edgedense import --ema", plain.notes[0])
    assert re.search(r"Weights taken: .*ema.*\*, the exponential", averaged.notes[0])


def test_the_trained_network_beside_lightnings_two() -> None:
    raw = prefixed("model.") | prefixed("ema.online_model.") | prefixed("ema.ema_model.", AVERAGE)
    assert same(unwrap(raw, PATH).state, STATE)
    assert same(unwrap(raw, PATH, ema=True).state, AVERAGE)


def test_litema_averages_parameters_under_names_without_dots() -> None:
    statistic = {"features.norm0.running_mean": torch.ones(2)}
    flat = {key.replace(".", ""): value for key, value in AVERAGE.items()}
    counters = {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": COUNT}
    raw = prefixed("model.", STATE | statistic) | prefixed("model_ema.", flat) | counters
    assert same(unwrap(raw, PATH).state, STATE | statistic)
    assert same(unwrap(raw, PATH, ema=True).state, AVERAGE | statistic)


def test_a_module_called_ema_that_is_no_copy_stays() -> None:
    raw = STATE | {"ema_attention.weight": torch.ones(2)}
    assert same(unwrap(raw, PATH).state, raw)
    with pytest.raises(InputError, match="no EMA weights inside"):
        unwrap(raw, PATH, ema=True)


def test_ema_that_is_not_there_and_ema_alone() -> None:
    with pytest.raises(InputError, match="no EMA weights inside"):
        unwrap({"model": STATE, "ema": {"decay": 0.9}}, PATH, ema=True)
    with pytest.raises(InputError, match=r"only EMA weights inside \(model_ema\)") as caught:
        unwrap({"model_ema": STATE, "epoch": 1}, PATH)
    assert "--ema" in caught.value.remedy


def test_two_state_dicts_are_ambiguous() -> None:
    with pytest.raises(InputError, match=r"more than one state dict inside: net, model"):
        unwrap({"model": STATE, "net": AVERAGE}, PATH)
    # a name that is a setting, not a state dict, is none
    assert same(unwrap({"model": {"depth": 3}, "net": STATE}, PATH).state, STATE)


def test_a_dictionary_that_contains_itself() -> None:
    raw: dict[str, Any] = {"epoch": 1}
    raw["state_dict"] = raw["model"] = raw
    with pytest.raises(InputError, match="no state dict inside"):
        unwrap(raw, PATH)
    raw["weight"] = torch.ones(1)
    with pytest.raises(InputError):
        unwrap(raw, PATH)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse, quantized, complex or without values"),
        (torch.ones(2, dtype=torch.complex64), "sparse, quantized, complex or without values"),
        (torch.ones(2, device="meta"), "sparse, quantized, complex or without values"),
        (torch.ones(1).expand(1 << 16, 1 << 16), "larger than any DenseNet"),
        (torch.ones(1).expand((1 << 20) + 1), "larger than any DenseNet"),
    ],
)
def test_tensors_that_no_network_has(value: Tensor, reason: str) -> None:
    with pytest.raises(InputError, match=rf"x.pth: bad .*{reason}"):
        unwrap({**STATE, "bad": value}, PATH)
