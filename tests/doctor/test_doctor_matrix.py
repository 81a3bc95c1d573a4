"""Boards and JetPacks rehearsed on roots of files: a test for each row that matters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doctor_roots import (
    AGX_ORIN_6,
    AGX_ORIN_7,
    NANO,
    ORIN_NANO_6,
    ORIN_NANO_7,
    THOR_7,
    TX2_NX,
    XAVIER_NX,
    Jetson,
)
from packaging.specifiers import SpecifierSet

from edgedense.doctor import Diagnosis, Interpreter, diagnosis, examine
from edgedense.doctor.matrix import JETPACKS, LIMITS, WEAK, dla_of, jetpack_of, limits_of, within
from edgedense.targets import TARGETS

HOST = Interpreter("3.10.12", virtual=False, sees_system=True)
NOBLE = Interpreter("3.12.3", virtual=True, sees_system=True)


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Diagnosis]:
    """Examine a Jetson; ``tensorrt`` is the version that this Python has, if any."""

    def examined(
        jetson: Jetson, tensorrt: str | None = None, python: Interpreter = HOST
    ) -> Diagnosis:
        has = {"onnxruntime", "pycuda", *(["tensorrt"] if tensorrt else [])}
        monkeypatch.setattr(diagnosis, "installed", lambda module: module in has)
        monkeypatch.setattr(
            diagnosis, "version", lambda module: tensorrt if module == "tensorrt" else "1.0"
        )
        return examine(jetson.at(tmp_path), python)

    return examined


def errors(found: Diagnosis) -> list[str]:
    return [problem.what for problem in found.problems if problem.level == "error"]


@pytest.mark.parametrize(
    ("jetson", "jetpack", "l4t", "expected"),
    [
        (NANO, "4.6.1", "32.7.1", "8.2.1"),
        (TX2_NX, None, "32.7.1", "8.2.1"),
        (XAVIER_NX, "5.1.1", "35.3.1", "8.5.2"),
        (AGX_ORIN_6, "6.2.1", "36.4.4", "10.3.0"),
        (ORIN_NANO_6, "6.2.1", "36.4.7", "10.3.0"),
        (THOR_7, None, "38.4.0", "10.13.3"),
        (ORIN_NANO_7, "7.2.1", "39.2.0", "10.16.2"),
    ],
)
def test_each_board_knows_its_system(
    jetson: Jetson, jetpack: str | None, l4t: str, expected: str, look: Any
) -> None:
    found = look(jetson)
    assert (found.board, found.gpu.sm) == (jetson.model, jetson.sm)
    assert (found.jetpack, found.l4t) == (jetpack, l4t)
    assert found.expected.tensorrt == expected
    # the version is the system's, since this Python has none
    assert found.tensorrt.startswith(expected)


@pytest.mark.parametrize(
    ("jetson", "tensorrt", "python", "target"),
    [
        (AGX_ORIN_6, "10.3.0", HOST, "jetson-agx-orin"),
        (ORIN_NANO_6, "10.3.0", HOST, "jetson-orin-nano"),
        (ORIN_NANO_6, "10.7.0", HOST, "jetson-orin-nano"),
        (ORIN_NANO_7, "10.16.2.10", NOBLE, "jetson-orin-nano"),
        (THOR_7, "10.13.3.9", NOBLE, "jetson-thor"),
    ],
)
def test_what_belongs_together_builds_and_runs(
    jetson: Jetson, tensorrt: str, python: Interpreter, target: str, look: Any
) -> None:
    found = look(jetson, tensorrt, python)
    assert errors(found) == []
    assert {target, "cpu"} <= set(found.builds)
    assert target in found.runs
    assert "t4" not in found.builds
    assert found.missing == ()


def test_no_int8_on_the_nano_and_the_tx2(look: Any) -> None:
    for jetson in (NANO, TX2_NX):
        found = look(jetson)
        assert found.int8.has is False
        assert any("INT8" in problem.what for problem in found.problems)
    assert look(AGX_ORIN_6).int8.has is True


@pytest.mark.parametrize("jetson", [NANO, TX2_NX, XAVIER_NX])
def test_old_jetpacks_are_sent_to_trtexec(jetson: Jetson, look: Any) -> None:
    found = look(jetson)
    told = [p for p in found.problems if p.level == "error"]
    assert any("edgedense needs 3.10" in problem.what for problem in told)
    assert any("trtexec" in problem.remedy for problem in told)
    assert not any(name.startswith("jetson") for name in found.builds)


@pytest.mark.parametrize("version", ["11.0.0", "11.2.1", "11.3.0", "11.4.0.106"])
@pytest.mark.parametrize("jetson", [AGX_ORIN_6, AGX_ORIN_7, THOR_7])
def test_tensorrt_11_before_11_4_1_is_not_for_jetpack(
    version: str, jetson: Jetson, look: Any
) -> None:
    found = look(jetson, version, NOBLE)
    assert f"TensorRT {version} does not support JetPack" in " ".join(errors(found))
    assert found.builds == found.runs == ("cpu",)
    assert "nvidia-jetpack" in found.problems[0].remedy


def test_tensorrt_11_4_1_needs_jetpack_7_2_2(look: Any) -> None:
    assert "needs JetPack 7.2.2" in " ".join(errors(look(AGX_ORIN_6, "11.4.1.5")))
    assert "needs JetPack 7.2.2" in " ".join(errors(look(AGX_ORIN_7, "11.4.1.5", NOBLE)))


def test_tensorrt_11_4_1_is_for_agx_orin_and_thor() -> None:
    told = {
        model: [row.what for row in limits_of("11.4.1.5", sm, "39.2.2", model)]
        for model, sm in ((AGX_ORIN_7.model, 87), (THOR_7.model, 110), (ORIN_NANO_7.model, 87))
    }
    assert told[AGX_ORIN_7.model] == told[THOR_7.model] == []
    assert len(told[ORIN_NANO_7.model]) == 1


def test_tensorrt_10_13_has_no_kernels_for_orin(look: Any) -> None:
    found = look(ORIN_NANO_7, "10.13.3.9", NOBLE)
    (problem,) = [p for p in found.problems if p.level == "error"]
    assert '"Target GPU SM 87 is not supported by this TensorRT release"' in problem.what
    assert "(by one user's report)" in problem.said
    assert "jetson-orin-nano" not in found.builds
    assert errors(look(THOR_7, "10.13.3.9", NOBLE)) == []


@pytest.mark.parametrize(
    ("tensorrt", "jetson", "l4t", "has"),
    [
        ("8.5.2", XAVIER_NX, "35.3.1", True),
        ("10.3.0", AGX_ORIN_6, "36.4.4", True),
        ("10.7.0", AGX_ORIN_6, "36.4.4", True),
        ("10.8.0", AGX_ORIN_6, "36.4.4", False),
        ("10.16.2.10", AGX_ORIN_7, "39.2.0", False),
        ("11.3.0", AGX_ORIN_7, "39.2.2", False),
        ("11.4.0.106", AGX_ORIN_7, "39.2.2", False),
        ("11.4.1.5", AGX_ORIN_7, "39.2.2", True),
        ("11.4.1.5", AGX_ORIN_7, "39.2.0", False),
        ("10.3.0", ORIN_NANO_6, "36.4.7", False),
        ("11.4.1.5", ORIN_NANO_7, "39.2.2", False),
        ("10.13.3", THOR_7, "38.4.0", False),
        ("11.4.1.5", THOR_7, "39.2.2", False),
        ("8.2.1", NANO, "32.7.1", False),
        (None, THOR_7, None, False),
        (None, AGX_ORIN_6, "36.4.4", None),
    ],
)
def test_dla(tensorrt: str | None, jetson: Jetson, l4t: str | None, has: bool | None) -> None:
    found = dla_of(tensorrt, jetson.sm, l4t, jetson.model)
    assert (found.has if found else None) is has


def test_a_virtual_environment_that_sees_no_system(look: Any) -> None:
    shut = Interpreter("3.10.12", virtual=True, sees_system=False)
    found = look(AGX_ORIN_6, None, shut)
    (problem,) = [p for p in found.problems if p.level == "error"]
    assert "TensorRT 10.3.0.30 is installed" in problem.what
    assert problem.remedy == "python3.10 -m venv --system-site-packages ENV"
    assert found.missing == ()  # the problem says it


def test_jetpack_6_bindings_are_for_python_3_10_alone(look: Any) -> None:
    found = look(AGX_ORIN_6, None, Interpreter("3.11.9", virtual=True, sees_system=True))
    (problem,) = [p for p in found.problems if p.level == "error"]
    assert "is for Python 3.10, this is 3.11.9" in problem.what
    assert problem.remedy.startswith("python3.10 -m venv")


def test_little_memory_and_swap_are_told(look: Any) -> None:
    found = look(replace(ORIN_NANO_6, available=1.5, swap=0.0), "10.3.0")
    told = {problem.level: problem for problem in found.problems}
    assert '1.6 GB of memory are free: a build may end as "Killed"' in told["warning"].what
    assert "--workspace 1024" in told["warning"].remedy
    assert "swapon /swapfile" in told["hint"].remedy
    assert "jetson-orin-nano" in found.builds
    assert look(AGX_ORIN_6, "10.3.0").problems == ()


def test_power_mode_and_clocks_are_told(look: Any) -> None:
    conf = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
    gpu = "sys/class/devfreq/17000000.gpu"
    files = {"etc/nvpmodel.conf": conf, "var/lib/nvpmodel/status": "pmode:0000",
             f"{gpu}/min_freq": "306000000", f"{gpu}/max_freq": "1020000000"}  # fmt: skip
    found = look(replace(ORIN_NANO_6, files=files), "10.3.0")
    assert (found.power_mode, found.clocks_pinned) == ("15W", False)
    remedies = [problem.remedy for problem in found.problems]
    assert "sudo nvpmodel -m 2" in remedies
    assert any(remedy.startswith("sudo jetson_clocks") for remedy in remedies)
    best = {"var/lib/nvpmodel/status": "pmode:0002", f"{gpu}/min_freq": "1020000000"}
    assert look(replace(ORIN_NANO_6, files=files | best), "10.3.0").problems == ()


def test_a_system_that_is_not_in_the_table(look: Any) -> None:
    release = {"etc/nv_tegra_release": "# R34 (release), REVISION: 1.1, GCID: 30414990"}
    found = look(replace(AGX_ORIN_6, files=release), "8.6.2")
    assert found.expected is None
    assert any("34.1.1 is not in our table" in problem.what for problem in found.problems)


def test_rows_do_not_overlap_and_name_their_source() -> None:
    releases = [f"{major}.{minor}.{patch}" for major in range(32, 41) for minor in range(10)
                for patch in range(8)]  # fmt: skip
    for release in releases:
        assert sum(within(release, row.l4t) for row in JETPACKS) <= 1, release
    assert all(row.source and SpecifierSet(row.l4t) for row in JETPACKS)
    assert all(row.source for row in LIMITS)
    assert {row.evidence for row in JETPACKS} & set(WEAK)


def test_the_matrix_and_the_targets_agree() -> None:
    """Every JetPack's own TensorRT is in the range of the targets of its GPUs."""
    for target in TARGETS:
        if not target.name.startswith("jetson"):
            continue
        rows = [row for row in JETPACKS if set(target.sms) & set(row.sms)]
        assert any(row.tensorrt in target.versions for row in rows if " " not in row.tensorrt)
        assert (target.sm in (53, 62)) == (not target.int8)


@pytest.mark.parametrize("version", ["", "x", "R36", None])
def test_what_is_no_version_is_in_no_range(version: str | None) -> None:
    assert jetpack_of(version) is None
    assert not within(version or "?", ">=0")


def test_text_at_80_columns(
    look: Any, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense import doctor

    found = look(replace(ORIN_NANO_7, available=1.0, swap=0.0), "10.13.3.9", NOBLE)
    monkeypatch.setattr(doctor, "examine", lambda: found)
    monkeypatch.setenv("COLUMNS", "80")
    ended = edgedense("doctor")
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert max(map(len, lines)) <= 80
    told = " ".join(" ".join(lines).split())
    assert "7.2.1 (L4T 39.2.0)" in told
    assert "has TensorRT 10.16.2, Python 3.12, CUDA 13.2" in told
    assert "no DLA in the Orin Nano" in told
    assert json.loads(edgedense("doctor", "--json").out)["problems"][0]["level"] == "error"
