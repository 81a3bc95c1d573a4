"""Each example as its reader has it: the scripts themselves, on tiny networks and images."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_ins import TOML, write_classifier, write_images, write_masks, write_segmenter
from warm_commands import Done, Shell

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# tests of scripts that are not here: a C++ program is tested in tests/serving
ELSEWHERE = {"cpp"}
TESTED = {"classification", "cifar", "segmentation", "ci_gate", "jetson_bundle"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 32 pixels and a network that knows them."""
    root = tmp_path_factory.mktemp("examples")
    write_images(root / "train", 24, 32, seed=0)
    write_images(root / "test", 135, 32, seed=1)
    (root / "pre.toml").write_text(TOML.format(size=32))
    write_classifier(root / "cifar.pth", root / "train", str(root / "pre.toml"))
    return root


@pytest.fixture
def place(kept: Path, tmp_path: Path) -> Path:
    """The example's user has these under names of their own."""
    for name in ("train", "test", "pre.toml", "cifar.pth"):
        (tmp_path / name).symlink_to(kept / name)
    return tmp_path


def run(shell: Shell, place: Path, script: str, *words: str, **env: str) -> Done:
    return shell.run(["sh", EXAMPLES / script, *words], place, {"PREPROCESS": "pre.toml", **env})


def test_every_example_is_tested_and_says_what_to_expect() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == TESTED | ELSEWHERE
    for name in TESTED:
        page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert "\n## What to expect\n" in page
        assert len(page.splitlines()) < 70, "one page"
        for script in re.findall(r"\bsh ([\w.]+\.sh)", page):
            assert (EXAMPLES / name / script).is_file()


def test_classification(place: Path, shell: Shell) -> None:
    stem = {"stem": "imagenet", "stem_width": 16, "blocks": [2, 2, 2]}
    weights = write_classifier(
        place / "densenet121.pth", place / "train", f"{place}/pre.toml", **stem
    ).name
    done = run(shell, place, "classification/run.sh", weights, "train", "test", "run")
    assert done.code == 0, done.log
    assert re.search(r"scheme +torchvision", done.log)
    assert {"report.html", "README.md"} <= {path.name for path in (place / "run").iterdir()}
    there = run(
        shell, place, "classification/run.sh", weights, "train", "test", "run",
        TARGET="jetson-orin-nano",
    )  # fmt: skip
    assert there.code == 3, there.log
    assert "edgedense build-engine" in there.log
    assert "unchanged, reused" in there.log


def test_cifar(place: Path, shell: Shell) -> None:
    done = run(shell, place, "cifar/run.sh", "cifar.pth", "train", "test", "out", MACS="0.8")
    assert done.code == 0, done.log
    assert "verdict: PASS" in done.log
    found = json.loads((place / "out/int8/manifest.json").read_text())
    assert found["stage"] == "quantize"
    assert (place / "out/tuned/manifest.json").is_file()


def test_segmentation(tmp_path: Path, shell: Shell) -> None:
    write_masks(tmp_path / "train", 40, 16, seed=0)
    write_masks(tmp_path / "test", 20, 16, seed=1)
    (tmp_path / "pre.toml").write_text(TOML.format(size=16))
    write_segmenter(tmp_path / "net.pth", tmp_path / "train", str(tmp_path / "pre.toml"))
    words = ("segmentation/run.sh", "net.pth", "train", "test", "run")
    done = run(shell, tmp_path, *words, MAX_DROP="10")
    assert done.code == 0, done.log
    assert "mean IoU" in done.log
    assert (tmp_path / "run/report.html").is_file()


def test_jetson_bundle(place: Path, shell: Shell) -> None:
    key = shell.run(["edgedense", "new-key", "release.key"], place)
    assert key.code == 0, key.log
    words = ("jetson_bundle/workstation.sh", "cifar.pth", "train", "test", "net.edz")
    made = run(shell, place, *words, IMAGES="400", KEY="release.key")
    assert made.code == 0, made.log
    done = run(
        shell, place, "jetson_bundle/board.sh", "net.edz", "run",
        TARGET="cpu", VERIFY_KEY="release.key.pub",
    )  # fmt: skip
    assert done.code == 0, done.log
    assert "verdict: PASS" in done.log
    assert (place / "run/report.html").is_file()
    other = shell.run(["edgedense", "new-key", "other.key"], place)
    assert other.code == 0, other.log
    refused = run(
        shell, place, "jetson_bundle/board.sh", "net.edz", "run2",
        TARGET="cpu", VERIFY_KEY="other.key.pub",
    )  # fmt: skip
    assert refused.code == 2, refused.log


@pytest.fixture
def repository(place: Path, shell: Shell) -> Path:
    """A user's repository: the example's files beside an engine and images."""
    where = place / "repository"
    shutil.copytree(EXAMPLES / "ci_gate", where)
    (where / "images").mkdir()
    (where / "images/test").symlink_to(place / "test")
    engine = (
        "edgedense quantize cifar.pth -o int8 --calib train --eval test --effort fast "
        "--preprocess pre.toml && edgedense build-engine int8 -o repository/engine --target cpu"
    )
    made = shell.line(engine, place)
    assert made.code == 0, made.log
    return where


def test_ci_gate(repository: Path, shell: Shell, tmp_path: Path) -> None:
    first = shell.run(["pytest", "-p", "no:cacheprovider"], repository)
    assert first.code == 1
    assert "baselines/engine.json" in first.log  # is not there yet
    accepted = shell.run(["sh", "baseline.sh"], repository)
    assert accepted.code == 0, accepted.log
    passed = shell.run(["pytest", "-p", "no:cacheprovider"], repository)
    assert passed.code == 0, passed.log
    job = yaml.safe_load((repository / ".github/workflows/engine.yml").read_text())["jobs"]["gate"]
    (ours,) = [step["with"] for step in job["steps"] if "/edgedense@" in step.get("uses", "")]
    given = {name.replace("-", "_"): value for name, value in ours.items()}
    ran = run_action(repository, **given, install="false")
    assert ran.code == 0, ran.log
    assert ran.outputs["verdict"] == "pass"


def run_action(repository: Path, **given: str) -> Any:
    """What the action's own tests take for a runner."""
    spec = importlib.util.spec_from_file_location(
        "actions_runner", ROOT / "tests/action/test_github_action.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.run_action(repository, **given)
