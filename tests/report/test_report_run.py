"""The report tells what the stages told, and nothing of what is no longer part of the run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense import artifact
from edgedense.errors import InputError
from edgedense.report import markdown, page, read_raw, read_run, write_reports


def table(text: str, title: str) -> dict[str, list[str]]:
    """Rows of one table of the page, by their first cell."""
    part = text.partition(f"## {title}")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines}) == 1, "rows of different length"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows[2:]}


def test_report_json_is_the_stage_reports(run: Path, edgedense: Callable[..., Any]) -> None:
    ended = edgedense("report", run, "--json")
    assert ended.code == 0
    found = json.loads((run / "report.json").read_text())
    assert json.loads(ended.out) == found
    assert found["format"] == "edgedense-report/1"
    assert (found["run"], found["verdicts"]) == ("first", {"cpu": "pass"})
    for name, stage in found["stages"].items():
        kept = artifact.read(run / name)
        assert stage["manifest_sha256"] == kept.sha256
        assert stage["report"] == kept.manifest.report
        assert stage["options"] == kept.manifest.options
    assert len(found["stages"]) == 6


def test_the_page_shows_the_numbers_of_the_stages(run: Path) -> None:
    write_reports(read_run(run), run)
    said = (run / "report.md").read_text()
    told = {p.parent.name: artifact.read(p.parent).manifest.report for p in run.glob("*/man*")}
    judged, timed, built = (told[f"{name}-cpu"] for name in ("validate", "benchmark", "engine"))
    assert said.splitlines()[2] == "**cpu: PASS**"
    assert all(f"- {reason}" in said for reason in judged["reasons"])
    accuracy = table(said, "Accuracy")["cpu"]
    low, high = judged["drop_ci95"]
    assert accuracy == [
        "180",
        f"{judged['reference']['top1']:.2f}",
        f"{judged['engine']['top1']:.2f}",
        f"{judged['drop_pp']:.2f} ({low:.2f} to {high:.2f})",
        f"{judged['agreement']:.2f}",
        f"{judged['logit_sqnr_db']:.1f}",
    ]
    latency = table(said, "Latency")
    known = [timed[key] for key in ("p50_ms", "p90_ms", "p99_ms")]
    percentiles = ["-" if value is None else f"{value:.2f}" for value in known]
    assert latency["cpu engine"][1:4] == percentiles
    assert latency["cpu engine"][-1].startswith(f"{timed['speedup']:.2f}x")
    against = timed["against"]
    assert latency[against["engine_name"]][1] == f"{against['p50_ms']:.2f}"
    assert table(said, "Engines")["cpu"][2] == f"{built['engine_bytes'] / 1e6:.2f}"
    share = told["prune"]["macs_after"] / told["prune"]["macs_before"]
    assert table(said, "Compression")["prune"][0].startswith(f"MACs x{share:.3f}")
    lineage = table(said, "Lineage")
    assert set(lineage) == set(told)
    assert lineage["quantize"][0] in lineage["engine-cpu"][1]


def test_markdown_of_a_device_speaks_of_no_rehearsal(chain: Any, tmp_path: Path) -> None:
    chain()
    said = markdown(read_run(tmp_path / "made"))
    assert "**jetson-orin-nano: PASS**" in said and "rehearsal" not in said


def test_markdown_calls_nothing_passed_that_had_no_gate(chain: Any, tmp_path: Path) -> None:
    chain("cpu", "second-a", max_drop_pp=None, reasons=[])
    chain("cpu", "second-b", max_drop_pp=None, reasons=[])
    said = markdown(read_run(tmp_path / "made"))
    assert "PASS" not in said
    assert "No gate was set for second-a and second-b." in said


def test_the_page_calls_the_rehearsal_by_its_name(run: Path) -> None:
    assert "`cpu` is a rehearsal" in markdown(read_run(run))


def test_a_page_may_go_elsewhere(run: Path, tmp_path: Path, edgedense: Callable[..., Any]) -> None:
    place = tmp_path / "pages" / "today.html"
    ended = edgedense("report", run, "-o", place)
    assert (ended.code, ended.out) == (0, "")
    written = [run / "report.json", run / "report.md", place]
    assert re.findall(r"written: (.+)", ended.err) == [str(path) for path in written]
    found = read_run(run)
    raw = read_raw(run, found["stages"])
    assert place.read_text() == page(found, raw)
    assert (run / "report.md").read_text() == markdown(found, raw)
    assert not (run / "report.html").exists()


def test_a_page_is_html(run: Path, tmp_path: Path, edgedense: Callable[..., Any]) -> None:
    ended = edgedense("report", run, "-o", tmp_path / "today.md")
    assert (ended.code, ended.error[0]) == (2, f"error: {tmp_path / 'today.md'}: the page is HTML")
    assert not (tmp_path / "today.md").exists()


def test_a_run_that_was_interrupted_is_reported_as_far_as_it_came(run: Path) -> None:
    for name in ("validate-cpu", "benchmark-cpu", "engine-cpu"):
        shutil.rmtree(run / name)
    found = read_run(run)
    assert set(found["stages"]) == {"reference", "prune", "quantize"}
    assert found["verdicts"] == {}
    assert "No engine was validated on this machine." in markdown(found)


def test_an_unfinished_stage_is_not_reported(run: Path) -> None:
    shutil.copytree(run / "engine-cpu", run / ".engine-rtx-ada.partial-7")
    assert set(read_run(run)["stages"]) == {p.parent.name for p in run.glob("[!.]*/manifest.json")}


def test_evidence_on_an_engine_that_was_replaced_is_left_out(run: Path) -> None:
    manifest = run / "engine-cpu" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")  # another build: another identity
    stages = read_run(run)["stages"]
    assert set(stages) == {"reference", "prune", "quantize", "engine-cpu"}
    manifest = run / "quantize" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert set(read_run(run)["stages"]) == {"reference", "prune", "quantize"}


@pytest.mark.parametrize("kind", ["nowhere", "empty", "file", "images"])
def test_what_is_no_run_is_exit_2(kind: str, tmp_path: Path, edgedense: Callable[..., Any]) -> None:
    place = tmp_path / kind
    if kind == "file":
        place.touch()
    elif kind != "nowhere":
        place.mkdir()
    if kind == "images":
        (place / "red").mkdir()
    ended = edgedense("report", place)
    assert ended.code == 2
    assert ended.error == [
        f"error: {place} holds no stages of a run",
        "  → Give the directory that edgedense deploy wrote.",
    ]
    assert not list(tmp_path.rglob("report.*"))


def test_a_damaged_stage_is_named(run: Path) -> None:
    (run / "quantize" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"quantize/manifest\.json is damaged"):
        read_run(run)


def test_numbers_that_json_does_not_have_are_unknown(chain: Any, tmp_path: Path) -> None:
    chain()
    manifest = tmp_path / "made" / "validate-jetson-orin-nano" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"drop_pp": 0.5', '"drop_pp": NaN').replace("98.75", "1e999"))
    found = read_run(tmp_path / "made")
    report = found["stages"]["validate-jetson-orin-nano"]["report"]
    assert (report["drop_pp"], report["agreement"]) == (None, None)
    write_reports(found, tmp_path / "made")


def test_a_pruned_and_finetuned_network_keeps_both_stages(write: Any, tmp_path: Path) -> None:
    stale = write("prune-0", "prune", {}, options={"macs": 0.1})
    pruned = write("prune", "prune", {"macs_before": 2, "macs_after": 1})
    epochs = [{"epoch": 1, "lr": 0.01, "loss": 0.5, "top1": 90.0, "seconds": 1.0}]
    parents = {"model": pruned, "teacher": "0" * 64}
    tuned = write("finetune", "finetune", {"epochs": epochs}, parents=parents)
    write("quantize", "quantize", {}, parents={"model": tuned})
    found = read_run(tmp_path / "made")
    assert set(found["stages"]) == {"prune", "finetune", "quantize"} and stale
    assert "finetune, epoch 1" in page(found)


def test_latencies_of_engines_that_were_replaced_are_left_out(
    chain: Any, write: Any, tmp_path: Path
) -> None:
    chain("cpu")
    engine = read_run(tmp_path / "made")["stages"]["engine-cpu"]["manifest_sha256"]
    write("latency", "latency", {}, parents={"engine-cpu": "1" * 64, "against": "2" * 64})
    write("latency-2", "latency", {}, parents={"engine-cpu": engine, "against": "2" * 64})
    stages = read_run(tmp_path / "made")["stages"]
    assert "latency" not in stages and "latency-2" in stages


def test_old_runs_without_a_task_are_read(chain: Any, tmp_path: Path) -> None:
    chain("cpu")
    manifest = tmp_path / "made" / "validate-cpu" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"task"', '"was"'))
    assert "94.00 % top-1" in page(read_run(tmp_path / "made")).replace("\u00a0", " ")
