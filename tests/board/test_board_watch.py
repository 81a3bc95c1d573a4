"""Watching: summaries by hand, a real run here, and the child process of a watch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from board_trees import RECORDED, orin_nano, thor, write

from edgedense.board import Snapshot, Watch, smi
from edgedense.board.rails import GPU_BOARD, RAPL
from edgedense.board.sample import Sample
from edgedense.board.summary import Summary, drift, spread, summarize
from edgedense.errors import InputError

STATE = Snapshot(temperatures_c={"gpu": 40.0, "PMIC": 100.0})


def summed(*samples: Sample, before: Snapshot = STATE, after: Snapshot = STATE) -> Summary:
    return summarize(before, after, samples, seconds=2.0, interval_s=0.5)


def test_power_and_energy() -> None:
    found = summed(*(Sample({"VDD_IN": mw, "VDD_SOC": 1}) for mw in (5000.0, 7000.0, 9000.0)))
    assert found.power_rail == "VDD_IN"
    assert found.power_mw == spread([5000, 7000, 9000])
    # 7 W for 2 s among 100 inferences: 0.14 J each
    assert found.energy_mj(2.0, 100) == pytest.approx(140)
    assert found.energy_mj(2.0, 0) is None
    assert found.energy_mj(0.0, 5) is None
    assert summed(Sample()).energy_mj(2.0, 5) is None


def test_power_is_of_one_rail_only() -> None:
    package, gpu = Sample({RAPL: 20_000.0}), Sample({GPU_BOARD: 250_000.0})
    found = summed(package, gpu, package, package)
    assert found.power_rail == GPU_BOARD
    assert found.power_mw is not None
    assert found.power_mw.count == 1


def test_drift_is_between_the_ends() -> None:
    assert drift([1000, 1000, 1000, 950, 900, 900]) == pytest.approx(100 / 975)
    assert drift([1000, 2000, 1000, 2000, 1000, 2000]) == pytest.approx(0)
    assert drift([1000] * 5) is None
    assert drift([]) is None


def test_clock_drift_is_the_gpus_where_there_is_one() -> None:
    rates = (1000, 1000, 1000, 900, 900, 900)
    with_gpu = summed(*(Sample(gpu_mhz=mhz, cpu_mhz=2000) for mhz in rates))
    assert with_gpu.clock_drift == pytest.approx(100 / 950)
    assert with_gpu.cpu_drift == 0
    assert summed(*(Sample(cpu_mhz=2000) for _ in rates)).clock_drift == 0
    assert summed().clock_drift is None


def test_the_zone_that_got_warmer_counts() -> None:
    after = replace(STATE, temperatures_c={"gpu": 52.5, "PMIC": 100.0, "new": 90.0})
    assert summed(after=after).temperature_rise_c == pytest.approx(12.5)
    assert summed(after=Snapshot()).temperature_rise_c is None


def test_throttling_by_a_counter_that_rose() -> None:
    before = Snapshot(throttle_events={"oc1": 0, "oc3": 5})
    quiet = summed(before=before, after=before)
    assert (quiet.throttled, quiet.throttled_by) == (False, ())
    after = Snapshot(throttle_events={"oc1": 0, "oc3": 6})
    assert summed(before=before, after=after).throttled_by == ("oc3",)


def test_throttling_by_an_alarm_in_between() -> None:
    alarm, none = Sample(throttled_by=("power cap",)), Sample(throttled_by=())
    assert summed(none, alarm, none).throttled is True
    assert summed(none, none).throttled is False


def test_nobody_told_of_throttling() -> None:
    assert summed(Sample()).throttled is None


def test_watching_a_board(tmp_path: Path) -> None:
    with Watch(0.25, root=orin_nano(tmp_path)) as watch:
        wait_for(lambda: len(watch._samples) >= 2)
        hotter = {"sys/class/thermal/thermal_zone1/temp": "60468"}
        write(tmp_path, hotter | {"sys/class/hwmon/hwmon3/oc3_event_cnt": "2"})
    found = watch.summary()
    assert found.power_mw is not None
    assert found.power_mw.median == pytest.approx(7551.36)
    assert found.temperature_rise_c == pytest.approx(10)
    assert found.throttled_by == ("oc3",)
    assert found.gpu_mhz is not None
    assert found.gpu_mhz.high == 1020
    assert json.loads(json.dumps(found.to_dict()))["power_rail"] == "VDD_IN"


def test_watching_this_machine() -> None:
    before = threading.active_count()
    with Watch(0.25) as watch:
        wait_for(lambda: len(watch._samples) >= 2)
        during = watch.summary()
    found = watch.summary()
    assert threading.active_count() == before
    assert 0 < during.seconds < found.seconds
    json.dumps(found.to_dict(), allow_nan=False)
    if found.before.cpu_mhz:
        assert found.cpu_mhz is not None
        assert found.cpu_mhz.count >= 2


def test_a_thousand_samples_cost_little(tmp_path: Path) -> None:
    """A sample is file reads alone: no process, no thread, no file left open."""
    watch = Watch(3600, root=thor(tmp_path))
    with watch:
        opened = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(200):
            watch._sensors.sample()
        assert len(list(Path("/proc/self/fd").iterdir())) == opened
        assert threading.active_count() >= 2


def test_too_short_an_interval() -> None:
    for interval in (0.0, 0.1, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="disturb"):
            Watch(interval)


FAKE = """#!/bin/sh
case "$*" in
  *clocks_event_reasons*) echo 'Field "clocks_event_reasons.active" is not valid'; exit 2;;
  *loop-ms*) echo $$ >> {pids}; while :; do echo "{row}"; sleep 0.05; done;;
  *) echo "{row}";;
esac
"""


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU whose tool is a script; the file that its loops write their ids to."""
    tool, pids = tmp_path / "nvidia-smi", tmp_path / "pids"
    tool.write_text(FAKE.format(pids=pids, row="70.5, 41, 1590, 5000, 1590, 0x0000000000000000"))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return pids


def wait_for(ready: object, seconds: float = 20.0) -> None:
    assert callable(ready)
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def ended(pids: Path) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split())


def test_one_child_tells_of_a_gpu(pids: Path) -> None:
    with Watch(0.25) as watch:
        wait_for(lambda: len(watch._samples) >= 4)
    found = watch.summary()
    assert len(pids.read_text().split()) == 1
    assert ended(pids)
    assert found.power_rail == GPU_BOARD
    assert found.power_mw is not None
    assert found.power_mw.median == 70_500
    assert (found.throttled, found.after.gpu_max_mhz) == (False, 1590)
    assert "clocks_throttle_reasons" in " ".join(smi.query() or ())


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_the_child_ends_with_the_block(error: type[BaseException], pids: Path) -> None:
    with pytest.raises(error), Watch(0.25):
        wait_for(pids.exists)
        raise error
    assert ended(pids)


def test_the_child_ends_with_an_interrupt_from_outside(pids: Path) -> None:
    code = "import time; from edgedense.board import Watch\nwith Watch(0.25): time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_for(lambda: pids.exists() and pids.read_text())
    process.send_signal(signal.SIGINT)
    process.wait(20)
    # at once, or, interrupted at an unlucky moment, at its next line into a pipe without an end
    wait_for(lambda: ended(pids))


def test_an_interrupt_while_starting_leaves_no_child(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "board":
            wait_for(pids.exists)
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), Watch(0.25):
        pass
    assert ended(pids)


def test_tegrastats_where_a_jetsons_monitors_are_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = RECORDED / "tegrastats/orin-nx-r36.4.7.txt"
    tool = tmp_path / "tegrastats"
    tool.write_text(f'#!/bin/sh\ntest "$1" = --interval || exit 1\ncat {recorded}\nsleep 600\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    model = {"proc/device-tree/model": "NVIDIA Jetson Orin NX\0"}
    with Watch(3600, root=write(tmp_path / "root", model)) as watch:
        wait_for(lambda: len(watch._samples) == 4)
    found = watch.summary()
    assert found.power_rail == "VDD_IN"
    assert found.power_mw is not None
    assert found.power_mw.mean == (13195 + 12233 + 11852 + 11082) / 4


def test_a_tool_that_cannot_be_started_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedense.board.watch.shutil.which", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    model = {"proc/device-tree/model": "NVIDIA Jetson Orin NX\0"}
    with Watch(3600, root=write(tmp_path / "root", model)) as watch:
        pass
    assert watch.summary().power_mw is None


def test_the_visible_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f6c, 1")
    assert smi.device() == "GPU-8f6c"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert smi.device() == "0"
