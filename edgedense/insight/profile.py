"""Times of layers: what ``trtexec --exportProfile`` writes, or a profiler in the same form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgedense.errors import InputError
from edgedense.insight.read import parse

_AGAIN = "Give what trtexec --loadEngine=ENGINE --exportProfile=FILE.json --dumpProfile wrote."


def read_profile(data: bytes, name: str) -> Mapping[str, float]:
    """Milliseconds of a call by name of layer; several lines of one name are summed.

    The first line of trtexec's list is ``{"count": calls}``. ``averageMs`` counts, else ``timeMs``
    over the calls, else ``medianMs``. Errors: InputError where nothing of that kind is there.
    """
    raw = parse(data, name, _AGAIN)
    if not isinstance(raw, list):
        raise InputError(f"{name} is no profile: a list of layers with their times", _AGAIN)
    calls = next((line["count"] for line in raw if _counts(line)), None)
    found: dict[str, float] = {}
    for line in raw:
        if not isinstance(line, dict) or "name" not in line:
            continue
        time_ms = _time_ms(line, calls)
        if time_ms is None:
            raise InputError(f"{name}: layer {line['name']!r} has no time", _AGAIN)
        found[str(line["name"])] = found.get(str(line["name"]), 0.0) + time_ms
    if not found:
        raise InputError(f"{name} holds no times of layers", _AGAIN)
    return found


def _counts(line: Any) -> bool:
    return isinstance(line, dict) and "name" not in line and _number(line.get("count")) is not None


def _time_ms(line: Mapping[str, Any], calls: float | None) -> float | None:
    average = _number(line.get("averageMs"))
    if average is not None:
        return average
    total = _number(line.get("timeMs"))
    if total is not None and calls:
        return total / calls
    return _number(line.get("medianMs"))


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) and value >= 0 else None
