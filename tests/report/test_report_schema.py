"""report.json keeps to its published schema, and the schema tells when something does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import edgedense.report
from edgedense.report import read_run, schema, write_reports

VALIDATOR = Draft202012Validator(json.loads(schema()))


def wrong(found: Any) -> list[str]:
    return sorted({error.json_path for error in VALIDATOR.iter_errors(found)})


def test_the_schema_is_a_schema_and_lies_in_the_package() -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)
    place = Path(edgedense.report.__file__).parent
    assert (place / "schema" / "report-1.json").read_text() == schema()


def test_the_command_prints_it(edgedense: Callable[..., Any]) -> None:
    ended = edgedense("report", "--schema")
    assert (ended.code, ended.out, ended.err) == (0, schema(), "")


def test_a_real_run_keeps_to_it(run: Path) -> None:
    write_reports(read_run(run), run)
    assert wrong(json.loads((run / "report.json").read_text())) == []


def test_a_sweep_keeps_to_it(chain: Any, write: Any, tmp_path: Path) -> None:
    chain("cpu", verdict="pass", max_drop_pp=None, reasons=[])
    stages = read_run(tmp_path / "made")["stages"]
    timed = {k: v for k, v in stages["benchmark-cpu"]["report"].items() if k != "rounds"}
    points = {"points": {"cpu": timed}, "against": timed["against"]}
    parents = {"engine-cpu": stages["engine-cpu"]["manifest_sha256"], "against": "0" * 64}
    write("latency", "latency", points, parents=parents)
    summary = {"format": "edgedense-sweep/1", "points": [{"name": "cpu", "macs": 700}]}
    (tmp_path / "made" / "sweep.json").write_text(json.dumps(summary))
    found = read_run(tmp_path / "made")
    assert "latency" in found["stages"] and found["sweep"] == summary
    assert wrong(found) == []


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (["format"], "edgedense-report/2", "$.format"),
        (["verdicts", "cpu"], "maybe", "$.verdicts.cpu"),
        (["stages"], {}, "$.stages"),
        (["stages", "prune", "manifest_sha256"], "abc", "$.stages.prune.manifest_sha256"),
        (["stages", "prune", "parents", "model"], 1, "$.stages.prune.parents.model"),
        (["stages", "prune", "report", "macs_after"], -1, "$.stages.prune.report.macs_after"),
        (["stages", "quantize", "report", "placement"], "x", "$.stages.quantize.report.placement"),
        (["stages", "engine-cpu", "report", "engine_bytes"], None, "engine_bytes"),
        (["stages", "benchmark-cpu", "report", "p50_ms"], 0, "p50_ms"),
        (["stages", "benchmark-cpu", "report", "against", "stable"], "no", "against.stable"),
        (["stages", "validate-cpu", "report", "drop_ci95"], [1], "drop_ci95"),
        (["stages", "validate-cpu", "report", "engine", "top1"], 101, "engine.top1"),
        (["stages", "validate-cpu", "report", "mcnemar_p"], 1.5, "mcnemar_p"),
        (["stages", "validate-cpu", "report", "kl_nats"], -0.1, "kl_nats"),
        (["stages", "validate-cpu", "report", "flips"], {"changed": 3}, "flips"),
        (["stages", "validate-cpu", "report", "classes"], {"worst": [{}]}, "classes"),
        (["stages", "validate-cpu", "report", "calibration"], {"bins": 0}, "calibration"),
        (["stages", "validate-cpu", "report", "plan"], {"images": 0}, "plan"),
    ],
)
def test_what_is_broken_is_named(path: list[str], value: Any, place: str, whole_run: Path) -> None:
    found = copy.deepcopy(read_run(whole_run))
    here = found
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    named = wrong(found)
    assert len(named) == 1 and named[0].replace("['", ".").replace("']", "").endswith(place)


@pytest.mark.parametrize("key", ["format", "run", "verdicts", "stages"])
def test_what_is_missing_is_told(key: str, whole_run: Path) -> None:
    found = read_run(whole_run)
    del found[key]
    assert wrong(found) == ["$"]


def test_keys_that_others_rely_on_are_required(whole_run: Path) -> None:
    relied = {
        "prune": "macs_before macs_after params_before params_after seconds",
        "quantize": "onnx placement calibrator images sqnr_db seconds",
        "engine-cpu": "engine backend target precision engine_bytes weights_bytes activation_bytes",
        "benchmark-cpu": "batch iterations p50_ms p90_ms p99_ms throughput_ips cov stable device",
        "validate-cpu": "samples drop_pp drop_ci95 agreement logit_sqnr_db verdict reasons",
    }
    for stage, keys in relied.items():
        for key in keys.split():
            found = read_run(whole_run)
            del found["stages"][stage]["report"][key]
            assert len(wrong(found)) == 1, (stage, key)
