"""The fixture as a user's repository has it: pytest in a process of its own finds the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgedense.environment import has_gpu

QUICK = [
    part for name in ("cacheprovider", "xdist", "hypothesispytest") for part in ("-p", f"no:{name}")
]
TESTS = """
import sys
import pytest

HEAVY = {{"torch", "onnx", "onnxruntime", "numpy", "click", "PIL"}}
LOADED = HEAVY & set(sys.modules)  # while pytest collects


def test_collection_loads_nothing_heavy():
    assert not LOADED


def test_defaults_of_the_ini_file(assert_no_regression):
    report = assert_no_regression()
    assert report.verdict == "pass"
    assert report.samples == 180


def test_what_the_call_says(assert_no_regression):
    report = assert_no_regression(
        engine="{engine}", data="{data}", baseline="baseline.json", max_drop_pp=4
    )
    assert report.gates.max_drop_pp == 4
    assert any("the same engine" in reason for reason in report.reasons)


def test_too_few_images(assert_no_regression):
    with pytest.raises(AssertionError, match="inconclusive"):
        assert_no_regression(max_drop_pp=0.1)


def test_reasons(assert_no_regression):
    assert_no_regression(max_drop_pp=0.1)


def test_no_such_engine(assert_no_regression):
    assert_no_regression(engine="nowhere")


def test_other_place(assert_no_regression):
    assert_no_regression(baseline="elsewhere.json")
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str

    def outcome(self, test: str) -> str:
        found = [
            line for line in self.out.splitlines() if line.startswith(f"test_engine.py::{test} ")
        ]
        return found[0].split()[1]


def run_pytest(folder: Path, *words: str) -> Done:
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *QUICK, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def repository(tmp_path: Path, tiny: Any, made: Any, edgedense: Any) -> Path:
    """A user's repository with a baseline, its own and one of another device."""
    words = ["validate", made.engine, "--data", tiny.test, "--max-drop", 5, "--no-latency"]
    assert edgedense(*words, "--write-baseline", tmp_path / "baseline.json").code == 0
    elsewhere = (tmp_path / "baseline.json").read_text().replace('"target": "cpu"', '"target": "x"')
    (tmp_path / "elsewhere.json").write_text(elsewhere)
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\nfilterwarnings = error\nedgedense_engine = {made.engine}\n"
        f"edgedense_data = {tiny.test}\nedgedense_max_drop_pp = 5\n"
    )
    (tmp_path / "test_engine.py").write_text(TESTS.format(engine=made.engine, data=tiny.test))
    return tmp_path


def test_a_users_repository(repository: Path) -> None:
    done = run_pytest(repository)
    assert done.code == 1, done.out
    for test in (
        *("test_collection_loads_nothing_heavy", "test_defaults_of_the_ini_file"),
        *("test_what_the_call_says", "test_too_few_images"),
    ):
        assert done.outcome(test) == "PASSED", done.out
    for test in ("test_reasons", "test_no_such_engine", "test_other_place"):
        assert done.outcome(test) == "FAILED"
    assert "engine: inconclusive" in done.out
    assert "- Top-1 drop 0.00 pp on 180 images" in done.out
    assert "nowhere does not exist: an artifact is wanted" in done.out
    assert "another target: x then, cpu now" in done.out
    assert "pytest_plugin.py" not in done.out  # no traceback through us


def test_what_was_not_told_is_named(repository: Path) -> None:
    (repository / "pytest.ini").write_text("[pytest]\nedgedense_max_drop_pp = much\n")
    done = run_pytest(repository, "-k", "test_defaults or test_reasons")
    assert done.outcome("test_defaults_of_the_ini_file") == "FAILED"
    assert "edgedense_max_drop_pp = 'much' is no number" in done.out
    assert done.outcome("test_reasons") == "FAILED"
    assert "not told the engine: give engine=…, --edgedense-engine" in done.out


@pytest.mark.skipif(has_gpu(), reason="this machine could run it")
def test_a_missing_gpu_fails_or_is_skipped_as_asked(repository: Path, made: Any) -> None:
    import shutil

    engine = repository / "gpu"
    shutil.copytree(made.engine, engine)
    manifest = (engine / "manifest.json").read_text()
    manifest = manifest.replace('"backend": "onnxruntime"', '"backend": "tensorrt-rtx"')
    (engine / "manifest.json").write_text(manifest)
    # the command line comes before the ini file
    words = ["-k", "test_defaults", "--edgedense-engine", "gpu"]
    failed, skipped = (
        run_pytest(repository, *words),
        run_pytest(repository, *words, "--edgedense-missing", "skip", "-rs"),
    )
    assert failed.outcome("test_defaults_of_the_ini_file") == "FAILED"
    assert "needs that GPU, and there is none here" in failed.out
    assert skipped.code == 0
    assert skipped.outcome("test_defaults_of_the_ini_file") == "SKIPPED"
    assert "needs that GPU" in skipped.out
