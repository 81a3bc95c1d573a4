"""Relatives of DenseNet that are recognised, and refused with the reason."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgedense.errors import InputError


@dataclass(frozen=True)
class _Relative:
    """A network by a pattern that one of its keys matches, and why edgedense does not run it."""

    key: re.Pattern[str]
    name: str
    reason: str
    remedy: str


_UNGROUPED = "Train a DenseNet without groups, or export the network with its own code base."
_RELATIVES = (
    _Relative(
        re.compile(r".*\.(?:conv_1|conv)\._(?:count|stage|mask)"),
        "CondenseNet in training",
        "learned group convolutions, whose masks choose the inputs of each group, and channel "
        "shuffles",
        _UNGROUPED,
    ),
    _Relative(
        re.compile(r"(?:.*\.)?(?:conv_1|conv|classifier)\.index"),
        "converted CondenseNet",
        "grouped convolutions behind an index, and channel shuffles",
        _UNGROUPED,
    ),
    _Relative(
        re.compile(r".*features\.(?:init_conv|norm_last)\..*"),
        "DenseNet of the CondenseNet code base",
        "convolutions that may be grouped, and a 3x3 stem whose stride the file does not tell",
        _UNGROUPED,
    ),
    _Relative(
        re.compile(r"(?:.*\.)?(?:attention_map\..*|fc_\d+\.(?:weight|bias))"),
        "jfhealthcare's chest X-ray network",
        "several heads (fc_0, fc_1, …) with attention maps on one DenseNet",
        "Take a network with one classifier, for example torchxrayvision's DenseNets.",
    ),
)


_HEAD_LAYER = re.compile(r"(?:.*\.)?(classifier\.\d+)\..*")


def check_refused(keys: Collection[str], path: Path) -> None:
    """Raise InputError where ``keys`` are those of a relative that edgedense does not run."""
    if not any("features." in key for key in keys):
        return  # a stranger, whose names are alike by chance
    heads = sorted({match[1] for key in keys if (match := _HEAD_LAYER.fullmatch(key))})
    if len(heads) > 1:
        raise InputError(
            f"{path}: its head has {len(heads)} layers with weights ({' and '.join(heads)}), where "
            "a DenseNet has one linear layer",
            "Train the network with one linear layer behind its pool: edgedense runs no other "
            "heads.",
        )
    for relative in _RELATIVES:
        if any(relative.key.fullmatch(key) for key in keys):
            raise InputError(
                f"{path}: {relative.name}: it has {relative.reason}, which no DenseNet of "
                "edgedense has",
                relative.remedy,
            )
