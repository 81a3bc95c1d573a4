"""What files of boards, of servers and of this machine tell."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from board_trees import RECORDED, nano, orin_nano, thor, write
from hypothesis import given
from hypothesis import strategies as st

from edgedense import board
from edgedense.board.power_mode import PowerMode, parse_query, power_mode, power_modes
from edgedense.board.rails import RAPL, Rails, total_mw
from edgedense.board.smi import parse_row, query
from edgedense.board.snapshot import snapshot


def test_orin_nano(tmp_path: Path) -> None:
    found = snapshot(orin_nano(tmp_path))
    # mV x mA, as the INA3221 shows them
    assert found.rails_mw == pytest.approx(
        {"VDD_IN": 4968 * 1.520, "VDD_CPU_GPU_CV": 4960 * 1.784, "VDD_SOC": 4960 * 0.496}
    )
    assert (found.power_mw, found.power_rail) == (pytest.approx(7551.36), "VDD_IN")
    assert (found.gpu_mhz, found.gpu_max_mhz) == (1020, 1020)
    assert found.clocks_pinned is False
    assert found.temperatures_c == {"gpu": 50.468}
    assert found.throttle_events == {"oc1": 0, "oc2": 0, "oc3": 0}
    assert found.power_mode_number == 2
    assert found.power_mode is None  # this root has no nvpmodel.conf to name it


def test_thor(tmp_path: Path) -> None:
    found = snapshot(thor(tmp_path))
    assert (found.power_mw, found.power_rail) == (20604, "VIN")
    assert found.rails_mw["VDD_GPU"] == 1965
    assert (found.gpu_mhz, found.emc_mhz) == (1575, 4266)
    assert found.clocks_pinned is True
    assert found.throttled_by == ()


def test_nano(tmp_path: Path) -> None:
    found = snapshot(nano(tmp_path))
    assert (found.power_mw, found.power_rail) == (4122, "POM_5V_IN")
    assert found.gpu_mhz == pytest.approx(921.6)
    assert found.clocks_pinned is False
    assert found.temperatures_c["CPU"] == 44
    assert found.throttled_by is None


def test_an_alarm_that_is_on_is_named(tmp_path: Path) -> None:
    write(thor(tmp_path), {"sys/class/thermal/cooling_device10/cur_state": "1"})
    assert snapshot(tmp_path).throttled_by == ("gpu-throttle-alert",)


def test_a_machine_that_tells_nothing_is_all_none(tmp_path: Path) -> None:
    found = snapshot(tmp_path).to_dict()
    found.pop("load_1min")
    assert not any(found.values())


@pytest.mark.parametrize("junk", ["", "garbage", "nan", "inf", "1e400", "\x00\xff", "0x10"])
def test_garbage_in_every_file_is_no_error(junk: str, tmp_path: Path) -> None:
    for path in [p for p in thor(tmp_path).rglob("*") if p.is_file()]:
        path.write_bytes(junk.encode("latin1"))
    found = snapshot(tmp_path)
    assert found.power_mw is None
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files_are_no_error(tmp_path: Path) -> None:
    for path in [p for p in thor(tmp_path).rglob("*") if p.is_file()]:
        path.chmod(0)
    assert snapshot(tmp_path).power_mw is None


def test_folders_in_place_of_files_are_no_error(tmp_path: Path) -> None:
    for path in [p for p in thor(tmp_path).rglob("*") if p.is_file()]:
        path.unlink()
        path.mkdir()
    assert snapshot(tmp_path).rails_mw == {}


def test_rails_of_an_unknown_board_have_no_total() -> None:
    assert total_mw({"VDD_A": 100, "VDD_B": 200}) is None
    assert total_mw({}) is None


def test_package_energy_becomes_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((10.0, 12.0, 13.0, 14.0))
    monkeypatch.setattr("edgedense.board.rails.time.monotonic", lambda: next(clock))
    counter = "sys/class/powercap/intel-rapl:{}/energy_uj"
    part = {"sys/class/powercap/intel-rapl:0:0/energy_uj": "7"}
    write(tmp_path, {counter.format(0): "1000000", counter.format(1): "0"} | part)
    rails = Rails(tmp_path)
    assert rails
    write(tmp_path, {counter.format(0): "21000000", counter.format(1): "10000000"})
    assert rails.read() == {RAPL: 15_000}  # 30 J in 2 s
    write(tmp_path, {counter.format(0): "5", counter.format(1): "5"})
    assert rails.read() == {}  # the counter has gone round


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("thor", PowerMode(0, "MAXN")),
        ("orin-nx", PowerMode(0, "MAXN_SUPER")),
        ("agx-xavier", PowerMode(None, "MAXN")),
    ],
)
def test_nvpmodel_query(name: str, mode: PowerMode) -> None:
    assert parse_query((RECORDED / f"nvpmodel/{name}.txt").read_text()) == mode


@given(st.text(max_size=200))
def test_nvpmodel_says_anything(text: str) -> None:
    parse_query(text)
    parse_query("NV Power Mode: " + text)


def test_power_mode_by_files(tmp_path: Path) -> None:
    conf = (RECORDED / "nvpmodel/orin-nx-extract.conf").read_text()
    write(tmp_path, {"etc/nvpmodel.conf": conf, "var/lib/nvpmodel/status": "pmode:0000 fmode:cool"})
    assert power_modes(tmp_path) == {0: "MODE_28_1_W"}
    assert power_mode(tmp_path) == PowerMode(0, "MODE_28_1_W")


def test_no_power_mode(tmp_path: Path) -> None:
    assert power_mode(tmp_path) is None
    assert power_mode(write(tmp_path, {"var/lib/nvpmodel/status": "odd"})) is None


@pytest.mark.parametrize("line", (RECORDED / "release/models.txt").read_text().splitlines())
def test_a_jetson_is_told_by_its_model(line: str, tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/device-tree/model": line + "\0"})
    words = {"Thor": 110, "Orin": 87, "Xavier": 72, "quill": 62, "lanai": 62, "Nano": 53}
    assert board.jetson_sm(root) == next(sm for word, sm in words.items() if word in line)
    assert board.jetson_model(root) == line


def test_the_chip_counts_more_than_the_name(tmp_path: Path) -> None:
    files = {"model": "A carrier of somebody\0", "compatible": "some,board\0nvidia,tegra234\0"}
    root = write(tmp_path, {f"proc/device-tree/{name}": text for name, text in files.items()})
    assert board.jetson_sm(root) == 87


def test_other_boards_are_no_jetson(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"})
    assert (board.jetson_model(root), board.jetson_sm(root)) == (None, None)
    assert board.board_model(root) == "Raspberry Pi 4 Model B Rev 1.4"


def test_nvidia_smi_row() -> None:
    sample = parse_row("250.31, 64, 1980, 2619, 1980, 0x0000000000000004")
    assert sample is not None
    assert sample.power_mw == 250_310
    assert (sample.gpu_mhz, sample.emc_mhz) == (1980, 2619)
    assert sample.temperatures_c == {"gpu": 64}
    assert sample.throttled_by == ("power cap",)


@pytest.mark.parametrize(
    ("reasons", "names"),
    [
        ("0x0000000000000001", ()),  # idle
        ("0x0000000000000000", ()),
        ("0x0000000000000060", ("software thermal slowdown", "hardware thermal slowdown")),
        ("[N/A]", None),
        ("Not Active", None),
    ],
)
def test_throttle_reasons(reasons: str, names: tuple[str, ...] | None) -> None:
    sample = parse_row(f"70.1, 40, 1500, 5000, 1600, {reasons}")
    assert sample is not None
    assert sample.throttled_by == names


@pytest.mark.parametrize(
    "row",
    [
        "",
        "[N/A], [N/A], [N/A], [N/A], [N/A], [N/A]",  # a Jetson Orin's nvidia-smi
        'Field "clocks_event_reasons.active" is not a valid field to query.',
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "1, 2, 3",
    ],
)
def test_no_nvidia_smi_row(row: str) -> None:
    assert parse_row(row) is None


@given(st.text(max_size=100))
def test_nvidia_smi_says_anything(text: str) -> None:
    parse_row(text)
    parse_row(",".join([text] * 6))


def test_this_machine() -> None:
    found = snapshot()
    json.dumps(found.to_dict(), allow_nan=False)
    if any(line.startswith("cpu MHz") for line in Path("/proc/cpuinfo").read_text().splitlines()):
        assert found.cpu_mhz
        assert 100 < found.cpu_mhz < 10_000
    assert found.load_1min is not None
    assert (query() is None) or found.gpu_mhz


def test_memory() -> None:
    found = board.memory()
    assert found.total_bytes == pytest.approx(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=1e-3
    )
    assert found.available_bytes
    assert 0 < found.available_bytes <= found.total_bytes


def test_memory_that_is_not_told(tmp_path: Path) -> None:
    assert board.memory(tmp_path) == board.Memory(None, None, None, None)


def test_a_device_describes_itself(tmp_path: Path) -> None:
    found = board.describe_device(orin_nano(tmp_path))
    assert found["name"] == found["board"]
    assert found["name"].startswith("NVIDIA Jetson Orin Nano")
    assert found["power_mode"] == "mode 2"
    assert board.describe_device(tmp_path / "none")["name"] == found["cpu"]


@pytest.mark.parametrize(
    ("text", "release"),
    [("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
     ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic", "38.2.0"),
     ("something else", None), (None, None)],
)  # fmt: skip
def test_release_of_linux_for_tegra(text: str | None, release: str | None, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    if text is not None:
        (tmp_path / "etc" / "nv_tegra_release").write_text(text)
    assert board.l4t_release(tmp_path) == release
