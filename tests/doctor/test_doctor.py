from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doctor_roots import RELEASES

from edgedense.doctor import Diagnosis, Gpu, Interpreter, diagnosis, examine, machine, parse_smi
from edgedense.environment import HOMES

PYTHON = Interpreter("3.10.12", virtual=True, sees_system=True)
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
RELEASE = (RELEASES / "r36.4.4.txt").read_text()


def examined(root: Path, monkeypatch: pytest.MonkeyPatch, *modules: str, **files: str) -> Diagnosis:
    """A machine that has these modules and these files under /proc and /etc."""
    places = {
        "model": "proc/device-tree/model",
        "release": "etc/nv_tegra_release",
        "driver": "proc/driver/nvidia/version",
    }
    for name, text in files.items():
        path = root / places[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(diagnosis, "installed", lambda module: module in modules)
    monkeypatch.setattr(diagnosis, "version", lambda module: None)
    return examine(root, PYTHON)


def test_a_bare_machine_builds_nothing_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examined(tmp_path, monkeypatch)
    assert (found.builds, found.runs, found.gpu, found.problems) == ((), (), None, ())
    remedies = {row.remedy for row in found.missing}
    assert {f"pip install 'edgedense[{e}]'" for e in ("cpu", "rtx", "compress")} == remedies
    assert len(found.not_here) == 3


def test_a_workstation_without_gpu_builds_cpu_and_rtx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = set(HOMES) - {"tensorrt", "pycuda"}
    found = examined(tmp_path, monkeypatch, *modules)
    assert found.runs == ("cpu",)
    assert {"cpu", "rtx-ampere", "dgx-spark"} <= set(found.builds)
    assert not any(name.startswith("jetson") for name in found.builds)
    assert found.missing == ()
    told = " ".join(row.what for row in found.not_here)
    assert "rtx-* engine" in told
    assert "throttling of a Jetson" in told


def test_a_machine_that_has_tensorrt_but_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examined(tmp_path, monkeypatch, "tensorrt", "onnxruntime")
    assert any("driver" in row.what for row in found.missing)
    assert found.builds == ("cpu",)
    assert found.packages["tensorrt"] == "unknown"


@pytest.mark.parametrize(
    ("module", "driver"),
    [
        (MODULE, "550.54.14"),
        *zip(
            (RELEASES / "driver-versions.txt").read_text().splitlines(),
            ("550.120", "550.144.03"),
            strict=True,
        ),
        ("something else entirely", None),
    ],
)
def test_a_driver_without_nvidia_smi_is_a_gpu_of_unknown_kind(
    module: str, driver: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    found = examined(tmp_path, monkeypatch, "tensorrt", "pycuda", driver=module)
    assert found.gpu == Gpu("NVIDIA GPU", None, driver)
    assert found.builds == ()
    assert found.problems == ()


def test_a_raspberry_pi_is_no_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = examined(tmp_path, monkeypatch, model="Raspberry Pi 4 Model B Rev 1.4\0")
    assert (found.board, found.expected, found.dla.has) == (None, None, False)


def test_a_jetson_without_tensorrt_is_sent_to_jetpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examined(tmp_path, monkeypatch, model="NVIDIA Jetson AGX Orin\0", release=RELEASE)
    remedies = [row.remedy for row in found.missing]
    assert (
        "sudo apt install nvidia-jetpack, then: python3.10 -m venv --system-site-packages ENV"
        in remedies
    )
    assert any("pip install 'cuda-bindings==12.*'" in remedy for remedy in remedies)


@pytest.mark.parametrize("binding", ["pycuda", "cuda.bindings"])
def test_either_binding_of_cuda_runs_engines(
    binding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examined(tmp_path, monkeypatch, "tensorrt", binding, model="Jetson AGX Orin\0",
                     release=RELEASE)  # fmt: skip
    assert "jetson-agx-orin" in found.runs


@pytest.mark.parametrize(
    ("text", "gpu"),
    [
        ("Tesla T4, 7.5, 550.54.14\nTesla T4, 7.5, 550.54.14\n", Gpu("Tesla T4", 75, "550.54.14")),
        ("NVIDIA GeForce RTX 5090, 12.0, 575.1\n", Gpu("NVIDIA GeForce RTX 5090", 120, "575.1")),
        ("Orin (nvgpu), [N/A], N/A\n", None),
        ("", None),
    ],
)
def test_nvidia_smi(text: str, gpu: Gpu | None) -> None:
    assert parse_smi(text) == gpu


@pytest.mark.parametrize("junk", ["", "\0", "garbage \xff\n", "R (release), REVISION: ."])
def test_garbage_in_every_file_is_no_error(
    junk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("proc/device-tree/compatible", "proc/meminfo", "var/lib/dpkg/status",
                 "var/lib/nvpmodel/status", "etc/nvpmodel.conf"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(junk)
    found = examined(tmp_path, monkeypatch, model="NVIDIA Jetson AGX Thor\0", release=junk)
    assert (found.board, found.l4t, found.jetpack) == ("NVIDIA Jetson AGX Thor", None, None)
    json.dumps(found.to_dict(), allow_nan=False)


def test_this_python_knows_itself() -> None:
    here = Interpreter.here()
    assert here.version.startswith(here.minor + ".")
    assert here.virtual == (sys.prefix != sys.base_prefix)


def test_it_is_plain_json_and_imports_nothing_heavy() -> None:
    code = (
        "import json, sys; from edgedense.doctor import examine;"
        "json.dumps(examine().to_dict());"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'tensorrt_rtx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []


def test_keys_of_json(edgedense: Callable[..., Any]) -> None:
    told = json.loads(edgedense("doctor", "--json").out)
    assert {
        *("edgedense", "python", "cpu", "cores", "memory_bytes", "packages", "gpu", "board"),
        *("l4t", "builds", "runs", "missing", "not_here"),  # as they were at first
        *("jetpack", "expected", "tensorrt", "int8", "dla", "power_mode", "clocks_pinned"),
        *("available_bytes", "swap_bytes", "virtual_environment", "problems"),
    } <= set(told)


def test_commands_are_printed_whole(
    tmp_path: Path,
    edgedense: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgedense import doctor

    found = examined(tmp_path, monkeypatch)
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert "pip install 'edgedense[cpu]'" in edgedense("doctor").err
