import json
from dataclasses import replace

import numpy as np
import pytest

from edgedense import artifact
from edgedense.benchmark import (
    BenchmarkOptions,
    BenchmarkReport,
    benchmark,
    compare,
    compare_all,
    measure,
    warm_up,
    write_report,
)
from edgedense.benchmark.measure import LEAST_ITERATIONS, Span, input_images, take_turns
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.progress import SILENT

INTERFACE = Interface("input", (3, 4, 4), "logits", (10,), (1, 1, 8))
QUICK = BenchmarkOptions(iterations=40, min_seconds=0, warmup=2, warmup_seconds=0)


class Clock:
    """Time that only passes when an engine runs."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns


class ClockedRunner:
    """An engine whose calls take the times that it is given, over and over."""

    def __init__(self, clock, times_ns, name="engine", log=None):
        self.clock, self.times_ns, self.name = clock, times_ns, name
        self.interface = INTERFACE
        self.calls = 0
        self.log = log if log is not None else []

    def __call__(self, images):
        self.clock.now_ns += self.times_ns[self.calls % len(self.times_ns)]
        self.calls += 1
        self.log.append(self.name)
        return np.zeros((len(images), 10), np.float32)

    def close(self):
        pass


class RealRunner:
    """An engine that multiplies matrices, in real time."""

    def __init__(self, name="real", size=64, interface=INTERFACE):
        self.name, self.interface = name, interface
        self.shapes = set()
        self.matrix = np.random.default_rng(0).random((size, size))

    def __call__(self, images):
        self.shapes.add(images.shape)
        self.matrix @ self.matrix
        return np.zeros((len(images), 10), np.float32)

    def close(self):
        pass


IMAGES = np.zeros((1, 3, 4, 4), np.float32)


def report_of(samples_ns, batch=1):
    return BenchmarkReport("engine", batch, np.array(samples_ns, np.int64))


def test_samples_are_the_times_of_the_calls_in_order():
    clock = Clock()
    runner = ClockedRunner(clock, [1_000_000, 3_000_000, 2_000_000])
    samples = measure(runner, IMAGES, 7, 30, clock=clock)
    assert (samples / 1e6).tolist() == [1, 3, 2, 1, 3, 2, 1]


def test_measuring_stops_when_the_time_is_up():
    clock = Clock()
    runner = ClockedRunner(clock, [10_000_000])
    samples = measure(runner, IMAGES, 1000, 2.0, clock=clock)
    assert 200 <= len(samples) <= 226
    slow = ClockedRunner(clock, [60_000_000_000])
    assert len(measure(slow, IMAGES, 1000, 2.0, clock=clock)) == 25
    assert len(measure(slow, IMAGES, LEAST_ITERATIONS, 2.0, clock=clock)) == LEAST_ITERATIONS


@pytest.mark.parametrize(
    ("call_ms", "count"), [(0.1, 20_000), (1.0, 2000), (10.0, 700), (100.0, 300), (9000.0, 11)]
)
def test_number_of_calls(call_ms, count):
    assert Span(700, 2.0, 30.0).count(call_ms * 1e6) == count


def test_warm_up_is_long_enough_and_forgets_the_first_calls():
    clock = Clock()
    runner = ClockedRunner(clock, [900_000_000] * 5 + [2_000_000] * 1000)
    assert warm_up(runner, IMAGES, calls=10, seconds=0, clock=clock) == 2_000_000
    assert runner.calls == 10
    warm_up(runner, IMAGES, calls=10, seconds=0.1, clock=clock)
    assert runner.calls == 60


def test_blocks_alternate_and_both_engines_get_as_many_calls():
    clock, log = Clock(), []
    a = ClockedRunner(clock, [4_000_000], "a", log)
    b = ClockedRunner(clock, [1_000_000], "b", log)
    first, second = take_turns((a, b), (IMAGES,) * 2, Span(100, 0, 30), (4e6, 1e6), "", clock=clock)
    assert first.shape == second.shape == (20, 10)
    assert (first == 4_000_000).all()
    assert (second == 1_000_000).all()
    blocks = "".join(log[::11])
    assert blocks == "abba" * 10
    assert log[:11] == ["a"] * 11


def test_several_engines_take_turns():
    clock, log = Clock(), []
    times_ns = {"a": 4_000_000, "b": 1_000_000, "c": 2_000_000}
    runners = [ClockedRunner(clock, [t], name, log) for name, t in times_ns.items()]
    span, images = Span(100, 0, 30), (IMAGES,) * 3
    found = take_turns(runners, images, span, list(times_ns.values()), "all", clock=clock)
    assert [set(rows.reshape(-1).tolist()) for rows in found] == [{t} for t in times_ns.values()]
    calls = found[0].shape[1] + 1  # the first of each block is not kept
    assert "".join(log[::calls]) == "abccba" * (len(found[0]) // 2)


def test_engines_that_are_compared_together_share_their_rounds():
    runners = [RealRunner("a", 8), RealRunner("b", 8), RealRunner("slow", 300)]
    found = compare_all(runners[:2], runners[2], QUICK)
    assert [report.engine.engine_name for report in found] == ["a", "b"]
    assert found[0].rounds == found[1].rounds
    assert found[0].against is found[1].against
    assert all(report.speedup.value > 1 for report in found)


def test_the_first_call_of_a_block_is_not_kept():
    clock = Clock()
    a = ClockedRunner(clock, [50_000_000] + [1_000_000] * 10)
    b = ClockedRunner(clock, [50_000_000] + [1_000_000] * 10)
    first, second = take_turns((a, b), (IMAGES,) * 2, Span(100, 0, 30), (1e6, 1e6), "", clock=clock)
    assert first.max() == second.max() == 1_000_000


def test_interleaving_stops_when_the_time_is_up():
    clock = Clock()
    a, b = ClockedRunner(clock, [500_000_000]), ClockedRunner(clock, [500_000_000])
    first, _ = take_turns((a, b), (IMAGES,) * 2, Span(700, 2, 30), (1e6, 1e6), "", clock=clock)
    assert first.shape == (20, 10)


def test_slow_drift_does_not_reach_the_speedup():
    clock = Clock()
    options = replace(QUICK, iterations=400)

    class Drifting(ClockedRunner):
        def __call__(self, images):
            # everything gets slower by up to a half as time goes on
            clock.now_ns += int(self.times_ns[0] * (1 + clock.now_ns / 8e9))
            return np.zeros((1, 10), np.float32)

    a, b = Drifting(clock, [3_000_000]), Drifting(clock, [1_000_000])
    first, second = take_turns((a, b), (IMAGES,) * 2, options.span, (3e6, 1e6), "", clock=clock)
    ratio = np.median(first) / np.median(second)
    assert first[-1, -1] > 1.1 * first[0, 0]
    assert ratio == pytest.approx(3.0, rel=0.01)


def test_numbers_of_known_samples():
    report = report_of(np.arange(1, 1001) * 1000, batch=4)
    assert report.iterations == 1000
    assert (report.p50_ms, report.p90_ms, report.p99_ms) == (0.5, 0.9, 0.99)
    assert report.throughput_ips == pytest.approx(4 * 1000 / 0.5005)
    assert report.cov == pytest.approx(np.std(np.arange(1, 1001), ddof=1) / 500.5)
    low, high = report.to_dict()["p50_ci95_ms"]
    assert low < 0.5 < high


def test_images_in_a_second_are_all_images_by_all_the_time():
    clock = Clock()
    runner = ClockedRunner(clock, [100_000] * 99 + [30_000_000])
    samples = measure(runner, np.zeros((8, 3, 4, 4), np.float32), 1000, 30, clock=clock)
    report = report_of(samples, batch=8)
    assert report.p50_ms == 0.1
    assert report.throughput_ips == pytest.approx(8 * len(samples) / (samples.sum() / 1e9))
    assert not report.stable


def test_too_few_samples_give_no_number_and_a_note():
    found = report_of([1_000_000] * 63).to_dict()
    assert found["p50_ms"] == 1.0
    assert found["p90_ms"] is found["p90_ci95_ms"] is found["p90_early_stopping_ms"] is None
    assert found["p99_ms"] is found["p99_ci95_ms"] is None
    assert found["notes"] == [
        "p90: not enough samples (63; 64 are needed).",
        "p99: not enough samples (63; 662 are needed).",
    ]
    enough = report_of(np.arange(1, 663) * 1000).to_dict()
    assert enough["notes"][:1] != found["notes"][:1]
    assert enough["p99_ms"] == pytest.approx(0.656)
    assert enough["p99_early_stopping_ms"] == pytest.approx(0.662)


def test_stable_and_unstable():
    steady = report_of([1_000_000] * 800)
    assert steady.stable
    assert steady.notes == steady.reasons == ()
    outliers = [1_000_000] * 800
    outliers[::25] = [7_000_000] * 32  # adds 24 % to the time
    assert report_of(outliers).stable
    outliers[::25] = [9_000_000] * 32  # adds 32 %
    assert "slow calls cost 24 % of the time" in report_of(outliers).notes[0]
    drifting = report_of(np.linspace(1e6, 1.2e6, 800))
    assert not drifting.stable
    assert "Unstable: medians of consecutive blocks vary" in drifting.notes[0]
    assert drifting.to_dict()["reasons"] == list(drifting.reasons)


def test_the_report_is_json_and_has_the_promised_keys():
    report = benchmark(RealRunner(), QUICK)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    promised = "batch iterations p50_ms p90_ms p99_ms throughput_ips cov stable device"
    assert set(promised.split()) <= set(found)
    assert found["iterations"] == len(report.samples_ns) == 40
    assert found["p50_ms"] > 0
    assert isinstance(found["stable"], bool)
    assert found["device"]["cores"] >= 1
    assert found["device"]["name"]


def test_the_slower_engine_is_found_slower():
    found = compare(RealRunner("fast", 8), RealRunner("slow", 300), QUICK)
    assert found.speedup.low > 1
    assert found.speedup.value == pytest.approx(found.against.p50_ms / found.engine.p50_ms)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["engine_name"] == "fast"
    assert told["against"]["engine_name"] == "slow"
    assert told["speedup_ci95"] == list(found.speedup.interval)
    assert told["rounds"] * 10 >= told["iterations"] >= 40


def test_images_are_of_the_batch_asked():
    runner = RealRunner()
    benchmark(runner, replace(QUICK, batch=8))
    assert runner.shapes == {(8, 3, 4, 4)}


def test_noise_is_seeded_and_golden_images_repeat():
    noise = input_images(INTERFACE, 2, 3, None)
    np.testing.assert_array_equal(noise, input_images(INTERFACE, 2, 3, None))
    assert (noise != input_images(INTERFACE, 2, 4, None)).any()
    assert noise.dtype == np.float32
    golden = np.arange(2 * 48, dtype=np.float32).reshape(2, 3, 4, 4)
    found = input_images(INTERFACE, 5, 0, golden)
    np.testing.assert_array_equal(found, golden[[0, 1, 0, 1, 0]])
    np.testing.assert_array_equal(input_images(INTERFACE, 1, 0, golden), golden[:1])


def test_a_batch_that_the_engine_does_not_take():
    with pytest.raises(InputError, match=r"batch 9 is outside the engine's range 1 … 8"):
        benchmark(RealRunner(), replace(QUICK, batch=9))
    narrow = RealRunner("fp32", interface=replace(INTERFACE, batch=(1, 1, 1)))
    with pytest.raises(InputError, match="batch 2 is outside"):
        compare(RealRunner(), narrow, replace(QUICK, batch=2))


def test_engines_of_other_images_are_not_compared():
    other = RealRunner("other", interface=replace(INTERFACE, input_shape=(3, 8, 8)))
    with pytest.raises(InputError, match=r"real takes images of \(3, 4, 4\), but other of"):
        compare(RealRunner(), other, QUICK)


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 0},
        {"iterations": 0},
        {"warmup": -1},
        {"min_seconds": 5, "max_seconds": 1},
        {"min_seconds": float("nan")},
        {"max_seconds": float("inf")},
        {"warmup_seconds": -1},
        {"warmup_seconds": float("nan")},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(InputError):
        BenchmarkOptions(**options)


def test_progress_is_told():
    told = []

    class Telling:
        def track(self, items, label, total=None):
            told.append((label, total))
            return SILENT.track(items, label, total)

        def say(self, line):
            pass

    benchmark(RealRunner(), QUICK, progress=Telling())
    compare(RealRunner("a"), RealRunner("b"), QUICK, progress=Telling())
    assert told == [("benchmark real", 40), ("a against b", 20)]


def test_the_artifact_keeps_every_sample(tmp_path):
    report = benchmark(RealRunner(), QUICK)
    write_report(tmp_path / "one", report, parents={"engine": "ab" * 32}, options={"batch": 1})
    found = artifact.read(tmp_path / "one")
    assert found.manifest.stage == "benchmark"
    assert found.manifest.report["p50_ms"] == report.p50_ms
    kept = json.loads(found.file("samples.json").read_text())
    assert kept == {"samples_ms": report.samples_ms.tolist()}
    both = compare(RealRunner("a"), RealRunner("b"), QUICK)
    write_report(tmp_path / "two", both, parents={}, options={})
    kept = json.loads(artifact.read(tmp_path / "two").file("samples.json").read_text())
    assert kept["against_ms"] == both.against.samples_ms.tolist()
    assert kept["samples_ms"] == both.engine.samples_ms.tolist()
