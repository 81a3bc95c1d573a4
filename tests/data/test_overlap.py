from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.data import refuse_overlap
from edgedense.errors import InputError

HASHES = st.lists(st.sampled_from([c * 64 for c in "0123456789abcdef"]), max_size=12)


@given(HASHES, HASHES)
def test_refused_exactly_when_a_hash_is_in_both(a: list[str], b: list[str]) -> None:
    shared = sum(sha256 in b for sha256 in a)
    if not shared:
        refuse_overlap(a, b)
        return
    with pytest.raises(InputError, match=f"^{shared} of {len(a)} calibration images"):
        refuse_overlap(iter(a), iter(b))


def test_names_the_first_images_of_both_sides() -> None:
    with pytest.raises(InputError) as caught:
        refuse_overlap("abcdex", "yxbacd", "ABCDEX", "yXBACD".lower())
    assert caught.value.what.startswith("5 of 6 ")
    assert "A = a, B = b, C = c, …" in caught.value.what
    assert "calibration set" in caught.value.remedy


def test_without_names_it_tells_hash_and_place() -> None:
    sha256 = "0123456789abcdef" * 4
    with pytest.raises(InputError, match="sha256 0123456789ab = image 1"):
        refuse_overlap([sha256], ["f" * 64, sha256])
