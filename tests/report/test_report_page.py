"""The page: whole, safe and accessible whatever was in the run; and it says what happened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Node, parse

from edgedense import artifact
from edgedense.report import page, read_raw, read_run, write_reports
from edgedense.report.html import clean, tag
from edgedense.targets import find_target

BOARD = find_target("jetson-orin-nano").label
EVIL = "<script>alert(1)</script>\"'&|`\x00\u202e](javascript:x)"


def made_page(run: Path) -> str:
    found = read_run(run)
    return page(found, read_raw(run, found["stages"]))


def complaints(root: Node) -> list[str]:
    """What is wrong with a page for those who cannot see it, or who do not trust it."""
    found, every = [], root.all()
    ids = [node.get("id") for node in every if "id" in node.attributes]
    found += [f"id {name} twice" for name in set(ids) if ids.count(name) > 1]
    found += [f"{n.name} refers to no {ref}" for n in every for ref in refs(n) if ref not in ids]
    levels = [int(node.name[1]) for node in every if re.fullmatch("h[1-6]", node.name)]
    found += ["headings jump"] * any(b > a + 1 for a, b in pairwise(levels))
    found += ["not one h1"] * (levels.count(1) != 1)
    for name in ("header", "main", "footer", "nav"):
        found += [f"no single {name}"] * (len(root.all(name)) != 1)
    found += [f"th without scope: {n.text}" for n in root.all("th") if not n.get("scope")]
    found += ["table without caption"] * any(not t.all("caption") for t in root.all("table"))
    for svg in root.all("svg"):
        named = svg.get("role") == "img" and svg.all("title") and svg.get("aria-labelledby")
        found += ["svg without a name"] * (not named and svg.get("aria-hidden") != "true")
    scripts = [n.name for n in every if n.name in ("script", "iframe", "object", "link", "img")]
    found += [f"<{name}>" for name in scripts]
    for node in every:
        found += [f"{key} on {node.name}" for key in node.attributes if key.startswith("on")]
        for key in ("href", "src", "action"):
            if key in node.attributes and not node.get(key).startswith("#"):
                found.append(f"{key}={node.get(key)}")
    return found


def refs(node: Node) -> list[str]:
    linked = [node.get("href")[1:]] if node.get("href").startswith("#") else []
    return [*node.get("aria-labelledby").split(), *linked]


def heading(root: Node) -> str:
    return root.all("h1")[0].text.replace("\u2011", "-")


def lead(root: Node) -> str:
    found = next(node for node in root.all("p") if node.get("class") == "lead")
    return found.text.replace("\u00a0", " ")


def badge(root: Node) -> str:
    return next(n for n in root.all("p") if n.get("class").startswith("verdict")).text


def sections(root: Node) -> list[str]:
    return [node.get("id") for node in root.all("section")]


def test_the_page_of_a_real_run_is_whole_and_accessible(run: Path) -> None:
    write_reports(read_run(run), run)
    text = (run / "report.html").read_text()
    root = parse(text)
    assert complaints(root) == []
    assert root.all("html")[0].get("lang") == "en"
    policy = next(m for m in root.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.get("content").startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "http" not in text.replace("http-equiv", "")
    assert sections(root) == [
        *("accuracy", "latency", "where", "pruned", "layers", "calibration", "engines"),
        *("device", "lineage", "again"),
    ]
    assert (badge(root), "keeps its accuracy" in heading(root)) == ("Passed", True)
    assert "a rehearsal on a processor (cpu), not on the device" in lead(root)
    for stage in ("quantize", "engine-cpu"):
        assert read_run(run)["stages"][stage]["manifest_sha256"] in text


def test_each_verdict_is_told_in_words(chain: Callable[..., None], tmp_path: Path) -> None:
    chain()
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert heading(root) == "DenseNet-BC-22 in INT8 keeps its accuracy"
    assert lead(root) == (
        "On the same 400 images it reaches 94.00 % top-1 accuracy, the FP32 original 94.50 %; at "
        "worst 0.75 points are lost (95 % confidence), where 1 is allowed. It is 4.5 times as fast "
        f"as FP32 in PyTorch and does with 70 % of the arithmetic. Judged on {BOARD}."
    )
    figures = [node.text for node in root.all("dl")[0].all("dd")]
    assert figures[0].startswith("0.50\u00a0pp") and figures[1].startswith("4.50\u00a0")
    assert figures[2].startswith("70\u00a0%") and figures[3].startswith("25\u00a0%")


@pytest.mark.parametrize(
    ("judged", "badge_", "words"),
    [
        ({"verdict": "fail", "drop_ci95": [1.5, 2.5]}, "Failed", "loses too much accuracy"),
        ({"verdict": "fail", "min_speedup": 9.0}, "Failed", "misses what was asked"),
        (
            {"verdict": "inconclusive", "drop_ci95": [-0.2, 1.4]},
            "Not decided",
            "these images cannot decide",
        ),
        (
            {"verdict": "inconclusive", "min_speedup": 4.5},
            "Not decided",
            "keeps its accuracy, but something else is not decided",
        ),
        ({"max_drop_pp": None, "reasons": []}, "No gate was set", "nothing was asked of it"),
        ({"max_drop_pp": None, "min_speedup": 2.0}, "Passed", "does what was asked"),
        ({"drop_pp": None, "drop_ci95": None, "reference": None}, "Passed", "keeps its accuracy"),
    ],
)
def test_verdicts(
    judged: Any, badge_: str, words: str, chain: Callable[..., None], tmp_path: Path
) -> None:
    chain("cpu", **judged)
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert (badge(root), words in heading(root)) == (badge_, True)
    assert "rehearsal" in lead(root)


def test_only_validate_and_nothing_else(write: Any, chain: Any, tmp_path: Path) -> None:
    chain()
    for name in ("reference", "quantize", "engine-jetson-orin-nano", "benchmark-jetson-orin-nano"):
        (tmp_path / "made" / name / "manifest.json").unlink()
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert sections(root) == ["accuracy", "lineage", "again"]
    assert lead(root).endswith(f"Its speed was not measured. Judged on {BOARD}.")


def test_a_run_without_a_verdict_says_so(write: Any, tmp_path: Path) -> None:
    write("quantize", "quantize", {}, model={"family": "DenseNet-121"})
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert (heading(root), badge(root)) == ("DenseNet-121: no verdict yet", "Not judged yet")


def test_the_device_counts_and_not_its_rehearsal(chain: Any, tmp_path: Path) -> None:
    chain("cpu", verdict="fail", drop_ci95=[1.5, 2.5])
    chain(verdict="inconclusive")
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert (badge(root), f"Judged on {BOARD}." in lead(root)) == ("Not decided", True)
    heads = [cell.text for cell in root.all("table")[0].all("th")]
    assert heads[:3] == ["engine", "jetson-orin-nano", "cpu"]
    assert "choices" not in sections(root)  # one network on two targets


def test_several_networks_are_held_against_each_other(chain: Any, tmp_path: Path) -> None:
    chain(name="second-a", drop_pp=0.1, drop_ci95=[-0.1, 0.3], engine={"top1": 94.4})
    chain(name="second-b", drop_pp=2.0, drop_ci95=[1.0, 3.0], engine={"top1": 92.5})
    manifest = tmp_path / "made" / "engine-second-b" / "manifest.json"
    text = manifest.read_text()
    built = artifact.read(manifest.parent).sha256
    manifest.write_text(text.replace('"engine_bytes": 2000000', '"engine_bytes": 1000000'))
    now = artifact.read(manifest.parent).sha256
    for kind in ("benchmark", "validate"):
        reader = tmp_path / "made" / f"{kind}-second-b" / "manifest.json"
        reader.write_text(reader.read_text().replace(built, now))
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert heading(root) == "1 of 2 variants of DenseNet-BC-22 surely keeps its accuracy"
    assert badge(root) == "2 networks compared"
    assert "The cheapest of them, second-a, does with 70 % of the arithmetic" in lead(root)
    drawn = next(node for node in root.all("section") if node.get("id") == "choices")
    titles = {node.text for node in drawn.all("title")}
    assert titles == {"Top-1 accuracy against size"}  # MACs and latency are the same


def test_segmentation_is_told_by_its_classes(chain: Any, tmp_path: Path) -> None:
    before = {"top1": None, "miou": 60.0, "iou": {"sky": 90.0, EVIL: 30.0}}
    after = {"top1": None, "miou": 58.0, "iou": {"sky": 89.5, EVIL: 26.5}}
    chain(task="segmentation", reference=before, engine=after, drop_pp=2.0)
    root = parse(made_page(tmp_path / "made"))
    assert complaints(root) == []
    assert "58.00 % mean IoU" in lead(root)
    rows = {r.all("th")[0].text: [c.text for c in r.all("td")] for r in root.all("tr")}
    assert rows["FP32 IoU %"] == ["90.00", "30.00"]
    assert rows["drop pp"] in (["0.50", "3.50"], ["2.00"])


def test_nothing_of_a_user_becomes_markup(chain: Any, write: Any, tmp_path: Path) -> None:
    flips = {"changed": 1, "examples": {"lost": [{"image": EVIL, "label": EVIL, "engine": EVIL}]}}
    classes = {"worst": [{"class": EVIL, "images": 3, "drop_pp": 1.0, "p_holm": 1.0}]}
    chain(reasons=[EVIL], notes=[EVIL], flips=flips, classes=classes, engine_name=EVIL)
    groups = [{"name": f"{EVIL}.layer1.conv", "before": 8, "after": 4}]
    report = {"macs_before": 2, "macs_after": 1, "groups": groups, "method": EVIL}
    write("<b>prune", "prune", report, preprocess={"name": EVIL}, options={"method": EVIL})
    files = {
        "calibration.json": {"source": EVIL, "amax": {EVIL: 1.0}},
        "histograms.npz": {
            "names": np.array([EVIL[:40]]),
            "counts": np.ones((1, 64), int),
            "top": [2.0],
        },
        "sensitivity.json": {
            "rows": [{"kind": EVIL, "name": EVIL, "sqnr_db": 1.0}],
            "maps": [
                {
                    "kind": EVIL,
                    "operator": EVIL,
                    "blocks": [EVIL],
                    "layers": [1],
                    "sqnr_db": [[3.0]],
                }
            ],
        },
    }
    written = {"skipped": [EVIL], "warnings": [EVIL], "placement": EVIL}
    write("quantize-2", "quantize", written, files=files, model={"family": EVIL})
    run = tmp_path / "made"
    write_reports(read_run(run), run)
    text = (run / "report.html").read_text()
    root = parse(text)
    assert complaints(root) == []
    assert "<script" not in text and "<b>prune" not in text and "\x00" not in text
    assert clean(EVIL) in root.text
    said = (run / "report.md").read_text()
    outside = re.sub(r"(`{3,})\n.*?\n\1", "", said, flags=re.DOTALL)
    assert re.search(r"(?<!\\)(<|\]\()", outside) is None


@pytest.mark.parametrize("odd", [None, [], {}, "text", -1, True])
def test_a_page_is_written_whatever_the_reports_hold(
    odd: Any, chain: Any, write: Any, tmp_path: Path
) -> None:
    keys = ("samples", "reference", "engine", "drop_pp", "drop_ci95", "verdict", "reasons", "task")
    for number, key in enumerate(keys):
        chain(name=f"second-{number}", **{key: odd})
    report = dict.fromkeys(("macs_before", "macs_after", "groups", "images", "budget"), odd)
    write("prune", "prune", report, options={"macs": odd})
    write("quantize", "quantize", {"skipped": odd, "budget": odd, "sensitivity": odd})
    run = tmp_path / "made"
    write_reports(read_run(run), run)
    assert complaints(parse((run / "report.html").read_text())) == []


def test_many_samples_make_no_large_page(chain: Any, tmp_path: Path) -> None:
    chain()
    place = tmp_path / "made" / "benchmark-jetson-orin-nano"
    random = np.random.default_rng(0)
    samples = {key: random.lognormal(1, 0.3, 5000).tolist() for key in ("samples_ms", "against_ms")}
    (place / "samples.json").write_text(json.dumps(samples))
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"]["samples.json"] = {
        "sha256": artifact.sha256_file(place / "samples.json"),
        "bytes": (place / "samples.json").stat().st_size,
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    text = made_page(tmp_path / "made")
    assert len(text.encode()) < 100_000
    curve = next(n for n in parse(text).all("path") if "c-one" in n.get("class"))
    assert 150 < curve.get("d").count("L") < 200


@given(st.text(), st.text())
def test_text_comes_back_as_it_went_in(inside: str, attribute: str) -> None:
    root = parse(tag("p", inside, title=attribute))
    # a parser makes line ends alike
    assert root.all("p")[0].text.replace("\r\n", "\n").replace("\r", "\n") == clean(inside).replace(
        "\r\n", "\n"
    ).replace("\r", "\n")
    assert root.all("p")[0].get("title") == clean(attribute)
