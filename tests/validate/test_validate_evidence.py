import json

import numpy as np
import pytest

from edgedense.stats import PairedCounts, newcombe_difference, wilson
from edgedense.validate import ValidateOptions, markdown, validate
from edgedense.validate.evidence import calibration, flips, notes, per_class

CLASSES = tuple("abcdefghij")


@pytest.fixture
def run(make_set, table_runner, preprocess):
    def run(labels, reference, engine, options=None, activation="none", **more):
        runners = [table_runner(logits, name) for logits, name in ((engine, "e"), (reference, "r"))]
        for runner in runners:
            fields = {**vars(runner.interface), "activation": activation}
            runner.interface = type(runner.interface)(**fields)
        return validate(runners[0], make_set(labels), preprocess, runners[1], options, **more)

    return run


def test_both_intervals_and_tests_are_reported(run, paired_logits):
    found = run(*paired_logits(1000, 12, 8, 900)).to_dict()
    low, high = newcombe_difference(PairedCounts(1000, 12, 8, 888)).scaled(100).interval
    assert found["drop_newcombe_ci95"] == pytest.approx([low, high])
    assert found["mcnemar_mid_p"] < found["mcnemar_p"]
    agreement = wilson(980, 1000).scaled(100)
    assert found["agreement_ci95"] == pytest.approx(list(agreement.interval))
    assert found["agreement"] == pytest.approx(98.0)


def test_a_second_opinion_is_told_only_where_it_differs(run, paired_logits):
    labels, reference, engine = paired_logits(2000, 3, 2)
    assert len(run(labels, reference, engine).reasons) == 1
    # a margin between the ends of the two intervals
    found = run(*paired_logits(400, 0, 2)).to_dict()
    edge = (found["drop_ci95"][1] + found["drop_newcombe_ci95"][1]) / 2
    judged = run(*paired_logits(400, 0, 2), ValidateOptions(max_drop_pp=edge))
    assert len(judged.reasons) == 2
    assert "Newcombe's interval" in judged.reasons[1]
    assert "Tango's decides" in judged.reasons[1]
    assert (
        f"would say {'inconclusive' if judged.verdict == 'pass' else 'pass'}" in judged.reasons[1]
    )


def test_flips_are_counted_both_ways_and_named_surest_first():
    labels = np.array([0, 0, 0, 1, 1, -1, 0])
    reference = np.array(
        [[2, 0, 0], [2, 0, 0], [2, 0, 0], [2, 0, 0], [2, 0, 0], [2, 0, 0], [0, 2, 0]], np.float32
    )
    engine = np.array(
        [[0, 1, 0], [0, 0, 9], [2, 0, 0], [0, 3, 0], [0, 0, 2], [0, 2, 0], [0, 2, 0]], np.float32
    )
    names = [f"{k}.png" for k in range(7)]
    found = flips(names, labels, reference, engine, ("cat", "dog"))
    counts = {
        kind: found[kind] for kind in ("changed", "lost", "gained", "wrong_both", "unlabelled")
    }
    assert counts == {"changed": 5, "lost": 2, "gained": 1, "wrong_both": 1, "unlabelled": 1}
    surest, other = found["examples"]["lost"]
    assert surest["image"] == "1.png"
    assert (surest["label"], surest["reference"], surest["engine"]) == ("cat", "cat", 2)
    assert surest["confidence"] == pytest.approx(100 * np.exp(9) / (np.exp(9) + 2))
    assert (other["image"], other["engine"]) == ("0.png", "dog")
    assert found["examples"]["gained"][0]["image"] == "3.png"
    assert found["examples"]["unlabelled"][0]["label"] is None


def test_an_answer_of_nan_is_a_loss_without_an_answer():
    reference = np.array([[2, 0], [2, 0]], np.float32)
    engine = np.array([[np.nan, 0], [2, 0]], np.float32)
    found = flips(["a", "b"], np.zeros(2, np.int64), reference, engine)
    assert (found["changed"], found["lost"]) == (1, 1)
    assert found["examples"]["lost"][0]["engine"] is None
    assert found["examples"]["lost"][0]["confidence"] is None


def test_only_some_examples_are_named(run, paired_logits):
    found = run(*paired_logits(300, 40, 0)).to_dict()
    assert found["flips"]["lost"] == 40
    assert len(found["flips"]["examples"]["lost"]) == 5


def test_classes_that_lost_are_named_with_holm(run):
    labels = np.repeat(np.arange(10), 30)
    reference = 5 * np.eye(10, dtype=np.float32)[labels]
    engine = reference.copy()
    engine[30:42] = 5 * np.eye(10, dtype=np.float32)[7]  # class 1 loses 12 of 30
    engine[60:62] = 5 * np.eye(10, dtype=np.float32)[7]  # class 2 loses 2
    report = run(labels, reference, engine)
    found = report.to_dict()["classes"]
    assert (found["tested"], found["few"], found["worse"]) == (10, 0, [1])
    assert [row["class"] for row in found["worst"]] == [1, 2]
    first = found["worst"][0]
    assert (first["images"], first["lost"], first["gained"]) == (30, 12, 0)
    assert first["p_holm"] == pytest.approx(10 * 2 * 0.5**12)
    assert (first["reference_top1"], first["engine_top1"]) == (100.0, 60.0)
    assert any("proven loss" in note and ": 1." in note for note in report.notes)


def test_an_original_that_only_guesses_is_told_of(run):
    labels = np.repeat(np.arange(10), 30)
    logits = 5 * np.eye(10, dtype=np.float32)[np.roll(labels, 30)]  # folders in another order
    report = run(labels, logits, logits)
    assert "no better here than guessing among 10 classes" in report.notes[0]
    right = 5 * np.eye(10, dtype=np.float32)[labels]
    assert not any("guessing" in note for note in run(labels, right, right).notes)


def test_small_classes_are_warned_about():
    labels = np.repeat([0, 1], [5, 40])
    right = np.ones(45, bool)
    found = per_class(labels, right, right, CLASSES)
    assert (found["few"], found["fewest"], found["worst"]) == (1, 20, [])
    (note,) = notes({"classes": found, "calibration": None}, "none", 10)
    assert "1 of 2 classes have fewer than 20 images" in note


def test_margins_and_divergence_shrink_with_the_logits(run, paired_logits):
    labels, reference, _ = paired_logits(500, 0, 0)
    found = run(labels, reference, reference / 2).to_dict()
    assert found["margin"] == pytest.approx(
        {"reference": 5.0, "engine": 2.5, "change": -2.5, "change_p5": -2.5}
    )
    p, q = (np.exp(z) / (np.exp(z) + 9) for z in (5.0, 2.5))
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert found["kl_nats"] == pytest.approx(expected, rel=1e-5)
    assert found["kl_max_nats"] == pytest.approx(expected, rel=1e-5)


def test_an_overconfident_engine_is_noticed(run):
    random = np.random.default_rng(0)
    labels = np.arange(1500) % 10
    shown = np.where(random.random(1500) < 0.7, labels, (labels + 1) % 10)
    reference = np.log(0.7 / (0.3 / 9)) * np.eye(10, dtype=np.float32)[shown]
    report = run(labels, reference, 2 * reference)
    found = report.to_dict()["calibration"]
    assert found["softmax"] == "supposed"
    assert found["reference"]["ece_pp"] < 3
    assert found["engine"]["ece_pp"] > 20
    assert found["change_ci95"][0] > 15
    assert found["change_pp"] == pytest.approx(
        found["engine"]["ece_pp"] - found["reference"]["ece_pp"]
    )
    assert any("less to be trusted" in note for note in report.notes)
    assert report.verdict == "pass"  # top-1 did not fall


@pytest.mark.parametrize(
    ("activation", "said"),
    [("softmax", "recorded"), ("log_softmax", "recorded"), ("none", "supposed")],
)
def test_calibration_error_says_whose_softmax(run, paired_logits, activation, said):
    found = run(*paired_logits(100, 1, 0), activation=activation).to_dict()
    assert found["calibration"]["softmax"] == said


@pytest.mark.parametrize("activation", ["sigmoid", "op_norm"])
def test_independent_labels_have_no_calibration_of_a_softmax(run, paired_logits, activation):
    labels, reference, engine = paired_logits(100, 1, 0)
    report = run(labels, reference, engine, activation=activation)
    found = report.to_dict()
    assert found["calibration"] is None
    assert "independent labels" in report.notes[0]
    said = [1 / (1 + np.exp(-z)) for z in (0.0, 5.0)]
    swap = sum(
        p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)) for p, q in (said, said[::-1])
    )
    assert found["kl_nats"] == pytest.approx(swap / 100)


def test_broken_logits_leave_the_rest_standing(run, paired_logits):
    labels, reference, engine = paired_logits(100, 1, 0)
    engine[50] = np.inf
    found = json.loads(json.dumps(run(labels, reference, engine).to_dict(), allow_nan=False))
    for key in ("kl_nats", "kl_max_nats", "margin", "calibration"):
        assert found[key] is None
    assert found["flips"]["lost"] == 2


def test_one_output_has_no_margin_and_no_calibration():
    labels, ones = np.zeros(3, np.int64), np.ones((3, 1), np.float32)
    assert calibration(labels, ones, ones, "none") is None


def test_without_a_reference_only_calibration_is_left(
    make_set, table_runner, preprocess, paired_logits
):
    labels, _, engine = paired_logits(100, 10, 0)
    found = validate(table_runner(engine, "e"), make_set(labels), preprocess, None).to_dict()
    assert found["flips"] is found["classes"] is found["margin"] is found["kl_nats"] is None
    assert found["calibration"]["reference"] is None
    assert found["calibration"]["engine"]["ece_pp"] > 0


def test_names_of_images_and_classes_come_from_the_set(
    tmp_path, table_runner, preprocess, paired_logits
):
    from PIL import Image

    from edgedense.data import load_set

    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([[k, 0], [0, 0]], np.uint8)).save(tmp_path / name / f"{k}.png")
    right = 5 * np.eye(2, dtype=np.float32)
    wrong = right[::-1].copy()
    images = load_set(tmp_path)
    found = validate(
        table_runner(wrong, "e"), images, preprocess, table_runner(right, "r")
    ).to_dict()
    lost = {row["image"]: row for row in found["flips"]["examples"]["lost"]}
    assert set(lost) == {item.name for item in images.items}
    assert {(row["label"], row["engine"]) for row in lost.values()} == {
        ("cat", "dog"),
        ("dog", "cat"),
    }


def test_markdown_tells_the_verdict_first_and_escapes_names(run, paired_logits):
    report = run(*paired_logits(500, 30, 0))
    found = report.to_dict()
    found["flips"]["examples"]["lost"][0]["image"] = "<img src=x>|`a`_b.png"
    said = markdown("engines/orin", found)
    lines = said.splitlines()
    assert lines[0] == "### ❌ edgedense: engines/orin: fail"
    assert "| top-1 | 100.00 % | 94.00 % |" in lines
    assert "<img" not in said
    assert "`" not in said
    assert all(line.count("|") in (4, 5, 6) for line in lines if line.startswith("|"))
    assert "not judged" in markdown("e", {"error": "no such file", "remedy": "Check."})
