"""Getting at the network's tensors: the dictionaries and the prefixes that they come wrapped in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from edgedense.densenet.checkpoints.refused import check_refused
from edgedense.densenet.checkpoints.twins import Twins, split_twins, without_prefix
from edgedense.errors import InputError

ENTRIES = ("state_dict", "net", "model", "model_state", "model_state_dict")
EMA_ENTRIES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
# tensors of losses and metrics (Lightning keeps them in the state dict), counters of thop and of
# averaging (PyTorch's AveragedModel, ema-pytorch, LitEma)
_FOREIGN = re.compile(
    r"(?:(?:train|val|valid|test)_)?"
    r"(?:criterion|criteria|loss|loss_fn|metrics?|acc|accuracy|auc|auroc|f1)(?:_\w+)?\..*"
    r"|(?:.*\.)?(?:total_(?:ops|params)|n_averaged)"
    r"|(?:(?:.*\.)?(?:ema|ema_model|model_ema)\.)?(?:initted|step|decay|num_updates)"
)
_DEPTH = 8  # of wrappers in wrappers; a dictionary may contain itself
_LARGEST_SIDE, _LARGEST_TENSOR = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Unwrapped:
    """A network's tensors, with the names that its code base gave them.

    ``beside`` is what stood next to them in the file; ``notes`` say what was taken and dropped.
    """

    state: Mapping[str, Tensor]
    beside: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def unwrap(raw: object, path: Path, *, ema: bool = False) -> Unwrapped:
    """The one state dict in what a checkpoint file holds, its names without prefixes.

    ``ema`` takes the averaged weights in place of the trained ones. Errors: InputError where there
    is none or more than one, and for a relative that edgedense does not run.
    """
    levels = _levels(raw, path)
    averaged = [(name, level[name]) for level in levels for name in EMA_ENTRIES if name in level]
    averaged = [(name, value) for name, value in averaged if _holds_tensors(value)]
    notes: list[str] = []
    around = levels if ema and averaged else levels[:-1]
    if ema and averaged:
        levels = _levels(averaged[0][1], path, (*ENTRIES, "module"))
    found = {str(k): v for k, v in levels[-1].items() if isinstance(v, Tensor)} if levels else {}
    if not found and not ema:
        raise _nothing(path, averaged)
    kept, dropped = _without_foreign(found)
    twins = Twins(kept, {}) if averaged else split_twins(kept)
    name = averaged[0][0] if averaged else twins.name
    if ema:
        _check_averaged(name, path)
        notes.append(f"Weights taken: {name}, the exponential moving average (EMA).")
        kept = dict(twins.averaged or kept)
    elif name:
        notes.append(f"EMA weights are in the file too ({name}): edgedense import --ema.")
        kept = dict(twins.trained)
    _check_plain(kept, path)
    check_refused(kept, path)
    state, prefix = without_prefix(kept)
    if prefix:
        notes.append(f"Taken off the name of every tensor: {prefix}")
    if dropped:
        notes.append(f"Left out, no part of the network: {some(dropped)}.")
    beside = {str(k): v for level in around for k, v in level.items()}
    return Unwrapped(state, beside, tuple(notes))


def _levels(raw: object, path: Path, entries: tuple[str, ...] = ENTRIES) -> list[_Level]:
    """Mappings from the outermost to the one that is the state dict itself."""
    levels: list[_Level] = []
    while isinstance(raw, Mapping) and len(levels) < _DEPTH:
        levels.append(raw)
        inside = [entry for entry in entries if _holds_tensors(raw.get(entry))]
        if not inside:
            break
        if len(inside) > 1:
            raise InputError(
                f"{path}: more than one state dict inside: {', '.join(inside)}",
                f"Save one of them alone: torch.save(torch.load(FILE)[{inside[0]!r}], "
                "'weights.pth')",
            )
        raw = raw[inside[0]]
    return levels


_Level = Mapping[object, object]


def _check_averaged(name: str, path: Path) -> None:
    if not name:
        raise InputError(
            f"{path}: no EMA weights inside (looked for {', '.join(EMA_ENTRIES)}, and for a copy "
            "of the network in ema.*, ema_model.*, …)",
            "Leave --ema away to take the weights that are there.",
        )


def _holds_tensors(value: object, depth: int = _DEPTH) -> bool:
    if not isinstance(value, Mapping) or not depth:
        return False
    inner = [value.get(entry) for entry in (*ENTRIES, "module")]
    return any(isinstance(v, Tensor) for v in value.values()) or any(
        _holds_tensors(v, depth - 1) for v in inner
    )


def _nothing(path: Path, averaged: list[tuple[str, object]]) -> InputError:
    if averaged:
        return InputError(
            f"{path}: only EMA weights inside ({averaged[0][0]})", "Take them with --ema."
        )
    return InputError(
        f"{path}: no state dict inside (looked for tensors at the top and under "
        f"{', '.join(ENTRIES)})",
        "Save the weights as torch.save(model.state_dict(), 'weights.pth').",
    )


def _without_foreign(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    dropped = [key for key in state if _FOREIGN.fullmatch(key)]
    return {key: value for key, value in state.items() if key not in set(dropped)}, dropped


def _check_plain(state: Mapping[str, Tensor], path: Path) -> None:
    for key, value in state.items():
        odd = value.layout is not torch.strided or value.is_quantized or value.is_nested
        if odd or value.is_complex() or value.device.type != "cpu":
            raise InputError(
                f"{path}: {key} is sparse, quantized, complex or without values",
                "Save the network's FP32 weights, before any quantization.",
            )
        if value.numel() > _LARGEST_TENSOR or max(value.shape, default=0) > _LARGEST_SIDE:
            raise InputError(
                f"{path}: {key} claims a shape {tuple(value.shape)}, larger than any DenseNet's",
                "The file is damaged, or no DenseNet.",
            )


def some(keys: list[str]) -> str:
    """The first of ``keys`` and how many more, for a message."""
    return keys[0] + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
