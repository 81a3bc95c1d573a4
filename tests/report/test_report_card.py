"""The model card: valid for the hub, with the run's numbers and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgedense import artifact
from edgedense.report import model_card, read_run

EVIL = 'a"b: [x]\n---\n# <script>|`'


def front(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    found = yaml.safe_load(card.split("\n---\n", maxsplit=1)[0][4:])
    assert isinstance(found, dict)
    return found


def sections(card: str) -> list[str]:
    return re.findall(r"^## (.+)$", card, re.MULTILINE)


def test_a_card_of_a_real_run(run: Path, edgedense: Callable[..., Any]) -> None:
    ended = edgedense("report", run, "--model-card")
    assert ended.code == 0 and f"written: {run / 'README.md'}" in ended.err
    card = (run / "README.md").read_text()
    found = front(card)
    assert found["library_name"] == "edgedense"
    assert (found["pipeline_tag"], found["license"]) == ("image-classification", "unknown")
    assert {"densenet", "int8"} <= set(found["tags"])
    judged = artifact.read(run / "validate-cpu").manifest.report
    (result,) = found["model-index"][0]["results"]
    told = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert told["top-1 of the engine, %"] == pytest.approx(judged["engine"]["top1"], abs=1e-6)
    assert told["top-1 drop against FP32, pp"] == pytest.approx(judged["drop_pp"], abs=1e-6)
    assert sections(card) == [
        *("What it is", "Data", "Metrics", "Limits", "How to use it", "How it was made"),
    ]
    for said in (
        "Training data: unknown",
        "a rehearsal",
        "180 images",
        "bias and fairness: unknown",
    ):
        assert said in card


def test_the_hub_reads_the_card(run: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(model_card(read_run(run)))
    (metric, *_) = card.data.eval_results
    judged = artifact.read(run / "validate-cpu").manifest.report
    assert metric.metric_type == "accuracy"
    assert metric.metric_value == pytest.approx(judged["engine"]["top1"], abs=1e-6)
    assert card.data.to_dict()["library_name"] == "edgedense"


def test_segmentation_has_its_own_metric(chain: Any, tmp_path: Path) -> None:
    scores = {"top1": None, "miou": 58.0, "iou": {"sky": 58.0}}
    chain(task="segmentation", reference=scores, engine=scores)
    found = front(model_card(read_run(tmp_path / "made")))
    assert (found["pipeline_tag"], found["metrics"]) == ("image-segmentation", ["mean_iou"])


def test_a_rehearsal_and_fp32_are_not_the_networks_own_numbers(chain: Any, tmp_path: Path) -> None:
    chain("cpu")
    (result,) = front(model_card(read_run(tmp_path / "made")))["model-index"][0]["results"]
    assert "a rehearsal" in result["task"]["name"]
    kinds = [metric["type"] for metric in result["metrics"]]
    assert kinds.count("accuracy") == 1 and "accuracy_fp32" in kinds


def test_every_set_is_what_it_was_used_for(chain: Any, tmp_path: Path) -> None:
    chain()
    made = tmp_path / "made"
    before = model_card(read_run(made))
    assert "Training data: unknown" in before and "Fine-tuning" not in before
    assert "- Evaluation: 400 images, content unknown; none is among" in before
    found = read_run(made)
    judged = found["stages"]["validate-jetson-orin-nano"]
    judged["parents"]["data"] = "cd" * 32
    tuned = {**found["stages"]["reference"], "stage": "finetune", "parents": {"data": "ab" * 32}}
    found["stages"] = {"finetune": tuned, **found["stages"]}
    card = model_card(found)
    assert f"- Fine-tuning: content SHA-256 {'ab' * 32}." in card
    assert f"- Evaluation: 400 images, content SHA-256 {'cd' * 32}; none is among" in card


def test_a_network_that_was_not_judged_has_no_evaluation(write: Any, tmp_path: Path) -> None:
    write("finetune", "finetune", {}, parents={"data": "ab" * 32})
    card = model_card(read_run(tmp_path / "made"))
    assert "- Evaluation: none in this run." in card and "calibration images (" not in card


def test_without_a_verdict_there_are_no_numbers(write: Any, tmp_path: Path) -> None:
    write("quantize", "quantize", {})
    card = model_card(read_run(tmp_path / "made"))
    assert "model-index" not in front(card)
    assert "No engine of this run was validated." in card


def test_hostile_names_stay_text(chain: Any, write: Any, tmp_path: Path) -> None:
    chain()
    write("quantize-2", "quantize", {"skipped": [EVIL], "placement": EVIL}, model={"family": EVIL})
    manifest = tmp_path / "made" / "reference" / "manifest.json"
    evil = EVIL.replace('"', '\\"').replace("\n", "\\n")
    manifest.write_text(manifest.read_text().replace("DenseNet-BC-22", evil))
    card = model_card(read_run(tmp_path / "made"))
    assert "DenseNet-BC-22" not in card
    assert front(card)["model-index"][0]["name"].startswith('a"b: [x]\n---\n# <script>')
    body = re.sub(r"(`{3,})\n.*?\n\1", "", card.split("\n---\n", 1)[1], flags=re.DOTALL)
    assert "\\<script\\>" in body
    assert re.search(r"(?<!\\)<script", body) is None


def test_a_readme_of_others_is_left_alone(run: Path, edgedense: Callable[..., Any]) -> None:
    (run / "README.md").write_text("mine\n")
    ended = edgedense("report", run, "--model-card")
    assert ended.code == 2 and "is no model card of ours" in ended.error[0]
    assert (run / "README.md").read_text() == "mine\n"
    (run / "README.md").unlink()
    assert edgedense("report", run, "--model-card").code == 0
    assert edgedense("report", run, "--model-card").code == 0  # its own is replaced
