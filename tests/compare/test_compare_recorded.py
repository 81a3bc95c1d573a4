"""Verdicts from what was recorded, on a desk without a GPU: artifacts in, answer out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_made import engine, measured, timed, validated

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.compare import Terms, VerdictReport, compare_recorded
from edgedense.compare.recorded import read_measured
from edgedense.errors import InputError
from edgedense.validate import (
    Gates,
    Measurement,
    SegmentationMeasurement,
    ValidateReport,
    judge,
    write_report,
)


class Desk:
    """Two engines and what was measured of them."""

    def __init__(self, root: Path, int8: Measurement, fp16: Measurement) -> None:
        self.root = root
        self.int8, self.fp16 = engine(root / "int8", "int8"), engine(root / "fp16", "fp16")
        self.first = validated(root / "v8", self.int8, int8)
        self.second = validated(root / "v16", self.fp16, fp16)

    def timed(self, *speedup: float) -> Artifact:
        low, value, high = speedup
        return timed(self.root / "bench", self.int8, self.fp16, (value, low, high))

    def answer(self, latency: Artifact | None, **terms: float) -> VerdictReport:
        return compare_recorded(self.first, self.second, latency, Terms(**terms))


def test_int8_ships_where_it_holds_and_is_faster(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    found = desk.answer(desk.timed(1.4, 1.5, 1.6))
    assert (found.verdict, found.exit_code, found.rehearsal) == ("ship INT8", 0, False)
    assert found.between.lost == 3
    assert found.candidate.energy_mj == 9.0
    assert found.incumbent.energy_mj == 14.0


def test_fp16_ships_where_int8_is_not_faster(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    found = desk.answer(desk.timed(0.9, 0.95, 0.99))
    assert (found.verdict, found.ship, found.exit_code) == ("ship FP16", "FP16", 0)


def test_fp16_ships_where_int8_loses_too_much_however_fast(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(100), measured(1))
    assert desk.answer(desk.timed(2.9, 3.0, 3.1)).verdict == "ship FP16"


def test_neither_ships_where_both_lose_too_much(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(100), measured(90))
    found = desk.answer(desk.timed(1.4, 1.5, 1.6))
    assert (found.verdict, found.ship, found.exit_code) == ("ship neither", None, 1)


def test_few_images_are_not_enough_and_how_many_would_be_is_said(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(1, images=200), measured(0, images=200))
    found = desk.answer(desk.timed(1.4, 1.5, 1.6))
    assert (found.verdict, found.exit_code) == ("not enough evidence", 1)
    assert any("images cannot decide; about" in reason for reason in found.decision.reasons)
    assert found.decision.settle
    assert desk.answer(None, max_drop_pp=20.0).verdict == "not enough evidence"  # no speed


def test_the_order_of_arguments_does_not_matter(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    latency = timed(tmp_path / "bench", desk.fp16, desk.int8, (0.5, 0.4, 0.8))  # FP16 first
    straight = desk.answer(latency).to_dict()
    turned = compare_recorded(desk.second, desk.first, latency, Terms()).to_dict()
    assert straight == turned
    assert straight["labels"] == ["INT8", "FP16"]
    assert straight["speedup"] == pytest.approx(2.0)
    assert straight["speedup_ci95"] == pytest.approx([1.25, 2.5])
    assert straight["latency"]["candidate"]["p50_ms"] == 3.0


def test_engines_that_lie_elsewhere_are_called_by_their_directories(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    (tmp_path / "far").mkdir()
    desk.first.path.rename(tmp_path / "far" / "v8")
    desk.first = artifact.read(tmp_path / "far" / "v8")
    found = desk.answer(desk.timed(1.4, 1.5, 1.6))
    assert found.labels == ("v8", "fp16")
    assert found.verdict == "ship v8"


def test_unstable_latencies_are_a_caution_and_no_veto(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    latency = timed(tmp_path / "b", desk.int8, desk.fp16, stable=False, reasons=["clocks changed"])
    found = desk.answer(latency)
    assert found.verdict == "ship INT8"
    assert any("INT8 alone were unstable" in note for note in found.notes)


def test_cpu_is_called_a_rehearsal(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    cpu = [engine(tmp_path / name, name[1:], "cpu") for name in ("_int8", "_fp32")]
    sides = [validated(tmp_path / f"w{number}", one, measured(1)) for number, one in enumerate(cpu)]
    found = compare_recorded(*sides, timed(tmp_path / "b", *cpu), Terms())
    assert found.rehearsal
    assert "rehearsal" in found.notes[-1]
    assert not desk.answer(None).rehearsal


def test_measurements_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1, images=10))
    with pytest.raises(InputError, match="different images"):
        desk.answer(None).to_dict()
    third = engine(tmp_path / "third", "int4")
    with pytest.raises(InputError, match="other engines"):
        desk.answer(timed(tmp_path / "b", desk.int8, third))
    with artifact.create(tmp_path / "one", "benchmark", parents={}, options={}) as draft:
        draft.report = {"p50_ms": 1.0}
    with pytest.raises(InputError, match="one engine alone"):
        desk.answer(artifact.read(tmp_path / "one"))


@pytest.mark.parametrize("speedup", [(0.0, 1.0, 1.0), (1.0, 1.0, 1e400), (1.0, "x", 1.0)])
def test_a_damaged_benchmark_is_refused(tmp_path: Path, speedup: Any) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    latency = desk.timed(1.4, 1.5, 1.6)
    latency.manifest.report["speedup_ci95"] = list(speedup[1:])
    latency.manifest.report["speedup"] = speedup[0]
    with pytest.raises(InputError):
        desk.answer(latency)


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_damaged_predictions_are_refused(tmp_path: Path, data: bytes) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    with artifact.create(
        tmp_path / "bad", "validate", parents=desk.first.manifest.parents, options={}
    ) as draft:
        (draft.path / "predictions.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"predictions\.npz"):
        compare_recorded(artifact.read(tmp_path / "bad"), desk.second, None, Terms())


def test_predictions_of_differing_numbers_are_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    with artifact.create(
        tmp_path / "bad", "validate", parents=desk.first.manifest.parents, options={}
    ) as draft:
        arrays: dict[str, Any] = {
            "content": np.array(["a", "b"]),
            "labels": np.zeros(3, np.int64),
            "engine_logits": np.zeros((2, 3), np.float32),
        }
        np.savez(draft.path / "predictions.npz", **arrays)
    with pytest.raises(InputError, match="differ in number"):
        compare_recorded(artifact.read(tmp_path / "bad"), desk.second, None, Terms())


def test_the_command_answers_and_writes(tmp_path: Path, edgedense: Callable[..., Any]) -> None:
    desk = Desk(tmp_path, measured(4), measured(1))
    desk.timed(1.4, 1.5, 1.6)
    words = ("compare", tmp_path / "v8", tmp_path / "v16", "--latency", tmp_path / "bench")
    ended = edgedense(*words, "-o", tmp_path / "answer")
    assert ended.code == 0
    assert "verdict: SHIP INT8" in ended.err
    assert "INT8 is 1.50 times as fast as FP16" in ended.err
    kept = artifact.read(tmp_path / "answer").manifest
    assert kept.report["verdict"] == "ship INT8"
    assert kept.parents["first"] == desk.first.sha256
    assert json.loads(edgedense(*words, "--json").out) == kept.report


def test_the_command_exits_1_without_an_answer(
    tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    Desk(tmp_path, measured(4), measured(1))
    ended = edgedense("compare", tmp_path / "v8", tmp_path / "v16", "--json")
    assert ended.code == 1
    assert json.loads(ended.out)["ship"] is None


def test_what_cannot_be_compared_says_what_can(
    tmp_path: Path, edgedense: Callable[..., Any]
) -> None:
    Desk(tmp_path, measured(4), measured(1))
    int8, fp16, v8 = tmp_path / "int8", tmp_path / "fp16", tmp_path / "v8"
    for words, what in (
        ((int8, v8), "Give two engines (with --data), two validate artifacts"),
        ((int8, fp16), "--data SET"),
        ((v8, tmp_path / "v16", "--data", tmp_path), "Leave them away"),
        ((v8, tmp_path / "v16", "--latency", v8), "not one of benchmark"),
        ((v8, tmp_path / "nothing"), "does not exist"),
    ):
        ended = edgedense("compare", *words)
        assert ended.code == 2
        assert what in "\n".join(ended.error)


def test_segmentation_is_read_back_as_it_was_measured(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(10, 50, (20, 2))
    sides = [truth - random.integers(0, most, (20, 2)) for most in (1, 9)]
    pixels = [np.stack([hit, truth, hit + (truth - hit)[:, ::-1]], axis=1) for hit in sides]
    confusions = [np.zeros((2, 3), np.int64)] * 2
    found = SegmentationMeasurement(
        tuple(f"{number:064x}" for number in range(20)),
        *(("a", "b"), (), 12, 0),
        *(pixels[1], confusions[1], pixels[0], confusions[0]),
        agreeing=np.full(20, 9),
    )
    gates = Gates(1.0)
    write_report(
        tmp_path / "v",
        ValidateReport("tensorrt", "FP32", found, gates, judge(found, gates)),
        parents={"engine": "0" * 64},
        options={},
        preprocess={"input_size": [3, 4]},
    )
    again = read_measured(artifact.read(tmp_path / "v"))
    assert isinstance(again, SegmentationMeasurement)
    assert again.drop == found.drop
    assert again.engine == found.engine
    assert again.agreement == found.agreement == 75.0
