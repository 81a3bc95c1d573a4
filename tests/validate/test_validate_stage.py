import json

import numpy as np
import pytest

from edgedense import artifact
from edgedense.data import content_hashes
from edgedense.engines.reference import RecordedReference, record_reference
from edgedense.errors import InputError
from edgedense.stats import SQNR_CAP_DB, Estimate
from edgedense.validate import ValidateOptions, validate, write_report


@pytest.fixture
def run(make_set, table_runner, preprocess, paired_logits):
    def run(n, lost, gained, right=None, options=None, **more):
        labels, reference, engine = paired_logits(n, lost, gained, right)
        return validate(
            table_runner(engine, "engine"),
            make_set(labels),
            preprocess,
            table_runner(reference, "fp32"),
            options,
            **more,
        )

    return run


def test_numbers_of_a_known_table(run):
    report = run(1000, 12, 8, right=900)
    found = report.to_dict()
    assert found["samples"] == found["labelled"] == 1000
    assert found["reference"]["top1"] == pytest.approx(90.0)
    assert found["engine"]["top1"] == pytest.approx(89.6)
    assert found["drop_pp"] == pytest.approx(0.4)
    assert found["drop_ci95"][0] < 0.4 < found["drop_ci95"][1]
    assert (found["lost"], found["gained"]) == (12, 8)
    assert found["agreement"] == pytest.approx(98.0)
    # 20 of 1000 rows differ, by two logits of 5 each: signal 1000 * 25, noise 20 * 50
    assert found["logit_sqnr_db"] == pytest.approx(10 * np.log10(1000 * 25 / (20 * 50)))
    assert "speedup" not in found


def test_top_5_and_its_absence_with_few_classes(make_set, table_runner, preprocess):
    logits = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)
    labels = np.arange(200) % 10
    report = validate(table_runner(logits, "e"), make_set(labels), preprocess, None)
    ranks = (logits > logits[np.arange(200), labels][:, None]).sum(axis=1)
    assert report.engine.top5 == pytest.approx(100 * np.mean(ranks < 5))
    few = validate(table_runner(logits[:, :5], "e"), make_set(labels % 5), preprocess, None)
    assert few.engine.top5 is None
    assert few.engine.top1 is not None


@pytest.mark.parametrize(
    ("n", "lost", "gained", "verdict", "exit_code"),
    [
        (2000, 3, 2, "pass", 0),
        (2000, 100, 10, "fail", 1),
        (400, 8, 5, "inconclusive", 1),
        (400, 12, 4, "inconclusive", 1),
        (400, 0, 0, "pass", 0),
        (100, 0, 0, "inconclusive", 1),
    ],
)
def test_verdict_follows_the_interval(run, n, lost, gained, verdict, exit_code):
    report = run(n, lost, gained)
    assert (report.verdict, report.exit_code) == (verdict, exit_code)
    low, high = report.to_dict()["drop_ci95"]
    assert {"pass": high <= 1, "fail": low > 1, "inconclusive": low <= 1 < high}[verdict]
    assert len(report.reasons) == 1


def test_inconclusive_says_how_many_images_would_decide(run):
    (reason,) = run(400, 8, 5).reasons
    # (1.960 * sqrt(v0) + 0.842 * sqrt(v1))^2 / (0.01 - 3/400)^2: v0 by images_to_decide's source
    assert "400 images cannot decide; about 41,346 would" in reason
    (reason,) = run(400, 4, 0).reasons
    assert "no number of images would" in reason


def test_a_wider_margin_passes_what_a_narrow_one_does_not(run):
    assert run(400, 8, 5, options=ValidateOptions(max_drop_pp=4.0)).verdict == "pass"
    assert run(2000, 100, 10, options=ValidateOptions(max_drop_pp=None)).verdict == "pass"


def test_an_engine_equal_to_its_reference(run):
    report = run(500, 0, 0)
    assert report.agreement == 100.0
    assert report.logit_sqnr_db == SQNR_CAP_DB
    assert report.drop.value == 0.0


@pytest.mark.parametrize(
    ("speedup", "verdict"),
    [
        (Estimate(2.1, 2.0, 2.2), "pass"),
        (Estimate(1.9, 1.8, 1.99), "fail"),
        (Estimate(2.05, 1.9, 2.2), "inconclusive"),
        (Estimate(1.95, 1.8, 2.1), "inconclusive"),
    ],
)
def test_speedup_gate(run, speedup, verdict):
    report = run(2000, 0, 0, options=ValidateOptions(min_speedup=2.0), speedup=speedup)
    assert report.verdict == verdict
    assert len(report.reasons) == 2
    found = report.to_dict()
    assert (found["speedup"], found["speedup_ci95"]) == (speedup.value, list(speedup.interval))


def test_a_failed_gate_outweighs_an_open_one(run):
    slow = Estimate(1.0, 0.9, 1.1)
    assert run(400, 8, 5, None, ValidateOptions(min_speedup=2.0), speedup=slow).verdict == "fail"


def test_speedup_asked_but_not_measured_is_refused_before_running(
    make_set, table_runner, preprocess, paired_logits
):
    labels, reference, engine = paired_logits(50, 0, 0)
    runner = table_runner(engine, "engine")
    with pytest.raises(InputError, match="no speed-up was measured"):
        validate(
            runner,
            make_set(labels),
            preprocess,
            table_runner(reference, "fp32"),
            ValidateOptions(min_speedup=2.0),
        )
    assert runner.calls == []


def test_recorded_logits_replace_the_reference_model(
    make_set, table_runner, preprocess, paired_logits
):
    labels, reference, engine = paired_logits(300, 9, 4)
    images = make_set(labels)
    fp32 = table_runner(reference, "fp32")
    recorded = record_reference(fp32, images, preprocess)
    live = validate(table_runner(engine, "engine"), images, preprocess, fp32)
    from_file = validate(table_runner(engine, "engine"), images, preprocess, recorded)
    assert live.to_dict() == from_file.to_dict()


def test_an_image_without_recorded_logits_is_named(
    make_set, table_runner, preprocess, paired_logits
):
    labels, reference, engine = paired_logits(40, 0, 0)
    recorded = record_reference(table_runner(reference, "fp32"), make_set(labels[:30]), preprocess)
    with pytest.raises(InputError, match=r"\[30\]: no reference logits.*\n.*--reference MODEL"):
        validate(table_runner(engine, "engine"), make_set(labels), preprocess, recorded)


def test_unlabelled_images_give_agreement_only(make_set, table_runner, preprocess, paired_logits):
    _, reference, engine = paired_logits(100, 10, 5)
    report = validate(
        table_runner(engine, "engine"),
        make_set(None, 100),
        preprocess,
        table_runner(reference, "fp32"),
    )
    found = report.to_dict()
    assert found["engine"]["top1"] is found["reference"]["top1"] is found["drop_pp"] is None
    assert found["drop_ci95"] is None
    assert found["agreement"] == pytest.approx(85.0)
    assert report.verdict == "inconclusive"
    assert "no labels" in report.reasons[0]


def test_unknown_labels_count_for_agreement_and_not_for_accuracy(
    make_set, table_runner, preprocess, paired_logits
):
    labels, reference, engine = paired_logits(100, 10, 0)
    labels[:10] = -1  # those that the engine loses
    report = validate(
        table_runner(engine, "e"), make_set(labels), preprocess, table_runner(reference, "r")
    )
    assert report.to_dict()["labelled"] == 90
    assert report.drop.value == 0.0
    assert report.agreement == pytest.approx(90.0)


def test_without_a_reference_the_drop_stays_open(make_set, table_runner, preprocess, paired_logits):
    labels, _, engine = paired_logits(100, 10, 0)
    report = validate(table_runner(engine, "e"), make_set(labels), preprocess, None)
    assert report.engine.top1 == pytest.approx(90.0)
    assert report.to_dict()["reference"] is None
    assert report.verdict == "inconclusive"
    assert "no reference" in report.reasons[0]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail_and_stay_out_of_the_json(
    make_set, table_runner, preprocess, paired_logits, poison
):
    labels, reference, engine = paired_logits(1000, 0, 0)
    engine[7, 3] = poison
    report = validate(
        table_runner(engine, "e"), make_set(labels), preprocess, table_runner(reference, "r")
    )
    assert report.verdict == "fail"
    assert "NaN or infinity for 1 of 1,000 images" in report.reasons[0]
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["engine"]["top1"] == pytest.approx(99.9)
    assert found["agreement"] == pytest.approx(99.9)
    assert found["logit_sqnr_db"] is None
    assert found["not_finite"] == 1


def test_a_reference_that_is_not_finite_is_refused(
    make_set, table_runner, preprocess, paired_logits
):
    labels, reference, engine = paired_logits(20, 0, 0)
    reference[3] = np.nan
    with pytest.raises(InputError, match=r"fp32: its logits for .*\[3\] are not finite"):
        validate(
            table_runner(engine, "e"),
            make_set(labels),
            preprocess,
            table_runner(reference, "fp32"),
        )


def test_a_calibration_image_in_the_set_is_refused_while_streaming(
    make_set, table_runner, preprocess, paired_logits
):
    labels, reference, engine = paired_logits(100, 0, 0)
    images = make_set(labels)
    hashes = content_hashes(images, preprocess)
    runner = table_runner(engine, "e")
    with pytest.raises(InputError, match=r"\[40\]"):
        validate(
            runner,
            images,
            preprocess,
            table_runner(reference, "r"),
            ValidateOptions(batch_size=16),
            calibration=[hashes[40]],
        )
    assert sum(runner.calls) == 32


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [([0, 11], 10, "label 11"), ([0, 4], 4, "label 4")],
)
def test_other_classes_are_refused_before_running(
    make_set, table_runner, preprocess, labels, classes, message
):
    runner = table_runner(np.zeros((2, classes)), "e")
    with pytest.raises(InputError, match=message):
        validate(runner, make_set(np.array(labels)), preprocess, None)
    assert runner.calls == []


def test_class_names_in_another_number_are_refused(tmp_path, table_runner, preprocess):
    from edgedense.data import load_set

    np.savez(
        tmp_path / "named.npz",
        images=np.zeros((2, 2, 2), np.uint8),
        labels=np.array([0, 1]),
        class_names=np.array(["cat", "dog"]),
    )
    with pytest.raises(InputError, match="2 classes, but the model has 10 outputs"):
        validate(
            table_runner(np.zeros((2, 10)), "e"), load_set(tmp_path / "named.npz"), preprocess, None
        )


def test_a_reference_of_another_class_count_is_refused(make_set, table_runner, preprocess):
    images = make_set(np.array([0, 1]))
    engine = table_runner(np.zeros((2, 10)), "e")
    recorded = RecordedReference(("a",), np.array([0]), np.zeros((1, 7), np.float32))
    for reference in (recorded, table_runner(np.zeros((2, 7)), "r")):
        with pytest.raises(InputError, match="reference has 7 outputs, but the engine has 10"):
            validate(engine, images, preprocess, reference)


def test_other_preprocessing_is_refused_before_running(make_set, table_runner):
    from edgedense.data import PRESETS

    runner = table_runner(np.zeros((2, 10)), "e")
    with pytest.raises(InputError, match=r"'cifar10' gives images of \(3, 32, 32\)"):
        validate(runner, make_set(np.array([0, 1])), PRESETS["cifar10"], None)
    assert runner.calls == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_drop_pp": -0.1},
        {"max_drop_pp": float("nan")},
        {"min_speedup": 0.0},
        {"min_speedup": float("nan")},
        {"batch_size": 0},
    ],
)
def test_options_out_of_range(options):
    with pytest.raises(InputError):
        ValidateOptions(**options)


def test_the_artifact_keeps_every_logit(tmp_path, run):
    report = run(200, 3, 1)
    write_report(
        tmp_path / "out", report, parents={"engine": "ab" * 32}, options={"max_drop_pp": 1.0}
    )
    found = artifact.read(tmp_path / "out")
    assert found.manifest.stage == "validate"
    assert found.manifest.report == json.loads(json.dumps(report.to_dict()))
    with np.load(found.file("predictions.npz")) as arrays:
        np.testing.assert_array_equal(arrays["engine_logits"], report.measured.engine_logits)
        np.testing.assert_array_equal(arrays["reference_logits"], report.measured.reference_logits)
        assert tuple(arrays["content"]) == report.measured.content


def test_pixels_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the set: an array of pixels dies before the second next is made."""
    import gc
    import sys
    import weakref

    from edgedense.data import PRESETS, Batch, ImageSet, Item
    from edgedense.engines.runner import Interface

    alive: list[int] = []
    made: list[weakref.ref[np.ndarray]] = []

    def stream(*_: object, **__: object):  # type: ignore[no-untyped-def]
        for number in range(6):
            pixels = np.zeros((2, 1, 8, 8), np.float32)
            made.append(weakref.ref(pixels))
            names = (f"a{number}", f"b{number}")
            yield Batch(pixels, np.zeros(2, np.int64), names, names)
            del pixels
            gc.collect()
            alive.append(sum(ref() is not None for ref in made))

    class Engine:
        name = "fake"
        interface = Interface("images", (1, 8, 8), "logits", (10,))

        def __call__(self, images: np.ndarray) -> np.ndarray:
            return np.ones((len(images), 10), np.float32)

        def close(self) -> None: ...

    module = sys.modules["edgedense.validate.measure"]
    monkeypatch.setattr(module, "batches", stream)
    items = tuple(Item(k, 0, str(k)) for k in range(12))
    module.measure(Engine(), ImageSet("x", items), PRESETS["digits"], None)
    assert max(alive) <= 1
