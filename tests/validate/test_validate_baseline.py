import json
from dataclasses import replace

import numpy as np
import pytest

from edgedense.errors import InputError
from edgedense.stats import PairedCounts, paired_difference
from edgedense.validate import (
    BaselineTolerance,
    baseline_of,
    compare_baseline,
    read_baseline,
    validate,
    write_baseline,
)


@pytest.fixture
def baseline(make_set, table_runner, preprocess):
    def make(wrong, n=1000, order=None, p50_ms=10.0):
        labels = np.arange(n) % 10
        answers = labels.copy()
        answers[list(wrong)] = (answers[list(wrong)] + 1) % 10
        runner = table_runner(5 * np.eye(10)[answers], "e")
        images = make_set(labels)
        if order is not None:
            images = replace(images, items=tuple(images.items[k] for k in order))
        report = validate(runner, images, preprocess, None)
        return baseline_of(
            report, device="orin", target="jetson", engine_sha256="e" * 64, batch=1, p50_ms=p50_ms
        )

    return make


def test_round_trip(tmp_path, baseline):
    one = baseline({1, 5, 7})
    path = tmp_path / "engines" / "baselines" / "orin.json"
    write_baseline(path, one)
    assert read_baseline(path) == one
    assert one.top1 == pytest.approx(99.7)
    assert len(one.correct) == 2 * 125


def test_the_order_of_the_images_does_not_matter(baseline):
    order = np.random.default_rng(0).permutation(1000)
    assert baseline({1, 5, 7}, order=order) == baseline({1, 5, 7})


def test_the_images_and_their_labels_do_matter(baseline):
    assert baseline((), n=1000).set_sha256 != baseline((), n=999).set_sha256


def test_accuracy_is_compared_pair_by_pair(baseline):
    before, now = baseline(range(20)), baseline(range(10, 45))
    judged = compare_baseline(now, before)
    expected = paired_difference(PairedCounts(1000, lost=25, gained=10)).scaled(100)
    assert f"drop since then 1.50 pp, 95 % interval [{expected.low:.2f}" in judged.reasons[0]
    assert judged.verdict == "fail"


def test_a_change_that_could_be_chance_passes(baseline):
    assert compare_baseline(baseline(range(10, 33)), baseline(range(20))).verdict == "pass"
    assert compare_baseline(baseline(()), baseline(range(20))).verdict == "pass"


def test_tolerance(baseline):
    before, now = baseline(()), baseline(range(30))
    assert compare_baseline(now, before).verdict == "fail"
    assert compare_baseline(now, before, BaselineTolerance(drop_pp=2.5)).verdict == "pass"


@pytest.mark.parametrize(("p50_ms", "verdict"), [(9.0, "pass"), (10.9, "pass"), (11.1, "fail")])
def test_latency(baseline, p50_ms, verdict):
    before = baseline(())
    judged = compare_baseline(replace(before, p50_ms=p50_ms), before)
    assert judged.verdict == verdict
    assert f"{p50_ms:.3f} ms now" in judged.reasons[1]


def test_latency_that_was_not_measured_is_not_compared(baseline):
    before = baseline((), p50_ms=None)
    assert len(compare_baseline(baseline(()), before).reasons) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "nano"}, "another device: orin then, nano now"),
        ({"target": "cpu"}, "another target"),
        ({"set_sha256": "f" * 64}, "another evaluation set"),
        ({"device": "nano", "target": "cpu"}, "another device and another target"),
    ],
)
def test_unlike_baselines_are_refused(baseline, change, message):
    before = baseline(())
    with pytest.raises(InputError, match=message):
        compare_baseline(replace(before, **change), before)


def test_force_compares_what_is_left(baseline):
    before = baseline(())
    slow_elsewhere = replace(before, device="nano", p50_ms=99.0)
    judged = compare_baseline(slow_elsewhere, before, force=True)
    assert judged.verdict == "pass"
    assert "latency was not compared" in judged.reasons[1]
    other_images = compare_baseline(baseline((), n=900), before, force=True)
    assert other_images.verdict == "inconclusive"
    assert "accuracy was not compared" in other_images.reasons[0]


def test_a_regression_fails_the_report(make_set, table_runner, preprocess, paired_logits, baseline):
    labels, reference, engine = paired_logits(1000, 0, 0)
    report = validate(
        table_runner(engine, "e"), make_set(labels), preprocess, table_runner(reference, "r")
    )
    assert report.verdict == "pass"
    now = baseline_of(report, device="orin", target="jetson", engine_sha256="e" * 64)
    better = replace(now, correct=np.packbits(np.ones(1000, np.uint8)).tobytes().hex())
    worse = replace(now, correct=np.packbits(np.arange(1000) % 20 > 0).tobytes().hex())
    failed = report.judged_also(compare_baseline(worse, better))
    assert (failed.verdict, failed.exit_code) == ("fail", 1)
    assert len(failed.reasons) == 2
    assert report.judged_also(compare_baseline(better, worse)).verdict == "pass"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"device": "x"}', "damaged"),
        ({"format": "edgedense-baseline/9"}, "format 'edgedense-baseline/9'"),
        ({"correct": "zz"}, "damaged"),
        ({"correct": "00"}, "damaged"),
        ({"samples": "many"}, "damaged"),
        ({"p50_ms": 0}, "damaged"),
        ({"surplus": 1}, "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, baseline, damage, message):
    path = tmp_path / "b.json"
    write_baseline(path, baseline(()))
    if isinstance(damage, dict):
        damage = json.dumps({**json.loads(path.read_text()), **damage})
    path.write_text(damage)
    with pytest.raises(InputError, match=message):
        read_baseline(path)


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(InputError, match="--write-baseline FILE"):
        read_baseline(tmp_path / "none.json")
