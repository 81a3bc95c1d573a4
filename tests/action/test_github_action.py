"""``action.yml`` as a runner would take it: a small interpreter of composite actions runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from edgedense.cli.main import cli

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True)
class Ran:
    code: int
    outputs: dict[str, str]
    summary: str
    log: str
    skipped: tuple[str, ...]


class Context:
    """``inputs`` and ``steps`` of a composite action, and the expressions that name them."""

    def __init__(self, given: dict[str, object]) -> None:
        unknown = set(given) - set(ACTION["inputs"])
        assert not unknown
        self.inputs = {
            name: str(given.get(name, spec.get("default", "")))
            for name, spec in ACTION["inputs"].items()
        }
        self.steps: dict[str, dict[str, str]] = {}

    def text(self, value: object) -> str:
        return EXPRESSION.sub(lambda found: self.value(found[1]), str(value))

    def holds(self, condition: str) -> bool:
        inner = EXPRESSION.fullmatch(condition)
        left, sign, right = (inner[1] if inner else condition).split(" ")
        return (self.value(left) == right.strip("'")) == (sign == "==")

    def value(self, name: str) -> str:
        kind, *rest = name.split(".")
        if kind == "inputs":
            return self.inputs[rest[0]]
        assert (kind, rest[1]) == ("steps", "outputs"), name
        return self.steps[rest[0]].get(rest[2], "")


def run_action(folder: Path, **given: object) -> Ran:
    """Each step that its condition lets through; ``uses`` is not ours and is only noted."""
    context = Context({name.replace("_", "-"): value for name, value in given.items()})
    places = {
        name: str(folder / name.lower())
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP")
    }
    Path(places["RUNNER_TEMP"]).mkdir(exist_ok=True)
    Path(places["GITHUB_STEP_SUMMARY"]).touch()
    bin_ = str(Path(sys.executable).parent)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "COV_"))},
        **places,
        "GITHUB_ACTION_PATH": str(ROOT),
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
    }
    code, log, skipped = 0, "", []
    for step in ACTION["runs"]["steps"]:
        if code or "uses" in step or ("if" in step and not context.holds(step["if"])):
            skipped.append(step["name"])
            continue
        Path(places["GITHUB_OUTPUT"]).write_text("")
        own = {name: context.text(value) for name, value in step.get("env", {}).items()}
        script = folder / "script.sh"
        script.write_text(context.text(step["run"]))
        assert step["shell"] == "bash"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=folder,
            env={**environment, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        code, log = done.returncode, log + done.stdout + done.stderr
        lines = Path(places["GITHUB_OUTPUT"]).read_text().splitlines()
        if "id" in step:
            context.steps[step["id"]] = dict(line.split("=", 1) for line in lines)
    outputs = {
        name: context.text(spec["value"]) for name, spec in ACTION.get("outputs", {}).items()
    }
    summary = Path(places["GITHUB_STEP_SUMMARY"]).read_text()
    return Ran(code, outputs, summary, log, tuple(skipped))


def test_it_is_a_composite_action_whose_parts_are_described() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert ACTION["name"]
    assert ACTION["description"]
    for spec in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert spec["description"].endswith((".", ")."))
    for name, spec in ACTION["inputs"].items():
        assert spec.get("required") or isinstance(spec["default"], str), f"{name}: not a string"
    for step in ACTION["runs"]["steps"]:
        assert ("uses" in step) != ("run" in step and "shell" in step)


def test_no_input_is_pasted_into_a_script() -> None:
    for step in ACTION["runs"]["steps"]:
        assert not EXPRESSION.search(step.get("run", ""))


def test_every_option_that_it_passes_exists() -> None:
    command = cli.commands["validate"]
    known = {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    (step,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "validate"]
    passed = set(re.findall(r"(?<![\w-])--[a-z-]+", step["run"]))
    assert {"--json", "--summary", "--baseline", "--no-latency", "--force"} <= passed <= known
    used = set(re.findall(r"inputs\.([a-z-]+)", json.dumps(ACTION["runs"])))
    assert used == set(ACTION["inputs"])


def test_a_passing_engine(tiny: Any, made: Any, tmp_path: Path) -> None:
    ran = run_action(
        tmp_path,
        engine=made.engine,
        data=tiny.test,
        max_drop=5,
        write_baseline="base line.json",
        install="false",
    )
    assert ran.code == 0, ran.log
    assert ran.skipped == ("Set up Python", "Install edgedense")
    report = json.loads(Path(ran.outputs["report"]).read_text())
    assert (report["verdict"], report["samples"]) == ("pass", 180)
    assert ran.outputs == {
        "verdict": "pass",
        "drop-pp": str(report["drop_pp"]),
        "drop-low": str(report["drop_ci95"][0]),
        "drop-high": str(report["drop_ci95"][1]),
        "agreement": "100.0",
        "speedup": "",
        "exit-code": "0",
        "report": ran.outputs["report"],
    }
    assert ran.summary.startswith("### ✅ edgedense: ")
    assert "| top-1 | 100.00 % | 100.00 % |" in ran.summary
    again = run_action(
        tmp_path,
        engine=made.engine,
        data=tiny.test,
        max_drop=5,
        baseline="base line.json",
        install="false",
        python_version="",
    )
    assert again.code == 0, again.log
    assert "the same engine" in again.summary


def test_an_inconclusive_engine_of_a_run_fails_the_job(
    tiny: Any, made: Any, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/engine-cpu").symlink_to(made.engine)
    ran = run_action(tmp_path, run="run", data=tiny.test, max_drop=0.5, install="false")
    assert ran.code == 1
    assert (ran.outputs["verdict"], ran.outputs["exit-code"]) == ("inconclusive", "1")
    assert "### ❔ edgedense: run/engine-cpu: inconclusive" in ran.summary


def test_bad_input_keeps_its_exit_code_and_runs_nothing(tiny: Any, tmp_path: Path) -> None:
    hostile = '$(touch pwned)"; touch pwned; "`touch pwned`'
    ran = run_action(tmp_path, engine=hostile, data=tiny.test, install="false")
    assert ran.code == 2
    assert (ran.outputs["verdict"], ran.outputs["exit-code"]) == ("error", "2")
    assert ran.outputs["drop-pp"] == ""
    assert "was not judged" in ran.summary
    assert "error: " in ran.log
    assert not (tmp_path / "pwned").exists()
    usage = run_action(tmp_path, engine="e", data=tiny.test, max_drop="lots", install="false")
    assert usage.code == 2
    assert usage.outputs["verdict"] == "error"


def test_it_installs_itself_with_the_extras_asked_for(
    tiny: Any, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a python3 that notes what it is asked, but for the step that reads the report
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "python3").write_text(
        f'#!/bin/bash\nif [ "$1" = -m ]; then echo "$@" > "{tmp_path}/asked"; exit 0; fi\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    (fake / "python3").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake / "python3"))
    beside = str(Path(os.environ.get("VIRTUAL_ENV", sys.prefix)) / "bin")
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")
    ran = run_action(tmp_path, engine=made.engine, data=tiny.test, max_drop=5, extras="cpu,rtx")
    assert ran.code == 0, ran.log
    assert (tmp_path / "asked").read_text().split() == [
        *("-m", "pip", "install", "--quiet"),
        f"{ROOT}[cpu,rtx]",
    ]
