"""How to reproduce: commands that exist, with the run's options, and safe to paste."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgedense.cli.main import cli
from edgedense.report import read_raw, read_run
from edgedense.report.commands import commands

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STUB = """#!/bin/sh
printf '%s\\0' "$@" >> "$CALLS"; printf '\\n\\0' >> "$CALLS"
"""


def lines(run: Path) -> list[str]:
    found = read_run(run)
    return commands(found, read_raw(run, found["stages"]))


def calls(written: list[str], place: Path) -> list[list[str]]:
    """What ``edgedense`` is called with where a shell runs these lines."""
    place.mkdir()
    (place / "edgedense").write_text(STUB)
    (place / "edgedense").chmod(0o755)
    path = f"{place}{os.pathsep}{os.environ['PATH']}"
    found = {**os.environ, "PATH": path, "CALLS": str(place / "calls")}
    script = "\n".join(["set -eu", *written])
    subprocess.run(["sh", "-c", script], cwd=place, env=found, check=True)
    words = (place / "calls").read_text().split("\0")[:-1]
    joined, call = [], []
    for word in words:
        if word == "\n":
            joined.append(call)
            call = []
        else:
            call.append(word)
    return joined


def parsed(words: list[str]) -> dict[str, Any]:
    """The parameters that the command line reads from them. Fails where one does not exist."""
    command = cli.commands[words[0]]
    context = command.make_context(words[0], words[1:], resilient_parsing=False)
    return context.params


def test_the_commands_of_a_real_run_mean_the_same(run: Path, tmp_path: Path) -> None:
    written = lines(run)
    assert written[0].startswith("MODEL=") and len(written[0].split("sha256 ")[1]) == 64
    done = {words[0]: parsed(words) for words in calls(written, tmp_path / "shell")}
    assert list(done) == ["prune", "quantize", "build-engine", "benchmark", "validate"]
    assert (done["prune"]["macs"], done["prune"]["method"]) == (0.8, "reconstruct")
    assert done["quantize"]["sensitivity"] and done["quantize"]["sensitivity_images"] == 4
    assert str(done["quantize"]["model"]) == "prune"
    assert str(done["quantize"]["reference"]) == "MODEL"
    assert done["benchmark"]["iterations"] == 20
    assert done["validate"]["max_drop"] == 5.0


def test_preprocessing_of_ones_own_is_written_out(run: Path, tmp_path: Path) -> None:
    calls(lines(run), tmp_path / "shell")
    found = tomllib.loads((tmp_path / "shell" / "preprocess.toml").read_text())
    known = json.loads((run / "prune" / "manifest.json").read_text())["preprocess"]
    assert found == {key: value for key, value in known.items() if value is not None}


def test_a_sweep_is_one_command(chain: Any, write: Any, tmp_path: Path) -> None:
    chain("cpu", "second-a")
    chain("cpu", "second-b")
    pruned = write("prune-0.7", "prune", {}, options={"macs": 0.7})
    write("quantize-0.7", "quantize", {}, parents={"model": pruned})
    (words,) = calls(lines(tmp_path / "made"), tmp_path / "shell")
    assert words[:2] == ["sweep", "MODEL"]
    assert words[words.index("--macs") + 1] == "1,0.7"


@pytest.mark.parametrize(
    "evil",
    ["; touch pwned;", "$(touch pwned)", "'; touch pwned; '", "`touch pwned`", "x\ntouch pwned\n",
     "\nTOML\ntouch pwned\n", "&& touch pwned #", '"; touch pwned; "', "-o", "\u202e\x00\x1b[2J"],
)  # fmt: skip
def test_no_name_does_anything(evil: str, chain: Any, write: Any, tmp_path: Path) -> None:
    options = {"method": evil, "target": evil, "latency_ms": 1.0, "images": evil, "align": evil}
    files = {"calibration.json": {"source": f"/{evil}"}}
    preprocess = {"name": evil, evil: 1}
    parents = {"model": evil, "calibration": evil}
    pruned = write("prune", "prune", {}, options=options, parents=parents, preprocess=preprocess)
    parents = {"model": pruned, "teacher": evil}
    tuned = write("finetune", "finetune", {}, options={"epochs": evil}, parents=parents)
    options = {"skip": [evil], "placement": evil, "max_drop_pp": evil, "int8_stem": evil}
    parents = {"model": tuned, "calibration": evil}
    write("quantize", "quantize", {}, options=options, files=files, parents=parents)
    chain(name="x")
    called = calls(lines(tmp_path / "made"), tmp_path / "shell")
    assert {path.name for path in (tmp_path / "shell").iterdir()} <= {
        *("calls", "edgedense", "preprocess.toml")
    }
    assert {"prune", "quantize", "finetune"} <= {words[0] for words in called}
    assert all(shlex.split(shlex.join(words)) == words for words in called)


def test_options_of_all_stages_exist(chain: Any, write: Any, tmp_path: Path) -> None:
    trained = {"epochs": 3, "batch": 64, "lr": 0.01, "schedule": "step", "momentum": 0.9}
    trained |= {"weight_decay": 1e-4, "patience": 2, "temperature": 3.0, "alpha": 0.5, "amp": True}
    tuned = write("finetune", "finetune", {}, options=trained, parents={"teacher": "0" * 64})
    options = {"placement": "block", "skip": ["conv0", "norm5"], "int8_stem": False, "rest": "fp32"}
    quantized = write("quantize", "quantize", {}, options=options, parents={"model": tuned})
    options = {"target": "rtx-ada", "batch": [1, 4, 8], "sms": [86, 89], "workspace_mib": 512}
    parents = {"model": quantized}
    engine = write("engine-x", "build-engine", {"target": "x"}, options=options, parents=parents)
    options = {"max_drop_pp": 0.5, "min_speedup": 2.0, "ignore_class": [3, 4], "latency": False}
    options |= {"baseline": "b.json", "max_regression_pp": 0.2, "max_slowdown_percent": 5.0}
    write("validate-x", "validate", {}, options=options, parents={"engine": engine})
    options = {"iterations": 700, "min_seconds": 2.0, "batch": 4, "seed": 3}
    parents = {"engine": engine, "against": "0" * 64}
    write("benchmark-x", "benchmark", {"fresh_processes": True}, options=options, parents=parents)
    called = {words[0]: parsed(words) for words in calls(lines(tmp_path / "made"), tmp_path / "s")}
    assert called["finetune"]["alpha"] == 0.5 and called["finetune"]["amp"]
    assert called["quantize"]["skip"] == ("conv0", "norm5")
    assert called["quantize"]["int8_stem"] is False
    assert tuple(called["build-engine"]["sms"]) == (86, 89)
    assert tuple(called["build-engine"]["batch"]) == (1, 4, 8)
    assert (called["benchmark"]["iterations"], called["benchmark"]["min_seconds"]) == (700, 2.0)
    assert not called["benchmark"]["same_process"]
    judged = called["validate"]
    assert (judged["max_drop"], judged["min_speedup"]) == (0.5, 2.0)
    assert (judged["ignore_class"], str(judged["baseline"])) == ((3, 4), "b.json")
    assert (judged["max_regression"], judged["max_slowdown"], judged["latency"]) == (0.2, 5, False)
