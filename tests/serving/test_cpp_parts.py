"""The C++ sample's half precision, SHA-256 and JSON, against numpy, hashlib and json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slow = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_halves_round_as_numpy_does(probe: Callable[..., Any]) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)].astype(np.float32)
    between = ((finite.astype(np.float64) + np.roll(finite, 1)) / 2).astype(np.float32)  # ties
    bits = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    edges = np.float32([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, -65520, 1e30])
    values = np.concatenate([finite, between, np.nextafter(between, 9), bits.view("f4"), edges])
    done = probe("half", stdin=values.tobytes())
    found = np.frombuffer(done.stdout, np.dtype([("half", "<f2"), ("back", "<f4")]))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = values.astype(np.float16)
    numbers = ~np.isnan(wanted)
    assert (np.isnan(found["half"]) == ~numbers).all()
    assert found["half"][numbers].tobytes() == wanted[numbers].tobytes()
    back = wanted.astype(np.float32)
    assert (np.isnan(found["back"]) == ~numbers).all()
    assert found["back"][numbers].tobytes() == back[numbers].tobytes()


@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 100_003])
def test_sha256(probe: Callable[..., Any], size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert probe("sha256", stdin=data).stdout.decode() == hashlib.sha256(data).hexdigest()


values = st.recursive(
    st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(1 << 53), 1 << 53)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def walked(value: Any) -> str:
    if value is None:
        return "null "
    if isinstance(value, str):
        return value.encode().hex() + "s "
    if isinstance(value, list):
        return f"[{len(value)} " + "".join(map(walked, value))
    return f"{float(value):.17g} "


@slow
@given(value=values, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_json_is_read_as_python_reads_it(
    probe: Callable[..., Any], value: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps({"y": 1, "x": value}, ensure_ascii=ascii_only, indent=indent)
    done = probe("json", stdin=text.encode())
    assert done.stdout.decode() == walked(value), done.stderr


@slow
@given(st.data())
def test_damaged_json_is_refused_where_python_refuses_it(
    probe: Callable[..., Any], data: st.DataObject
) -> None:
    text = json.dumps({"a": [1, -2.5e-3, True, None, "b\n\u00e9\U0001f600"], "c": {"d": 0}})
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    new = data.draw(st.text(st.sampled_from('{}[]":,\\u0d8e+-.1tfn \n\x00'), max_size=3))
    damaged = text[:at] + new + text[at + cut :]
    accepted = probe("json", stdin=damaged.encode()).returncode == 0
    try:
        json.loads(damaged)
    except ValueError:
        assert not accepted, damaged


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', "NaN", "[Infinity]", "1e999", "[" * 5000, '"\\ud800"', "01", "", "[1,]"],
)
def test_json_of_which_readers_differ_is_refused(probe: Callable[..., Any], text: str) -> None:
    assert probe("json", stdin=text.encode()).returncode == 2
