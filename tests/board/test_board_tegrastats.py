"""tegrastats of every generation: recorded lines, see tests/recorded/board/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.board.rails import total_mw
from edgedense.board.tegrastats import command, parse_line

RECORDED = Path(__file__).parent.parent / "recorded/board/tegrastats"
AGX_ORIN = "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
AGX_XAVIER = "GPU + CPU + SOC + CV + VDDRQ + SYS5V"
THOR = "VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"

# read off the lines by eye: total power and its rail, GPU, EMC and fastest CPU clock, two zones
EXPECTED = {
    "nano-datadog": (943, "POM_5V_IN", None, None, 102, {"CPU": 40.5, "GPU": 41}),
    "nano-jetpack-4.6.1": (1750, "POM_5V_IN", 76, 1600, 1224, {"PLL": 37, "thermal": 40}),
    "nano-inference": (4122, "POM_5V_IN", 76, 1600, 1479, {"GPU": 41.5, "AO": 47.5}),
    "tx1": (2532, "VDD_IN", 76, 408, 102, {"Tdiode": 42.75, "GPU": 39}),
    "tx2": (2003, "VDD_IN", 114, 40, 345, {"BCPU": 35, "GPU": 41}),
    "agx-xavier": (2 * 0 + 216 + 864 + 144 + 1889, AGX_XAVIER, None, None, 1190, {"GPU": 32}),
    "agx-xavier-jetpack-4.2": (463 + 618 + 2936 + 309 + 3306, AGX_XAVIER, None, None, 1190, {}),
    "xavier-nx-jetpack-4": (6140, "VDD_IN", 1109, 1600, 1420, {"AUX": 30, "CPU": 33.5}),
    "xavier-nx-jetpack-5.1.2": (2763, "VDD_IN", 114, 204, 1397, {"thermal": 45.6, "GPU": 45.5}),
    "agx-orin-jetpack-5": (2340 + 390 + 4025, AGX_ORIN, None, 2133, 729, {"tj": 44.343}),
    "agx-orin-r36.4.4": (2412 + 1607 + 4707, AGX_ORIN, None, 2133, 2201, {"soc2": 48.437}),
    "orin-nano": (12479, "VDD_IN", 621, 2133, 729, {"gpu": 53.343, "tj": 53.968}),
    "orin-nx-r36.4.7": (13195, "VDD_IN", None, None, 1984, {"gpu": 54.875, "cv2": 48.75}),
    "thor-r38.4": (20604, "VIN", None, None, 1566, {"gpu": 36.187, "soc345": 36.843}),
    "thor-r38.4-gpu-off": (0 + 4165 + 4126, THOR, None, 665, 972, {"tj": 34.5}),
    "thor-r39.2": (4925 + 8710 + 6767, THOR, 314, 3200, 2430, {"gpu": 35.906}),
}


def recorded(name: str) -> list[str]:
    return (RECORDED / f"{name}.txt").read_text().splitlines()


def test_every_recorded_file_is_expected() -> None:
    assert sorted(path.stem for path in RECORDED.iterdir()) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_first_line(name: str) -> None:
    power, rail, gpu, emc, cpu, zones = EXPECTED[name]
    sample = parse_line(recorded(name)[0])
    assert sample is not None
    assert total_mw(sample.rails_mw) == (power, rail)
    assert (sample.gpu_mhz, sample.emc_mhz, sample.cpu_mhz) == (gpu, emc, cpu)
    assert zones.items() <= sample.temperatures_c.items()
    assert "NC" not in sample.rails_mw


@pytest.mark.parametrize("name", EXPECTED)
def test_every_line_tells_power_heat_and_clock(name: str) -> None:
    for line in recorded(name):
        sample = parse_line(line)
        assert sample is not None
        assert sample.power_mw
        assert sample.power_mw > 0
        assert sample.cpu_mhz
        assert all(15 < heat <= 100 for heat in sample.temperatures_c.values())


def test_power_is_of_the_moment_and_not_the_tools_average() -> None:
    powers = [parse_line(line) for line in recorded("nano-inference")]
    assert [sample.power_mw for sample in powers if sample] == [4122, 4531, 4523, 4531]


def test_parts_that_are_switched_off_have_no_temperature() -> None:
    sample = parse_line(recorded("agx-orin-jetpack-5")[0])
    assert sample is not None
    assert "GPU@-256C" in recorded("agx-orin-jetpack-5")[0]
    assert not {"GPU", "CV0", "CV1", "CV2"} & set(sample.temperatures_c)


def test_rails_that_are_parts_of_others_are_not_added() -> None:
    sample = parse_line(recorded("orin-nano")[0])
    assert sample is not None
    assert sample.rails_mw == {"VDD_IN": 12479, "VDD_CPU_GPU_CV": 4667, "VDD_SOC": 2817}
    assert sample.power_mw == 12479


def test_a_negative_rail_is_a_calibration_offset_and_stays() -> None:
    line = recorded("thor-r39.2")[0].replace("VDD_GPU 4925mW/4925mW", "VDD_GPU -392mW/-392mW")
    sample = parse_line(line)
    assert sample is not None
    assert sample.rails_mw["VDD_GPU"] == -392


@pytest.mark.parametrize("line", ["", "\n", "Usage: tegrastats [-option]", "\0\0", "RAM much"])
def test_other_lines_are_none(line: str) -> None:
    assert parse_line(line) is None


@given(st.text(max_size=300))
def test_no_text_is_an_error(text: str) -> None:
    parse_line(text)
    parse_line("RAM 1/2MB " + text)


@given(st.data())
def test_damaged_lines_are_no_error(data: st.DataObject) -> None:
    line = recorded(data.draw(st.sampled_from(sorted(EXPECTED))))[0]
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(line))] * 2)))
    parse_line(line[:start] + data.draw(st.text(max_size=5)) + line[end:])


def test_command() -> None:
    assert command(0.5) == ["tegrastats", "--interval", "500"]
