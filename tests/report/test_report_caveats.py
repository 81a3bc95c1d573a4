"""What makes a number doubtful stands beside it, in the page, in Markdown and on the card."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pages import parse

from edgedense.report import markdown, model_card, page, read_run, schema, write_reports
from edgedense.report.words import TIMES, UNSTABLE

ASKED = (
    "jetson-orin-nano was asked for; its engine has to be built on the board: nothing here says "
    "how it does there."
)


def told(run: Path) -> dict[str, str]:
    found = read_run(run)
    shown = parse(page(found)).text.replace("\u00a0", " ")
    return {"page": shown, "markdown": markdown(found), "card": model_card(found)}


def lead(run: Path) -> str:
    root = parse(page(read_run(run)))
    return next(n for n in root.all("p") if n.get("class") == "lead").text


def ledger(run: Path, asked: Any) -> None:
    (run / "run.json").write_text(json.dumps({"asked": asked}))


@pytest.mark.parametrize(
    "latency", [{"stable": False}, {"both_stable": False}, {"against": {"stable": False}}]
)
def test_an_unstable_measurement_is_called_so(latency: Any, chain: Any, tmp_path: Path) -> None:
    chain("cpu", latency=latency)
    run = tmp_path / "made"
    assert f"It is 4.5 times as fast as FP32 in PyTorch ({UNSTABLE})" in lead(run)
    root = parse(page(read_run(run)))
    (tile,) = (n.text for n in root.all("dd") if n.text.startswith("4.50"))
    assert tile.endswith(UNSTABLE)
    assert any(cell.text == f"4.50{TIMES} ({UNSTABLE})" for cell in root.all("td"))
    said = told(run)
    assert f"| 4.50x (4.40 to 4.60), {UNSTABLE} |" in said["markdown"]
    assert all(f"FP32 in PyTorch ({UNSTABLE})" in text for text in said.values())
    # the engine's own latency is doubtful only where that one was not stable
    own = "stable" in latency
    assert (f"latency p50, ms ({UNSTABLE})" in said["card"]) == own
    assert (f"| 2.00 ({UNSTABLE}) |" in said["card"]) == own


def test_a_latency_alone_can_be_unstable(chain: Any, tmp_path: Path) -> None:
    chain("cpu", latency={"stable": False, "speedup": None, "against": {}})
    assert f"It answers in 2.00 ms ({UNSTABLE})" in lead(tmp_path / "made")
    (tile,) = (
        n.text
        for n in parse(page(read_run(tmp_path / "made"))).all("dd")
        if " ms" in n.text.replace("\u00a0", " ")
    )
    assert tile.endswith(UNSTABLE)


def test_a_stable_measurement_has_no_caveat(chain: Any, tmp_path: Path) -> None:
    chain("cpu", latency={"both_stable": True})
    assert not any("unstable" in text for text in told(tmp_path / "made").values())


@pytest.mark.parametrize(
    ("speedup", "ends", "least", "words"),
    [
        (1.04, [1.01, 1.06], None, "It is 1.04 times as fast as the FP32 engine and"),
        (0.96, [0.9, 0.99], None, "It is 0.96 times as fast as the FP32 engine and"),
        (1.97, [1.9, 2.1], None, "It is 1.97 times as fast as the FP32 engine and"),
        (7.08, [7.0, 7.2], None, "It is 7.1 times as fast as the FP32 engine and"),
        (7.08, [7.0, 7.2], 7.05, "It is 7.08 times as fast as the FP32 engine (asked: 7.05) and"),
        (
            *(1.04, [0.98, 1.1], None),
            "It is no faster than the FP32 engine (1.04 times, 95 %: 0.98 to 1.10) and",
        ),
        (
            *(1.04, [1.0, 1.1], 2.0),
            "It is no faster than the FP32 engine (1.04 times, 95 %: 1.00 to 1.10; asked: 2) and",
        ),
    ],
)
def test_a_small_gain_is_told_with_care(
    speedup: float, ends: Any, least: Any, words: str, chain: Any, tmp_path: Path
) -> None:
    against = {"engine_name": "cpu fp32 engine", "p50_ms": 2.1}
    latency = {"speedup": speedup, "speedup_ci95": ends, "against": against}
    chain("cpu", latency=latency, min_speedup=least)
    assert words in lead(tmp_path / "made").replace("\u00a0", " ")


def test_of_several_the_cheapest_is_told_with_care_too(chain: Any, tmp_path: Path) -> None:
    latency = {"speedup": 1.02, "speedup_ci95": [0.9, 1.1], "stable": False}
    for name in ("second-a", "second-b"):
        chain("cpu", name, latency)
    assert (
        "does with 70 % of the arithmetic, is no faster than FP32 in PyTorch (1.02 times, 95 %: "
        f"0.90 to 1.10; {UNSTABLE}) and loses 0.50 points"
    ) in lead(tmp_path / "made").replace("\u00a0", " ")


def test_a_target_without_an_engine_is_named(chain: Any, tmp_path: Path) -> None:
    chain("cpu")
    run = tmp_path / "made"
    ledger(run, {"targets": ["cpu", "jetson-orin-nano", "rtx-ada", "jetson-orin-nano"]})
    write_reports(read_run(run), run)
    found = json.loads((run / "report.json").read_text())
    assert found["not_built"] == ["jetson-orin-nano", "rtx-ada"]
    validator = Draft202012Validator(json.loads(schema()))
    assert validator.is_valid(found) and not validator.is_valid({**found, "not_built": [1]})
    for text in told(run).values():
        assert ASKED in text
        assert "rtx-ada was asked for; its engine is not in this run: nothing here" in text
    notes = [n.text for n in parse(page(found)).all("p") if n.get("class") == "note"]
    assert notes[1] == f"Not in this run. {ASKED}"


def test_it_is_named_before_anything_was_judged(write: Callable[..., str], tmp_path: Path) -> None:
    write("quantize", "quantize", {})
    ledger(tmp_path / "made", {"targets": ["jetson-orin-nano"]})
    assert all(ASKED in text for text in told(tmp_path / "made").values())


@pytest.mark.parametrize("gone", [[], ["engine-jetson-orin-nano", "benchmark-jetson-orin-nano"]])
def test_what_is_here_is_not_missed(gone: list[str], chain: Any, tmp_path: Path) -> None:
    chain()
    run = tmp_path / "made"
    for name in gone:  # only its verdict was brought from the device
        (run / name / "manifest.json").unlink()
    ledger(run, {"targets": ["jetson-orin-nano"]})
    assert read_run(run)["not_built"] == []
    assert not any("was asked for" in text for text in told(run).values())


@pytest.mark.parametrize("asked", [None, [], {"targets": "cpu"}, {"targets": [1, None, {}]}])
def test_a_ledger_that_tells_nothing_is_no_obstacle(asked: Any, chain: Any, tmp_path: Path) -> None:
    chain("cpu")
    ledger(tmp_path / "made", asked)
    assert read_run(tmp_path / "made")["not_built"] == []
    (tmp_path / "made" / "run.json").write_bytes(b"[" * 200_000)
    assert read_run(tmp_path / "made")["not_built"] == []


def test_a_hostile_ledger_stays_text(chain: Any, tmp_path: Path) -> None:
    chain("cpu")
    ledger(tmp_path / "made", {"targets": ["<script>alert(1)</script>](javascript:x)\ud800"]})
    found = read_run(tmp_path / "made")
    write_reports(found, tmp_path / "made")
    assert "<script" not in page(found)
    for text in (markdown(found), model_card(found)):
        assert "\\<script\\>" in text and text.replace("\\<script", "").count("<script") == 0
