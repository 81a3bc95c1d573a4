"""A bundle on a device that has no torch: built, measured, judged, reported, resumed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_bundles import entries_of, forge, quick, with_contents

from edgedense import artifact
from edgedense.bundle import open_bundle, plan_bundle, run_bundle
from edgedense.environment import has_gpu
from edgedense.errors import DiskError, InputError, MachineError
from edgedense.run import Run

# what `pip install edgedense onnxruntime` does not bring
ABSENT = (
    *("torch", "torch_pruning", "onnx", "safetensors", "sklearn", "scipy", "h5py", "ray"),
    *("tensorrt", "tensorrt_rtx", "pycuda", "cryptography"),
)
BLOCKED = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""
STAGES = ["engine-cpu", "engine-cpu-fp32", "benchmark-cpu", "validate-cpu"]
WHOLE = ["quantize", "evaluation", *STAGES]


def bare(*words: object) -> subprocess.CompletedProcess[str]:
    """A Python, and whatever processes it starts, that has nothing but what a device has."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(BLOCKED)
        paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )


def on_device(*words: object, repeats: int = 1) -> tuple[int, dict[str, Any], str]:
    timing = ["--iterations", "20", "--max-seconds", "0.2", "--repeats", str(repeats)]
    done = bare("-m", "edgedense", "run-bundle", *words, *timing, "--json")
    return done.returncode, json.loads(done.stdout), done.stderr


def changed(packed: Path, path: Path, **contents: Any) -> Path:
    """The same bundle, asked for something else."""
    return forge(path, with_contents(entries_of(packed), **contents))


def proved_again(path: Path, run: Path, target: str | None = None) -> Any:
    with open_bundle(path) as bundle:
        return run_bundle(bundle, run, target, quick())


@pytest.fixture
def run(proved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(proved, tmp_path / "run"))


@pytest.mark.parametrize("name", ["torch", "onnx", "cryptography"])
def test_the_device_here_lacks_what_a_real_one_lacks(name: str) -> None:
    assert "ModuleNotFoundError" in bare("-c", f"import {name}").stderr


def test_a_device_without_torch_proves_a_bundle(packed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, found, err = on_device(packed, "-o", run, repeats=2)
    assert (code, found.get("verdict")) == (0, "pass"), err
    assert (found["target"], found["task"], found["signed"]) == ("cpu", "classification", None)
    assert list(found["stages"]) == STAGES
    assert found["stages"]["benchmark-cpu"]["speedup"] > 0
    assert found["stages"]["validate-cpu"]["reference"]["top1"] == 100  # as recorded
    assert found["golden_sqnr_db"] > 20
    report = json.loads((run / "report.json").read_text())
    assert report["verdicts"] == {"cpu": "pass"}
    assert "**cpu: PASS**" in (run / "report.md").read_text()
    code, again, err = on_device(packed, "-o", run, repeats=2)
    assert (code, again["reused"]) == (0, WHOLE), err
    assert again["stages"] == found["stages"]


def test_a_finished_stage_is_not_repeated(packed: Path, run: Path) -> None:
    shutil.rmtree(run / "benchmark-cpu")
    (run / "quantize" / "fp32.onnx").write_bytes(b"damaged")
    found = proved_again(packed, run)
    # the network was unpacked anew and is the same, so its engines serve
    kept = ["evaluation", "engine-cpu", "engine-cpu-fp32"]
    assert list(found.reused) == kept
    assert found.verdict == "pass"


def test_another_gate_is_another_judgement_only(packed: Path, run: Path, tmp_path: Path) -> None:
    strict = changed(packed, tmp_path / "strict.edz", max_drop_pp=0, min_speedup=1000.0)
    found = proved_again(strict, run)
    assert list(found.reused) == WHOLE[:-1]
    assert (found.verdict, found.exit_code) == ("fail", 1)
    assert any("less than the asked 1000x" in reason for reason in found.reasons)
    code, told, _ = on_device(strict, "-o", tmp_path / "other")
    assert (code, told["verdict"]) == (1, "fail")


def test_dry_run_checks_and_writes_nothing(packed: Path, run: Path, tmp_path: Path) -> None:
    code, found, err = on_device(packed, "-o", tmp_path / "new", "--dry-run")
    assert code == 0, err
    assert [line["stage"] for line in found["plan"]] == WHOLE
    assert not any(line["reused"] for line in found["plan"])
    assert not (tmp_path / "new").exists()
    shutil.rmtree(run / "validate-cpu")
    with open_bundle(packed) as bundle:
        planned = {line.stage: line.reused for line in plan_bundle(bundle, run, None, quick())}
    assert planned == {**dict.fromkeys(WHOLE, True), "validate-cpu": False}


def test_a_changed_bundle_is_refused_before_anything_runs(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.edz"
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    code, told, err = on_device(path, "-o", tmp_path / "run")
    assert (code, told["exit_code"]) == (2, 2)
    assert "changed or damaged" in told["error"]
    assert len([line for line in err.splitlines() if line.startswith(("error", "  →"))]) == 2
    assert not (tmp_path / "run").exists()


def test_targets(packed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match="packed for cpu, not for l4"):
        proved_again(packed, run, "l4")
    with pytest.raises(InputError, match="no target 'orin'"):
        proved_again(packed, run, "orin")
    several = changed(packed, tmp_path / "several.edz", targets=["l4", "jetson-orin-nano"])
    with pytest.raises(InputError, match="for several targets: l4, jetson-orin-nano"):
        proved_again(several, run)
    unknown = changed(packed, tmp_path / "unknown.edz", targets=["jetson-next"])
    with pytest.raises(InputError, match="no target 'jetson-next'"):
        proved_again(unknown, run)
    assert not run.exists()
    assert proved_again(several, run, "CPU").target == "cpu"  # a rehearsal is always possible


@pytest.mark.skipif(has_gpu(), reason="needs a machine without a GPU")
def test_a_gpu_is_missed_before_the_work(packed: Path, tmp_path: Path) -> None:
    path = changed(packed, tmp_path / "orin.edz", targets=["jetson-orin-nano"])
    with pytest.raises(MachineError, match="there is none here") as error:
        proved_again(path, tmp_path / "run")
    assert "--target cpu" in error.value.remedy
    assert not (tmp_path / "run").exists()


def test_other_pixels_than_where_it_was_packed(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another JPEG library would decode them."""
    monkeypatch.setattr(
        "edgedense.bundle.evaluation.content_hashes", lambda images, *_, **__: ["0"] * len(images)
    )
    with pytest.raises(InputError, match="decodes to other pixels here") as error:
        proved_again(packed, tmp_path / "run")
    assert "--lossless" in error.value.remedy
    assert not (tmp_path / "run" / "evaluation").exists()


def test_a_bundle_of_nothing_to_compare_with(packed: Path, tmp_path: Path) -> None:
    found = proved_again(changed(packed, tmp_path / "a.edz", against=None), tmp_path / "run")
    assert "speedup" not in found.stages["benchmark-cpu"]
    assert found.verdict == "pass"


@pytest.mark.parametrize("gate", [None, 1.0])
def test_an_engine_to_compare_with_may_be_impossible(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: float | None
) -> None:
    from edgedense.bundle import steps

    plain = steps.build_engine

    def build(source: Any, directory: Path, options: Any, progress: Any) -> object:
        if options.precision == "fp32":
            raise MachineError("no memory", "Get some.")
        return plain(source, directory, options, progress)

    monkeypatch.setattr(steps, "build_engine", build)
    path = changed(packed, tmp_path / "a.edz", min_speedup=gate)
    if gate is not None:
        with pytest.raises(MachineError, match="no memory"):
            proved_again(path, tmp_path / "run")
        return
    found = proved_again(path, tmp_path / "run")
    assert list(found.left_out) == ["engine-cpu-fp32"]
    assert "speedup" not in found.stages["benchmark-cpu"]


def test_a_full_disk_is_no_excuse(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskError("the disk is full", "Free some space.")

    monkeypatch.setattr("edgedense.bundle.steps.build_engine", full)
    with pytest.raises(DiskError):
        proved_again(packed, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "quantize",
        "evaluation",
        "run.json",
    }


def test_an_interrupt_keeps_what_is_finished(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr("edgedense.bundle.steps.validate.validate", stop)
        with pytest.raises(KeyboardInterrupt):
            proved_again(packed, run)
    assert {path.name for path in run.iterdir()} == {*WHOLE[:-1], "run.json"}
    assert list(proved_again(packed, run).reused) == WHOLE[:-1]


def test_a_directory_of_something_else_is_left_alone(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is no run of"):
        proved_again(packed, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_run_says_which_bundle_it_proved(packed: Path, proved: Path) -> None:
    with open_bundle(packed) as bundle:
        assert Run(proved).asked["bundle"] == bundle.sha256
    evaluation = artifact.read(proved / "evaluation")
    validated = artifact.read(proved / "validate-cpu")
    assert validated.manifest.parents["data"] == evaluation.sha256


def test_the_command_line(
    packed: Path, tmp_path: Path, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    timing = ("--iterations", 20, "--max-seconds", 0.2, "--repeats", 1)
    ended = edgedense("run-bundle", packed, *timing)
    assert (ended.code, ended.out) == (0, ""), ended.err
    assert "verdict: PASS" in ended.err
    assert "cpu fp32 engine" in ended.err
    assert all(word in ended.err for word in ("p99 ms", "energy: ", "MLPerf's bound"))
    [evidence] = re.findall(r"^evidence: (.*)$", ended.err, re.MULTILINE)
    assert (evidence, (tmp_path / evidence).is_file()) == ("tiny.run/report.html", True)
    ended = edgedense("new-key", "a.key", "--json")
    assert json.loads(ended.out)["public_key"] == "a.key.pub"
    ended = edgedense("run-bundle", packed, "--verify-key", "a.key.pub", "--json")
    assert (ended.code, json.loads(ended.out)["exit_code"]) == (2, 2)
    assert "is not signed" in ended.error[0]
