"""Several calls at once, and the table of batches and streams."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from fakes import INTERFACE, PhasedRunner

from edgedense.benchmark import BenchmarkOptions, sweep
from edgedense.benchmark.streams import lanes, together
from edgedense.benchmark.sweep import Cell, SweepReport
from edgedense.errors import InputError, MachineError

QUICK = BenchmarkOptions(iterations=60, min_seconds=0, max_seconds=5, warmup=2, warmup_seconds=0)
IMAGES = np.zeros((1, 3, 4, 4), np.float32)


class SleepingRunner:
    """An engine whose calls sleep, so that as many as like may run at once."""

    name, interface = "sleeper", INTERFACE

    def __init__(self, seconds=0.002):
        self.seconds, self.closed, self.threads = seconds, False, set()

    def __call__(self, images):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        return np.zeros((len(images), 10), np.float32)

    def close(self):
        self.closed = True


def test_streams_run_at_the_same_time_each_in_its_own_thread():
    runners = [SleepingRunner() for _ in range(3)]
    samples, seconds = together(runners, [IMAGES] * 3, QUICK)
    assert len({thread for runner in runners for thread in runner.threads}) == 3
    assert all(len(runner.threads) == 1 for runner in runners)
    assert samples.min() >= 2_000_000
    # more call time than wall time: they did not wait for each other
    assert samples.sum() / 1e9 > 1.5 * seconds
    assert 20 <= len(samples) <= 3 * 20 + 3


def test_calls_after_the_first_stream_has_ended_are_not_counted():
    fast, slow = SleepingRunner(0.001), SleepingRunner(0.2)
    samples, seconds = together([fast, slow], [IMAGES] * 2, replace(QUICK, iterations=40))
    assert len(samples) >= 20
    assert (samples >= 200_000_000).sum() < 10
    assert seconds < 20 * 0.2  # what the slow one would have needed


def test_an_error_of_one_stream_ends_all_and_is_the_one_that_is_told():
    class Broken(SleepingRunner):
        def __call__(self, images):
            raise MachineError("out of memory", "use fewer streams")

    with pytest.raises(MachineError, match="out of memory"):
        together([SleepingRunner(), Broken(), SleepingRunner()], [IMAGES] * 3, QUICK)
    with pytest.raises(MachineError, match="out of memory"):
        together([SleepingRunner(), Failing(30)], [IMAGES] * 2, replace(QUICK, iterations=10**6))


class Failing(SleepingRunner):
    """Fails in the midst of it."""

    def __init__(self, after):
        super().__init__(0.0005)
        self.after = after

    def __call__(self, images):
        self.after -= 1
        if self.after < 0:
            raise MachineError("out of memory", "use fewer streams")
        return super().__call__(images)


def test_many_short_races_lose_nobody():
    # a runner that is done while others still leave the barrier must not break it
    for _ in range(30):
        runners = [SleepingRunner(0) for _ in range(4)]
        samples, _ = together(runners, [IMAGES] * 4, replace(QUICK, iterations=1))
        assert len(samples) >= 11


def test_lanes_are_forks_where_there_are_and_closed_before_the_engine():
    first = PhasedRunner()
    with lanes(lambda: first, 3) as runners:
        assert runners == [first, *first.forks]
        assert len(runners) == 3
    assert all(runner.closed for runner in runners)
    opened = []

    def open_runner():
        opened.append(SleepingRunner())
        return opened[-1]

    with pytest.raises(KeyboardInterrupt), lanes(open_runner, 2) as runners:
        assert runners == opened
        raise KeyboardInterrupt
    assert [runner.closed for runner in opened] == [True, True]


def test_lanes_that_do_not_open_leave_none_open():
    opened = []

    def open_runner():
        if len(opened) == 2:
            raise MachineError("no memory for a third", "")
        opened.append(SleepingRunner())
        return opened[-1]

    with pytest.raises(MachineError, match="third"), lanes(open_runner, 3):
        raise AssertionError("not reached")
    assert [runner.closed for runner in opened] == [True, True]


def test_every_batch_with_every_number_of_streams():
    found = sweep(PhasedRunner, "net", (1, 4), (1, 2), QUICK)
    assert [(c.batch, c.streams) for c in found.cells] == [(1, 1), (1, 2), (4, 1), (4, 2)]
    told = found.to_dict()
    promised = "batch iterations p50_ms p90_ms p99_ms throughput_ips cov stable device"
    assert set(promised.split()) <= set(told)
    assert [cell["best"] for cell in told["cells"]].count(True) == 1


def test_a_batch_that_the_engine_does_not_take_is_refused_before_the_work():
    runner = PhasedRunner()
    with pytest.raises(InputError, match="batch 9 is outside"):
        sweep(lambda: runner, "net", (1, 9), (1,), QUICK)
    assert runner.calls == 0
    assert runner.closed
    for bad in ({"batches": (0,)}, {"streams": (0,)}, {"max_latency_ms": 0.0}):
        words = {"batches": (1,), "streams": (1,), **bad}
        with pytest.raises(InputError, match="positive"):
            sweep(PhasedRunner, "net", options=QUICK, **words)


def cell(batch, latency_ms, throughput, calls=700):
    samples = np.full(calls, int(latency_ms * 1e6))
    return Cell(batch, 1, samples, batch * calls / throughput)


def report_of(*cells, limit=None):
    return SweepReport("net", cells, limit, {}, {})


CELLS = (
    cell(1, 2.0, 500),
    cell(2, 2.5, 800),
    cell(4, 6.0, 700),  # slower than batch 2, and less of it
    cell(8, 8.0, 1000),
)


def test_the_front_leaves_out_what_is_beaten():
    assert [c.batch for c in report_of(*CELLS).front] == [1, 2, 8]
    alike = report_of(cell(1, 2.0, 500), cell(2, 2.0, 500))
    assert [c.batch for c in alike.front] == [1, 2]


@pytest.mark.parametrize(("limit", "batch"), [(None, 2), (2.0, 1), (7.0, 2), (8.0, 8), (99.0, 8)])
def test_the_most_throughput_within_a_latency(limit, batch):
    found = report_of(*CELLS, limit=limit)
    assert found.best.batch == batch
    assert f"batch {batch}, 1 stream" in found.remark
    assert found.to_dict()["within_limit"]


def test_no_cell_within_the_limit():
    found = report_of(*CELLS, limit=1.0)
    assert found.best is None
    assert "No cell keeps p99 within 1 ms: the fastest is batch 1" in found.remark
    told = found.to_dict()
    assert not told["within_limit"]
    assert told["batch"] == 1


def test_the_percentile_is_one_that_all_cells_have():
    few = cell(1, 2.0, 500, calls=70)
    assert report_of(*CELLS, few).percentile == "p90"
    assert report_of(cell(1, 2.0, 500, calls=11)).percentile == "p50"
    assert "within 3 ms" in report_of(few, limit=3.0).remark
