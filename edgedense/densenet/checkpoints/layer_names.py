"""Layer names of Keras and Caffe code bases, translated to ours (torchvision's module paths)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_APPLICATIONS = (
    (r"conv1[/_]conv", "features.conv0"),
    (r"conv1[/_]bn", "features.norm0"),
    (r"conv(\d+)_block(\d+)_0_bn", "features.denseblock{0}.denselayer{1}.norm1"),
    (r"conv(\d+)_block(\d+)_1_conv", "features.denseblock{0}.denselayer{1}.conv1"),
    (r"conv(\d+)_block(\d+)_1_bn", "features.denseblock{0}.denselayer{1}.norm2"),
    (r"conv(\d+)_block(\d+)_2_conv", "features.denseblock{0}.denselayer{1}.conv2"),
    (r"pool(\d+)_bn", "features.transition{0}.norm"),
    (r"pool(\d+)_conv", "features.transition{0}.conv"),
    (r"bn", "features.norm5"),
)
_SHICAI = (
    (r"conv1", "features.conv0"),
    (r"conv1[/_]bn", "features.norm0"),
    (r"conv(\d+)_(\d+)[/_]x([12])", "features.denseblock{0}.denselayer{1}.conv{2}"),
    (r"conv(\d+)_(\d+)[/_]x([12])[/_]bn", "features.denseblock{0}.denselayer{1}.norm{2}"),
    (r"conv(\d+)_blk", "features.transition{0}.conv"),
    (r"conv(\d+)_blk[/_]bn", "features.transition{0}.norm"),
)


def applications_names(names: Iterable[str]) -> dict[str, str]:
    """Ours by keras-applications' names (conv2_block1_0_bn, …); without those it does not have."""
    return _translated(names, _APPLICATIONS)


def shicai_names(names: Iterable[str]) -> dict[str, str]:
    """Ours by the names of shicai/DenseNet-Caffe and flyyufelix/DenseNet-Keras (conv2_1/x1, …)."""
    found = _translated(names, _SHICAI)
    ours = set(found.values())
    for name, mine in found.items():
        # conv5_blk/bn is the final BN: there is no conv5_blk
        if mine.endswith(".norm") and mine.replace(".norm", ".conv") not in ours:
            found[name] = "features.norm5"
    return found


def _translated(names: Iterable[str], rows: tuple[tuple[str, str], ...]) -> dict[str, str]:
    found = {}
    for name in names:
        for pattern, ours in rows:
            if match := re.fullmatch(pattern, name):
                stage, *rest = match.groups() or ("1",)
                # their first stage is the stem
                found[name] = ours.format(int(stage) - 1, *rest)
    return found
