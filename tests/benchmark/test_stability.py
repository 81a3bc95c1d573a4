"""What makes a measurement UNSTABLE, what the phases tell, and what the board did meanwhile."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fakes import PhasedRunner, summary

from edgedense.benchmark import BenchmarkOptions, BenchmarkReport, benchmark, compare
from edgedense.benchmark.measure import PhaseSamples, input_images, measure_phases
from edgedense.benchmark.run import Run
from edgedense.benchmark.stability import unstable_reasons
from edgedense.benchmark.sweep import Cell
from edgedense.board import Snapshot
from edgedense.board.summary import Spread

QUICK = BenchmarkOptions(iterations=40, min_seconds=0, max_seconds=5, warmup=2, warmup_seconds=0)
STEADY = [np.full(100, 2.0)]


def test_nothing_to_complain_about():
    assert unstable_reasons(STEADY) == ()
    calm = summary(throttled=False, gpu_drift=0.02, cpu_drift=0.9)
    assert unstable_reasons(STEADY, None, [calm, summary()]) == ()


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"throttled": True, "throttled_by": ("oc3",)}, r"slowed itself down \(oc3\)"),
        ({"gpu_drift": 0.03}, r"clocks changed by 3\.0 %"),
        ({"cpu_drift": 0.06}, r"clocks changed by 6\.0 %"),
        (
            {
                "before": Snapshot(temperatures_c={"gpu": 40.0}),
                "after": Snapshot(temperatures_c={"gpu": 52.0}),
            },
            "12 degrees warmer",
        ),
    ],
)
def test_what_the_board_did(seen, said):
    (reason,) = unstable_reasons(STEADY, None, [summary(), summary(**seen)])
    assert re.search(said, reason)


def test_drift_inside_a_repeat_and_between_repeats_are_two_things():
    apart = [np.full(100, 2.0), np.full(100, 2.2)]
    (reason,) = unstable_reasons(apart)
    assert "medians of the 2 repeats vary by 6.7 % (limit 2.5 %)" in reason
    rising = [np.linspace(2.0, 2.4, 100)] * 2
    (reason,) = unstable_reasons(rising)
    assert "medians of consecutive blocks vary" in reason


def test_one_disturbed_repeat_of_five_is_seen_between_them_and_not_inside():
    busy = np.concatenate([np.full(50, 2.0), np.full(50, 4.0)])
    reasons = unstable_reasons([np.full(100, 2.0)] * 4 + [busy])
    assert len(reasons) == 1
    assert "5 repeats" in reasons[0]


def late(share, times, calls=1000):
    """Calls of 2 ms, some of them later by so many ``times``, all over the measurement."""
    samples = np.full(calls, 2.0)
    samples[:: round(1 / share)] *= times
    return samples


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (late(0.05, 5), None),  # 20 % more
        (late(0.001, 200), None),
        (late(0.05, 7), "23 % of the time (mean 2.600 ms, median 2.000 ms)"),
        (late(0.01, 341), "77 % of the time (mean 8.800 ms, median 2.000 ms)"),
    ],
)
def test_late_calls_may_take_a_fifth_of_the_time_and_no_more(samples, said):
    said = () if said is None else (f"slow calls cost {said}: something else ran",)
    for repeats in ([samples], np.array_split(samples, 5)):
        assert unstable_reasons(repeats) == said
    # calls of several streams wait for each other
    assert unstable_reasons([samples], alone=False) == ()
    seconds = float(samples.sum()) / 1000
    for streams, found in ((1, said), (2, ())):
        assert Cell(1, streams, (samples * 1e6).astype(np.int64), seconds).reasons == found


def test_compute_times_of_a_gpu_are_held_against_the_plain_coefficient():
    zero = np.zeros(100)
    spiky = np.full(100, 5.0)
    spiky[::10] = 7.0
    (reason,) = unstable_reasons(STEADY, PhaseSamples(zero, spiky, zero))
    assert "compute times vary by" in reason
    assert unstable_reasons([spiky]) == ()  # whole calls on a CPU may have such a tail


def test_phases_are_measured_apart_from_whole_calls():
    runner = PhasedRunner()
    found = benchmark(runner, replace(QUICK, batch=2)).to_dict()
    assert runner.calls >= 40  # none of them with events
    assert runner.timed_calls == 64
    phases = found["phases"]
    assert list(phases) == ["copy_in", "compute", "copy_out"]
    assert [phases[name]["p90_ms"] for name in phases] == [1.0, 10.0, 2.0]
    assert phases["compute"]["p99_ms"] is None
    assert phases["compute"]["cov"] == 0
    state = found["state"]
    assert (state["cuda_graph"], state["copies"]) == (True, "in and out included")
    assert (state["batch"], state["streams"], state["warm_up_calls"]) == (2, 1, 2)
    json.dumps(found, allow_nan=False)


def test_a_board_that_copies_nothing_has_phases_of_zero():
    zero = np.zeros(70)
    report = BenchmarkReport("e", 1, np.full(70, 10**6), phases=PhaseSamples(zero, zero + 3, zero))
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["phases"]["copy_in"]["cov"] == 0
    assert report.stable


def test_phases_stop_when_the_time_is_up():
    runner = PhasedRunner()
    images = input_images(runner.interface, 1, 0, None)
    words = {"clock": lambda: runner.timed_calls * 10**9}  # a second a call
    assert len(measure_phases(runner, images, 1000, 20.0, **words).compute_ms) == 21
    assert len(measure_phases(runner, images, 1000, 2.0, **words).compute_ms) == 11


def test_engines_that_take_turns_have_phases_too():
    runner = PhasedRunner()
    found = compare(runner, PhasedRunner(), QUICK).to_dict()
    assert found["phases"]["compute"]["p50_ms"] == 5.0
    assert found["against"]["phases"]["copy_out"]["p50_ms"] == 2.0
    assert found["energy_mj"] is None
    assert "took turns" in found["energy_note"]


def test_energy_is_power_times_time_shared_among_the_images():
    power = Spread(median=9000, mean=10_000, low=8000, high=12_000, count=20)
    watched = summary(power_rail="VDD_IN", power_mw=power)
    run = Run(np.full(1000, 2_000_000), watched=watched)
    report = BenchmarkReport.of_runs("e", 4, [run, run], {}, {})
    assert report.energy_mj == pytest.approx(10_000 * 2.0 / 4000)
    assert report.energy_note is None
    without = BenchmarkReport.of_runs("e", 4, [Run(np.full(1000, 1), watched=summary())], {}, {})
    assert without.energy_mj is None
    assert "no power rail" in without.energy_note


def test_a_run_survives_the_way_between_processes():
    phases = PhaseSamples(np.array([1.0]), np.array([0.1]), np.array([1 / 3]))
    run = Run(np.array([3, 2**40, 1]), phases, settings={"cuda_graph": None})
    back = Run.from_dict(json.loads(json.dumps(run.to_dict())), summary())
    assert back.samples_ns.tolist() == [3, 2**40, 1]
    assert back.samples_ns.dtype == np.int64
    assert [ms.tolist() for _, ms in back.phases.items()] == [[1.0], [0.1], [1 / 3]]
    assert back.settings == run.settings
    assert Run.from_dict(Run(np.array([1])).to_dict(), None).phases is None


def test_repeats_stay_apart_in_the_report():
    runs = [Run(np.full(n, n * 1000)) for n in (20, 30)]
    report = BenchmarkReport.of_runs("e", 1, runs, {}, {})
    assert report.iterations == 50
    assert [len(ms) for ms in report.repeats_ms] == [20, 30]
    assert report.to_dict()["repeat_p50_ms"] == [0.02, 0.03]
