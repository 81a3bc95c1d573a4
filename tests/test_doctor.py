from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgedense import doctor
from edgedense.doctor import Gpu, examine, parse_smi
from edgedense.environment import HOMES

RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed\n"
)
MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"


def machine(
    root: Path, monkeypatch: pytest.MonkeyPatch, *modules: str, **files: str
) -> doctor.Diagnosis:
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
    monkeypatch.setattr(doctor, "installed", lambda module: module in modules)
    monkeypatch.setattr(doctor, "version", lambda module: "1.0")
    return examine(root)


def test_a_bare_machine_builds_nothing_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = machine(tmp_path, monkeypatch)
    assert (found.builds, found.runs, found.gpu) == ((), (), None)
    remedies = {row.remedy for row in found.missing}
    assert {f"pip install 'edgedense[{e}]'" for e in ("cpu", "rtx", "compress")} == remedies
    assert len(found.not_here) == 2


def test_a_workstation_without_gpu_builds_cpu_and_rtx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = set(HOMES) - {"tensorrt", "pycuda"}
    found = machine(tmp_path, monkeypatch, *modules)
    assert found.runs == ("cpu",)
    assert {"cpu", "rtx-ampere", "dgx-spark"} <= set(found.builds)
    assert not any(name.startswith("jetson") for name in found.builds)
    assert found.missing == ()
    assert any("rtx-* engine" in row.what for row in found.not_here)


@pytest.mark.parametrize(
    ("model", "sm", "target"),
    [
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0", 87,
         "jetson-orin-nano"),
        ("NVIDIA Jetson AGX Thor Developer Kit\0", 110, "jetson-thor"),
        ("NVIDIA Jetson Xavier NX Developer Kit\0", 72, "jetson-xavier-nx"),
        ("NVIDIA Jetson Nano Developer Kit\0", 53, "jetson-nano"),
    ],
)  # fmt: skip
def test_a_jetson_knows_itself(
    model: str, sm: int, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = machine(
        tmp_path, monkeypatch, "tensorrt", "pycuda", "onnxruntime", model=model, release=RELEASE
    )
    assert found.board == model.strip("\0")
    assert found.l4t == "36.4.3"
    assert found.gpu is not None
    assert found.gpu.sm == sm
    assert {target, "cpu"} <= set(found.builds)
    assert "t4" not in found.builds
    assert target in found.runs
    assert found.missing == ()


def test_a_jetson_without_tensorrt_is_sent_to_jetpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = machine(tmp_path, monkeypatch, model="NVIDIA Jetson AGX Orin\0")
    assert any("nvidia-jetpack" in row.remedy for row in found.missing)
    assert any("--system-site-packages" in row.remedy for row in found.missing)


def test_a_driver_without_nvidia_smi_is_a_gpu_of_unknown_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    found = machine(tmp_path, monkeypatch, "tensorrt", "pycuda", driver=MODULE)
    assert found.gpu == Gpu("NVIDIA GPU", None, "550.54.14")
    assert found.builds == ()


def test_a_raspberry_pi_is_no_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(tmp_path, monkeypatch, model="Raspberry Pi 4 Model B Rev 1.4\0")
    assert found.board is None


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


def test_it_is_plain_json_and_imports_nothing_heavy() -> None:
    code = (
        "import json, sys; from edgedense.doctor import examine;"
        "json.dumps(examine().to_dict());"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'tensorrt_rtx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
