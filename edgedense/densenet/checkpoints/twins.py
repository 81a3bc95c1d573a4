"""Averaged (EMA) weights that stand in one state dict with the trained ones, told by a prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# modules that training code keeps its averaged copy in: ema, ema_model, model_ema, …
_NAME = re.compile(r"ema|ema_\w+|\w+_ema")


@dataclass(frozen=True)
class Twins:
    """``trained`` and ``averaged`` tensors of one network; ``name`` is the averaged copy's module.

    ``averaged`` is empty where there is no copy.
    """

    trained: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor]
    name: str = ""


def split_twins(state: Mapping[str, Tensor]) -> Twins:
    """Tell a network from its averaged copy; names keep the prefixes that they have.

    A module called after EMA is a copy where names in it are names of the network too, or those
    names without dots: CompVis' LitEma, which averages parameters and leaves BN's statistics.
    """
    _, prefix = without_prefix(state)
    places = {key: key[len(prefix) :].partition(".")[0] for key in state}
    for outer in dict.fromkeys(places.values()):
        if not _NAME.fullmatch(outer):
            continue
        copy = {key: value for key, value in state.items() if places[key] == outer}
        rest = {key: value for key, value in state.items() if places[key] != outer}
        averaged = _averaged(copy, rest, f"{prefix}{outer}.") if rest else {}
        if averaged:
            return Twins(rest, averaged, f"{prefix}{outer}.*")
    return Twins(state, {})


def _averaged(
    copy: Mapping[str, Tensor], rest: Mapping[str, Tensor], place: str
) -> Mapping[str, Tensor]:
    names, own = without_prefix(rest)[0], without_prefix(copy)[0]
    if own.keys() & names.keys():
        return copy
    # Lightning's `ema` module may hold both: ema.online_model.*, ema.ema_model.*
    if (inner := split_twins(copy)).averaged:
        return inner.averaged
    flat = {key.removeprefix(place): value for key, value in copy.items()}
    joined = {key: key.replace(".", "") for key in names}
    if flat.keys() & joined.values():
        return {key: flat.get(joined[key], value) for key, value in names.items()}
    return {}


def without_prefix(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """(state, prefix): the tensors without the modules that all of them lie in, and those.

    ``features.`` stays: where all tensors lie in it, the classifier is missing.
    """
    prefix, found = "", dict(state)
    while any("." in key.partition(".")[2] for key in found):
        outer = {key.partition(".")[0] for key in found}
        if len(outer) > 1 or outer == {"features"}:
            break
        prefix += f"{outer.pop()}."
        found = {key.partition(".")[2]: value for key, value in found.items()}
    return found, prefix
