"""A network of a structure, filled with tensors that were checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgedense.densenet.checkpoints.recognised import SAVE_WHOLE
from edgedense.densenet.family import Network, Spec, network_of
from edgedense.errors import InputError


def restore(spec: Spec, state: Mapping[str, Tensor], path: Path) -> Network:
    """The network of ``spec`` in eval mode, in FP32, with copies of the tensors of ``state``.

    Errors: InputError for tensors that are missing, too many, of another shape, not finite, no
    floating point numbers, and for variances below 0.
    """
    with torch.device("meta"):  # neither memory nor time for values that are replaced at once
        network = network_of(spec)
    wanted = network.state_dict()
    found = {**_counters(wanted), **state}
    _check_tensors(wanted, found, path)
    _check_kinds(wanted, found, path)
    copies = {key: _copy(value, wanted[key].dtype) for key, value in found.items()}
    _check_finite(copies, path)
    _check_variances(copies, path)
    network.load_state_dict(copies, assign=True)
    return network.eval()


def _counters(wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BN's counters of batches: files older than PyTorch 0.4.1 have none."""
    names = (key for key in wanted if key.endswith("num_batches_tracked"))
    return {key: torch.tensor(0) for key in names}


def _copy(value: Tensor, dtype: torch.dtype) -> Tensor:
    # a copy, for a file's tensors may share their memory
    return value.detach().to(dtype, copy=True).contiguous()


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise InputError(
            f"{path}: NaN or infinity in {bad[0]}"
            + (f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""),
            "Training diverged before this was saved: take an earlier checkpoint.",
        )


def _check_variances(state: Mapping[str, Tensor], path: Path) -> None:
    for key, value in state.items():
        if key.endswith("running_var") and bool((value < 0).any()):
            raise InputError(
                f"{path}: {key} holds a negative variance",
                "The file is damaged, or its BN tensors were mixed up: copy or save it again.",
            )


def _check_kinds(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    for key, value in state.items():
        if wanted[key].is_floating_point() and not value.is_floating_point():
            raise InputError(
                f"{path}: {key} holds {value.dtype}, no floating point numbers",
                "Save the network's FP32 weights, before any quantization.",
            )


def _check_tensors(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    for key, value in wanted.items():
        wants = f"the structure of its other tensors asks for {tuple(value.shape)}"
        if key not in state:
            raise InputError(f"{path}: {key} is missing, where {wants}", SAVE_WHOLE)
        found = tuple(state[key].shape)
        if found != tuple(value.shape):
            raise InputError(f"{path}: {key} has shape {found}, where {wants}", SAVE_WHOLE)
    if extra := sorted(set(state) - set(wanted)):
        raise InputError(
            f"{path}: {extra[0]} has no place in the structure that its other tensors give",
            "Save the file without it where the network does not use it; where it does, edgedense "
            "runs no such network: export that with its own code base.",
        )
