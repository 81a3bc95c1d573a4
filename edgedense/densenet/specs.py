"""Structures of both branches of the family behind one name; nothing here needs PyTorch."""

from __future__ import annotations

from typing import Any, TypeAlias

from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec

Spec: TypeAlias = DenseNetSpec | FCDenseNetSpec


def spec_from_dict(raw: dict[str, Any]) -> Spec:
    """From what either spec's ``to_dict`` gave, after a round trip through JSON."""
    return FCDenseNetSpec.from_dict(raw) if "middle" in raw else DenseNetSpec.from_dict(raw)
