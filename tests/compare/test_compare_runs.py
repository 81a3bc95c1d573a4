"""Two run directories side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compare_made import engine, measured, run, validated

from edgedense import artifact
from edgedense.compare import compare_runs
from edgedense.errors import InputError


def test_accuracy_is_paired_where_the_images_are_the_same(tmp_path: Path) -> None:
    found = compare_runs(run(tmp_path / "a", wrong=4), run(tmp_path / "b", wrong=10))
    (row,) = found.accuracy
    assert row.values == pytest.approx((99.8, 99.5))
    assert row.intervals[0] is not None
    assert row.between is not None
    assert row.between.drop is not None
    assert (row.between.lost, row.between.gained) == (6, 0)
    assert row.between.drop.value == pytest.approx(0.3)
    assert row.between.drop.low > 0


def test_other_images_are_not_paired(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    shutil.rmtree(second / "validate-orin")
    built = artifact.read(second / "engine-orin")
    validated(second / "validate-orin", built, measured(4, images=100))
    (row,) = compare_runs(first, second).accuracy
    assert row.between is None


def test_latency_has_a_ratio_and_says_whether_the_device_is_the_same(tmp_path: Path) -> None:
    found = compare_runs(run(tmp_path / "a", p50_ms=2.0), run(tmp_path / "b", p50_ms=3.0))
    (row,) = found.latency
    assert row.ratio == pytest.approx(1.5)
    assert row.same_device
    assert row.speedups == (1.5, 1.5)


def test_a_run_differs_from_itself_in_nothing(tmp_path: Path) -> None:
    found = compare_runs(run(tmp_path / "a"), tmp_path / "a")
    assert found.differing == ()
    assert all(origin.same for origin in found.lineage)
    assert all(row.ratio == 1 for row in found.figures)
    assert found.only == ((), ())


def test_options_machines_and_files_that_differ_are_listed(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b", precision="fp16")
    place = second / "engine-orin" / "manifest.json"
    manifest = json.loads(place.read_text())
    manifest["options"]["batch"] = [1, 8, 8]
    manifest["environment"]["packages"]["numpy"] = "1.0"
    del manifest["environment"]["cores"]
    place.write_text(json.dumps(manifest))
    found = compare_runs(first, second)
    rows = {(row.kind, row.name): row.values for row in found.differing}
    assert rows["option", "batch"] == ([1, 1, 8], [1, 8, 8])
    assert rows["environment", "packages.numpy"][1] == "1.0"
    assert rows["environment", "cores"][1] == "-"
    same = {origin.stage: origin.same for origin in found.lineage}
    assert not same["engine-orin"]


def test_the_same_difference_of_machines_is_told_once(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    for place in second.glob("*/manifest.json"):
        manifest = json.loads(place.read_text())
        manifest["environment"]["cpu"] = "another"
        place.write_text(json.dumps(manifest))
    rows = [row for row in compare_runs(first, second).differing if row.name == "cpu"]
    assert len(rows) == 1


def test_load_is_no_difference_between_devices(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    place = second / "benchmark-orin" / "manifest.json"
    manifest = json.loads(place.read_text())
    manifest["report"]["device"] = {"name": "Thor", "load_1min": 7.0}
    place.write_text(json.dumps(manifest))
    found = compare_runs(first, second)
    assert [(row.name, row.values) for row in found.differing if row.kind == "device"] == [
        ("name", ("Orin Nano", "Thor"))
    ]
    assert not found.latency[0].same_device


def test_stages_of_one_run_alone_are_named_and_stale_ones_left_out(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    engine(second / "extra", "int8")  # is in no ledger
    engine(first / "engine-x", "int8")
    ledger = json.loads((first / "run.json").read_text())
    ledger["stages"]["engine-x"] = {}
    (first / "run.json").write_text(json.dumps(ledger))
    assert compare_runs(first, second).only == (("engine-x",), ())
    (second / "run.json").unlink()  # then everything that is there counts
    assert compare_runs(first, second).only == (("engine-x",), ("engine-other", "extra"))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stages"):
        compare_runs(run(tmp_path / "a"), tmp_path / "nothing")


def test_the_command_shows_and_writes(tmp_path: Path, edgedense: Callable[..., Any]) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b", wrong=9)
    ended = edgedense("compare", first, second, "-o", tmp_path / "c")
    assert ended.code == 0
    assert "drop to the second" in ended.err
    assert "3 shared stages hold the same files" in ended.err
    kept = artifact.read(tmp_path / "c").manifest
    told = json.loads(edgedense("compare", first, second, "--json").out)
    assert told == kept.report
    assert told["names"] == ["a", "b"]
    assert set(kept.parents) >= {"first:engine-orin", "second:engine-orin"}
