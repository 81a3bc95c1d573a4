"""Raw samples for other programs."""

import csv
import json

import numpy as np
import pytest

from edgedense.benchmark import BenchmarkReport, ComparisonReport, check_export, export_samples
from edgedense.benchmark.measure import PhaseSamples
from edgedense.benchmark.sweep import Cell, SweepReport
from edgedense.errors import DiskError, InputError
from edgedense.stats import Estimate

PHASES = PhaseSamples(np.array([0.1, 0.2]), np.array([1.0, 1.1]), np.array([0.3, 1 / 3]))
ENGINE = BenchmarkReport(
    "a, b", 2, np.array([1_000_001, 2_000_000, 3_000_000]), repeats=(2, 1), phases=PHASES
)
OTHER = BenchmarkReport("fp32", 2, np.array([5_000_000]))
BOTH = ComparisonReport(ENGINE, OTHER, Estimate(2.0, 1.0, 3.0), 2)
ROWS = [
    ("a, b", 2, 1, 0, "end_to_end", 1.000001),
    ("a, b", 2, 1, 0, "end_to_end", 2.0),
    ("a, b", 2, 1, 1, "end_to_end", 3.0),
    *(("a, b", 2, 1, 0, "copy_in", ms) for ms in (0.1, 0.2)),
    *(("a, b", 2, 1, 0, "compute", ms) for ms in (1.0, 1.1)),
    *(("a, b", 2, 1, 0, "copy_out", ms) for ms in (0.3, 1 / 3)),
    ("fp32", 2, 1, 0, "end_to_end", 5.0),
]
COLUMNS = ["engine", "batch", "streams", "repeat", "kind", "ms"]


def test_csv_has_a_row_a_sample_and_every_digit(tmp_path):
    export_samples(tmp_path / "s.csv", BOTH)
    with (tmp_path / "s.csv").open(newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == COLUMNS
    assert [(n, int(b), int(s), int(r), k, float(ms)) for n, b, s, r, k, ms in rows] == ROWS


def test_npz_has_the_same_columns_and_no_pickles(tmp_path):
    export_samples(tmp_path / "s.npz", BOTH)
    with np.load(tmp_path / "s.npz", allow_pickle=False) as found:
        columns = [found[name].tolist() for name in COLUMNS]
    assert list(zip(*columns, strict=True)) == ROWS


def test_json_has_an_object_a_series(tmp_path):
    export_samples(tmp_path / "s.json", BOTH)
    found = json.loads((tmp_path / "s.json").read_text())["series"]
    rows = [(*(row[name] for name in COLUMNS[:-1]), ms) for row in found for ms in row["ms"]]
    assert rows == ROWS


def test_a_table_is_a_series_a_cell(tmp_path):
    cells = tuple(Cell(b, s, np.array([b * 1000, s * 1000]), 1.0) for b, s in ((1, 1), (4, 2)))
    export_samples(tmp_path / "s.json", SweepReport("net", cells, None, {}, {}))
    found = json.loads((tmp_path / "s.json").read_text())["series"]
    assert [(row["batch"], row["streams"], row["ms"]) for row in found] == [
        (1, 1, [0.001, 0.001]),
        (4, 2, [0.004, 0.002]),
    ]


def test_bad_places_are_told_before_the_work(tmp_path):
    with pytest.raises(InputError, match=r"written as \.csv, \.json, \.npz"):
        check_export(tmp_path / "samples.xlsx")
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        check_export(tmp_path / "mine.csv")
    with pytest.raises(InputError):
        check_export(tmp_path / "mine.csv" / "s.csv")
    check_export(tmp_path / "new" / "s.csv")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npz"])
def test_a_full_disk_leaves_nothing(suffix, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError):
        export_samples(tmp_path / f"s{suffix}", BOTH)
    assert list(tmp_path.iterdir()) == []
