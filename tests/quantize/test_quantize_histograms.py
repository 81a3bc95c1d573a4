"""What calibration keeps for pages: coarser histograms of the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgedense.quantize.observe import COUNTED, DRAWN, Histogram, save_drawn


@given(st.floats(1e-6, 1e6), st.integers(1, 300), st.integers(0, 9))
def test_no_value_is_lost_and_none_lies_above(largest: float, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (random.uniform(-1, 1, (2, count)) * largest).astype(np.float32)
    histogram = Histogram()
    histogram.add(torch.from_numpy(values))
    counts, top = histogram.drawn()
    assert (len(counts), int(counts.sum())) == (DRAWN, 2 * count)  # fewer than COUNTED: all
    assert count <= COUNTED and float(np.abs(values).max()) < top
    # exactly numpy's histogram of the magnitudes, for the bins' width is a power of two
    expected, _ = np.histogram(np.abs(values.astype(np.float64)), DRAWN, (0, top))
    assert counts.tolist() == expected.tolist()


def test_the_file_holds_them(tmp_path: Path) -> None:
    histogram, empty = Histogram(), Histogram()
    histogram.add(torch.tensor([[0.25, -3.0]]))
    save_drawn(tmp_path / "h.npz", {"a.relu": histogram, "b": empty})
    with np.load(tmp_path / "h.npz", allow_pickle=False) as found:
        assert found["names"].tolist() == ["a.relu", "b"]
        assert found["counts"].sum(axis=1).tolist() == [2, 0]
        assert found["top"].tolist() == [4.0, 4096.0]
    save_drawn(tmp_path / "none.npz", {})
    with np.load(tmp_path / "none.npz", allow_pickle=False) as found:
        assert found["counts"].shape == (0, DRAWN)
