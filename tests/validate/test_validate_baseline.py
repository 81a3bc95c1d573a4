import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from edgedense.errors import InputError
from edgedense.stats import PairedCounts, paired_difference
from edgedense.validate import (
    BaselineTolerance,
    Identity,
    Timing,
    baseline_of,
    compare_baseline,
    identity_of,
    read_baseline,
    refuse_strangers,
    validate,
    write_baseline,
)

ORIN = Identity("orin", "jetson", "int8", "DenseNet 2-2, 1x2x2 to 10", "e" * 64, "Orin", 87, "MAXN")


def around(p50_ms, width=0.01, stable=True):
    return Timing(1, p50_ms, (p50_ms * (1 - width), p50_ms * (1 + width)), stable)


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
        return baseline_of(report, ORIN, None if p50_ms is None else around(p50_ms))

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


@pytest.mark.parametrize(
    ("p50_ms", "verdict", "said"),
    [
        (9.0, "pass", "within 10 %"),
        (10.8, "pass", "within 10 %"),
        (11.1, "pass", "not proven to exceed 10 %"),
        (11.2, "fail", "a regression"),
    ],
)
def test_latency_is_compared_by_its_interval(baseline, p50_ms, verdict, said):
    before = baseline(())
    judged = compare_baseline(replace(before, timing=around(p50_ms)), before)
    assert judged.verdict == verdict
    assert f"{p50_ms:.3f} ms now" in judged.reasons[1]
    assert said in judged.reasons[1]


def test_latency_tolerance(baseline):
    before, slow = baseline(()), replace(baseline(()), timing=around(14.0))
    assert compare_baseline(slow, before, BaselineTolerance(latency_percent=50)).verdict == "pass"
    assert compare_baseline(slow, before, BaselineTolerance(latency_percent=30)).verdict == "fail"


@pytest.mark.parametrize(("then", "now", "when"), [(True, False, "now"), (False, True, "then")])
def test_an_unstable_latency_proves_no_regression(baseline, then, now, when):
    before = replace(baseline(()), timing=around(10.0, stable=then))
    judged = compare_baseline(replace(before, timing=around(15.0, stable=now)), before)
    assert judged.verdict == "inconclusive"
    assert f"not stable {when}" in judged.reasons[1]
    faster = replace(before, timing=around(9.0, stable=now))
    assert compare_baseline(faster, before).verdict == "pass"


@pytest.mark.parametrize(
    "options", [{"drop_pp": -1}, {"drop_pp": float("nan")}, {"latency_percent": -1}]
)
def test_tolerances_out_of_range(options):
    with pytest.raises(InputError, match="--max-"):
        BaselineTolerance(**options)


def test_latency_that_was_not_measured_is_not_compared(baseline):
    before = baseline((), p50_ms=None)
    assert len(compare_baseline(baseline(()), before).reasons) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "nano"}, "another device: orin then, nano now"),
        ({"target": "cpu"}, "another target"),
        ({"precision": "fp16"}, "another precision: int8 then, fp16 now"),
        ({"network": "DenseNet 6-12"}, "another network"),
        ({"gpu": None, "sm": None}, r"another GPU: Orin \(SM 87\) then, none now"),
        ({"sm": 89}, "another GPU"),
        ({"power_mode": "15W"}, "another power mode: MAXN then, 15W now"),
        ({"device": "nano", "target": "cpu"}, "another device and another target"),
    ],
)
def test_unlike_baselines_are_refused(baseline, change, message):
    before = baseline(())
    with pytest.raises(InputError, match=message) as refused:
        compare_baseline(replace(before, identity=replace(ORIN, **change)), before)
    assert "--force" in refused.value.remedy


def test_other_images_are_refused(baseline):
    with pytest.raises(InputError, match="another evaluation set"):
        compare_baseline(baseline((), n=900), baseline(()))


def test_a_baseline_that_lost_answers_is_another_set(baseline):
    whole = baseline(())
    cut = replace(whole, samples=992, correct=whole.correct[:-2])
    with pytest.raises(InputError, match=r"\(992 images\) then, .* \(1,000 images\) now"):
        compare_baseline(whole, cut)
    assert compare_baseline(whole, cut, force=True).verdict == "inconclusive"


def test_strangers_are_refused_before_anything_runs(baseline):
    refuse_strangers(replace(ORIN, engine_sha256="f" * 64, power_mode="15W"), baseline(()))
    with pytest.raises(InputError, match="another device: orin then, nano now"):
        refuse_strangers(replace(ORIN, device="nano"), baseline(()))


def test_the_power_mode_matters_to_latency_only(baseline):
    before = baseline((), p50_ms=None)
    other = replace(before, identity=replace(ORIN, power_mode="15W"))
    assert compare_baseline(other, before).verdict == "pass"


def test_the_reasons_say_whether_it_is_the_same_engine(baseline):
    before = baseline(())
    same = compare_baseline(before, before).reasons[0]
    other = compare_baseline(
        replace(before, identity=replace(ORIN, engine_sha256="f" * 64)), before
    )
    assert "the same engine (eeeeeeeeeeee)" in same
    assert "another engine (eeeeeeeeeeee then, ffffffffffff now)" in other.reasons[0]


def test_force_compares_what_is_left(baseline):
    before = baseline(())
    elsewhere = replace(ORIN, device="nano")
    slow_elsewhere = replace(before, identity=elsewhere, timing=around(99.0))
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
    now = baseline_of(report, ORIN)
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
        ({"format": "edgedense-baseline/1"}, "format 'edgedense-baseline/1'"),
        ({"correct": "zz"}, "damaged"),
        ({"correct": "00"}, "damaged"),
        ({"samples": "many"}, "damaged"),
        ({"samples": 1000.0}, "damaged"),
        ({"samples": -3, "correct": ""}, "damaged"),
        ({"set_sha256": 5}, "damaged"),
        ({"identity": {**asdict(ORIN), "engine_sha256": None}}, "damaged"),
        ({"timing": {"batch": "1", "p50_ms": 1, "p50_ci95_ms": [1, 1]}}, "damaged"),
        ({"timing": {"batch": 1, "p50_ms": 0, "p50_ci95_ms": [0, 0]}}, "damaged"),
        ({"timing": {"batch": 1, "p50_ms": 1, "p50_ci95_ms": [2, 3]}}, "damaged"),
        ({"timing": {"batch": 1, "p50_ms": 1, "p50_ci95_ms": 1}}, "damaged"),
        ({"timing": [1]}, "damaged"),
        ({"identity": {"device": "orin"}}, "damaged"),
        ({"identity": None}, "damaged"),
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


def engine_of(report, model):
    from pathlib import Path

    from edgedense.artifact import Artifact, FileRecord, Manifest

    files = {"model.engine": FileRecord("ab" * 32, 1)}
    interface = {"input_shape": [3, 8, 8], "output_shape": [10]}
    whole = {"target": "t", "precision": "int8", "engine": "somewhere/model.engine", **report}
    manifest = Manifest("build-engine", files=files, report=whole, model=model, interface=interface)
    return Artifact(Path("e"), manifest, "0" * 64)


def test_who_an_engine_is():
    from edgedense.engines.cuda import Gpu

    spec = {"blocks": [[{}, {}], [{}, {}, {}]]}
    device = {"name": "board", "power_mode": "15W"}
    found = identity_of(engine_of({"gpu": "A2", "sm": 86}, {"spec": spec}), device)
    assert found == Identity(
        "board", "t", "int8", "DenseNet 2-3, 3x8x8 to 10", "ab" * 32, "A2", 86, "15W"
    )
    # the GPU that it runs on counts, not the one that built it
    running = identity_of(engine_of({"gpu": "A2", "sm": 86}, {}), device, Gpu("L4", 89))
    assert (running.gpu, running.sm) == ("L4", 89)
    fc = {"spec": {"down": [[{}]], "middle": [{}, {}], "up": [[{}]]}}
    assert identity_of(engine_of({}, fc), device).network == "DenseNet 1-2-1, 3x8x8 to 10"
    with pytest.raises(InputError, match="payload other is missing"):
        identity_of(engine_of({"engine": "x/other"}, {}), device)
