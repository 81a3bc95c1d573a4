"""Reading what stages told: a fact that is not there, or of another kind, is None or empty."""

from __future__ import annotations

import math
from typing import Any


def at(found: object, *path: str) -> Any:
    """What lies at ``path`` in nested objects; None where there is no such thing."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def number(found: object, *path: str) -> float | None:
    """A finite number."""
    value = at(found, *path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def text(found: object, *path: str) -> str:
    """A string; empty where there is none."""
    value = at(found, *path)
    return value if isinstance(value, str) else ""


def interval(found: object, *path: str) -> tuple[float, float] | None:
    """Two finite numbers."""
    ends = [number({"end": end}, "end") for end in items(found, *path)]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def mapping(found: object, *path: str) -> dict[str, Any]:
    """An object."""
    value = at(found, *path)
    return value if isinstance(value, dict) else {}


def items(found: object, *path: str) -> list[Any]:
    """A list."""
    value = at(found, *path)
    return value if isinstance(value, list) else []


def finite(value: Any) -> Any:
    """The same JSON value with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
