"""An accuracy budget leaves what it must in floating point, and nothing else."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import trained
from PIL import Image

from edgedense import artifact
from edgedense.data import ImageSet, Item, Preprocess, load_preprocess, load_set
from edgedense.densenet.checkpoints import Model, load_model
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.engines.pytorch import interface_of
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.graph.lower import lower
from edgedense.graph.nodes import GlobalPool, Graph, Linear
from edgedense.graph.run import GraphRunner
from edgedense.progress import SILENT
from edgedense.quantize import QuantizeOptions, QuantizeReport, quantize
from edgedense.quantize.budget import candidates, fewest, meet_budget
from edgedense.quantize.forks import Loss
from edgedense.quantize.labelled import Judge, labelled_set
from edgedense.quantize.place import place_conv
from edgedense.quantize.sensitivity import Row, Sensitivity
from edgedense.stats import PairedCounts, mean_iou, paired_difference

SPOILT = "transition1.conv"
TEN = Interface("images", (3, 8, 8), "logits", (10,), None)


def spoilt(path: Path, destination: Path) -> Path:
    """The same function, but INT8 destroys one layer.

    A channel that its BN and ReLU make zero has weights that leave the others no step.
    """
    weights = torch.load(path, weights_only=True)
    for name, value in (("weight", 0.0), ("bias", -1.0)):
        weights[f"features.transition1.norm.{name}"][0] = value
    conv = weights["features.transition1.conv.weight"]
    conv[:, 0] = 300 * conv.abs().max()
    torch.save(weights, destination)
    return destination


@pytest.fixture(scope="module")
def checkpoint(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoilt(tiny.checkpoint, tmp_path_factory.mktemp("spoilt") / "net.pth")


@pytest.fixture
def run(tiny: Any, tmp_path: Path) -> Callable[..., QuantizeReport]:
    def call(path: Path, evaluation: bool = True, **options: Any) -> QuantizeReport:
        wanted = QuantizeOptions(
            effort="fast", **{"images": 64, "rest": "fp32", "sensitivity_images": 16} | options
        )
        return quantize(
            load_model(path),
            load_set(tiny.train),
            load_preprocess(str(tiny.toml)),
            tmp_path / "out",
            wanted,
            evaluation=load_set(tiny.test) if evaluation else None,
        )

    return call


@pytest.mark.parametrize("placement", ["conv", "block"])
def test_exactly_the_layer_that_int8_destroys_is_left(
    placement: str, checkpoint: Path, tiny: Any, run: Callable[..., QuantizeReport], tmp_path: Path
) -> None:
    found = run(checkpoint, placement=placement, int8_stem=True, max_drop_pp=5)
    assert found.skipped == (SPOILT,)
    assert found.float_concats == ()
    budget = found.budget
    assert budget is not None
    assert [left.name for left in budget.left_in_float] == [SPOILT]
    assert "% of the noise" in budget.left_in_float[0].reason
    assert budget.images == 180
    assert budget.source == f"evaluation images of {tiny.test}"
    assert (budget.budget_pp, budget.metric) == (5, "top-1")
    assert budget.int8_drop_ci95[1] > 5 >= budget.drop_ci95[1]
    assert budget.fp32 > 90
    record = json.loads(artifact.read(tmp_path / "out").data("calibration.json"))
    assert record["budget"] == json.loads(json.dumps(budget.to_dict()))

    # what is told is what a validation of the file finds
    from edgedense.engines.onnxruntime import OnnxRunner
    from edgedense.engines.pytorch import reference_runner
    from edgedense.validate import measure

    interface = interface_of(load_model(checkpoint).spec, (8, 8))
    made = artifact.read(tmp_path / "out")
    measured = measure(
        OnnxRunner(made.file("int8.fp32.onnx"), interface),
        load_set(tiny.test),
        load_preprocess(str(tiny.toml)),
        reference_runner(load_model(checkpoint).network, (8, 8)),
    )
    assert measured.drop is not None
    assert measured.drop.value == pytest.approx(budget.drop_pp, abs=100 / 180 + 1e-9)
    assert measured.reference is not None
    assert measured.reference.top1 == pytest.approx(budget.fp32)
    assert sum(len(i.shape) == 4 and i.dtype == np.int8 for i in weights_of(made)) == (
        found.quantized - 1
    )


def weights_of(made: artifact.Artifact) -> Iterator[np.ndarray[Any, Any]]:
    import onnx

    for entry in onnx.load(made.file("int8.fp32.onnx")).graph.initializer:
        yield onnx.numpy_helper.to_array(entry)


def test_a_budget_that_holds_leaves_nothing_and_measures_no_sensitivity(
    tiny: Any, run: Callable[..., QuantizeReport]
) -> None:
    found = run(tiny.checkpoint, evaluation=False, max_drop_pp=10)
    assert found.budget is not None
    assert found.skipped == found.float_concats == found.budget.left_in_float == ()
    assert found.sensitivity is None
    assert found.budget.placements == 1
    assert (found.budget.drop_pp, found.budget.drop_ci95) == (
        found.budget.int8_drop_pp,
        found.budget.int8_drop_ci95,
    )
    assert found.budget.source == f"calibration images of {tiny.train}"
    assert found.budget.images == 64
    assert "--eval" in found.budget.note


def test_what_was_skipped_stays_skipped(
    checkpoint: Path, run: Callable[..., QuantizeReport]
) -> None:
    found = run(checkpoint, max_drop_pp=5, skip=("conv0",), sensitivity=True)
    assert found.skipped == ("conv0", SPOILT)
    assert found.sensitivity is not None
    assert "conv0" not in {row.reader for row in found.sensitivity.rows}
    assert found.sensitivity.worst(1)[0].name == SPOILT


def test_a_skipped_culprit_needs_nothing_more(
    checkpoint: Path, run: Callable[..., QuantizeReport]
) -> None:
    found = run(checkpoint, max_drop_pp=5, skip=(SPOILT,))
    assert found.skipped == (SPOILT,)
    assert found.budget is not None
    assert found.budget.left_in_float == ()


def test_evaluation_images_must_not_be_calibration_images(tiny: Any, tmp_path: Path) -> None:
    images = load_set(tiny.train)
    with pytest.raises(InputError, match="calibration images are evaluation images too"):
        quantize(
            load_model(tiny.checkpoint),
            images,
            load_preprocess(str(tiny.toml)),
            tmp_path / "out",
            QuantizeOptions(effort="fast", images=64, max_drop_pp=10),
            evaluation=images,
        )
    assert list(tmp_path.iterdir()) == []


def numbered(tmp_path: Path, labels: list[int]) -> ImageSet:
    path = tmp_path / f"{len(labels)}.npz"
    np.savez(path, images=np.zeros((len(labels), 8, 8, 3), np.uint8), labels=np.array(labels))
    return load_set(path)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.1, 60))
def test_sets_are_taken_that_could_show_the_budget_and_no_others(budget_pp: float) -> None:
    """Against Tango's interval of a network that answers as its reference does."""

    def fails(n: int) -> bool:
        return 100 * paired_difference(PairedCounts(n, 0, 0)).high > budget_pp + 1e-9

    def taken(n: int) -> bool:
        items = tuple(Item(k, k % 10, str(k)) for k in range(n))
        try:
            return labelled_set(ImageSet("x", items), None, TEN, budget_pp) is not None
        except InputError as error:
            assert f"{n:,} labelled calibration images cannot show it" in error.what
            assert f"--images {least}" in error.remedy
            return False

    least = 1 + bisect_left(range(1, 10_000), True, key=lambda n: not fails(n))
    assert taken(least)
    assert least == 1 or not taken(least - 1)


def test_sets_without_labels_or_of_other_classes(tmp_path: Path) -> None:
    some = numbered(tmp_path, [k % 10 for k in range(500)])
    with pytest.raises(InputError, match="has no labels") as caught:
        labelled_set(numbered(tmp_path, [-1] * 20), None, TEN, 5)
    assert "--eval" in caught.value.remedy
    with pytest.raises(InputError, match="label 9, but the model's 3 outputs"):
        labelled_set(some, None, replace(TEN, output_shape=(3,)), 5)
    with pytest.raises(InputError, match="has no masks"):
        labelled_set(some, None, replace(TEN, output_shape=(3, 8, 8)), 5)
    with pytest.raises(InputError, match="20 labelled evaluation images cannot show it") as caught:
        labelled_set(some, numbered(tmp_path, [1] * 20 + [-1] * 900), TEN, 5)
    assert "--images" not in caught.value.remedy
    found = labelled_set(numbered(tmp_path, [1] * 100 + [-1] * 50), None, TEN, 5)
    assert found is not None
    assert len(found.images) == 100
    assert labelled_set(numbered(tmp_path, [-1]), None, TEN, None) is None


@pytest.mark.parametrize("budget_pp", [0, -1, 101, float("nan"), float("inf")])
def test_budgets_that_are_none(budget_pp: float) -> None:
    with pytest.raises(InputError, match="a budget is above 0"):
        QuantizeOptions(max_drop_pp=budget_pp)


@settings(max_examples=200)
@given(st.data())
def test_fewest_finds_what_is_needed(data: st.DataObject) -> None:
    order = [str(k) for k in range(data.draw(st.integers(1, 40)))]
    needed = frozenset(data.draw(st.lists(st.sampled_from(order), min_size=1)))
    asked: list[frozenset[str]] = []

    def meets(chosen: frozenset[str]) -> bool:
        asked.append(chosen)
        return needed <= chosen

    found = fewest(order, meets)
    last = max(order.index(name) for name in needed)
    # all before the last that is needed, less those of the eight before it that are not
    idle = set(order[max(0, last - 8) : last]) - needed
    assert found == set(order[: last + 1]) - idle
    assert len(set(asked)) == len(asked)
    assert frozenset() not in asked
    assert len(asked) <= 2 * np.ceil(np.log2(len(order) + 1)) + 8


def test_candidates_join_a_layers_input_and_weights() -> None:
    rows = (
        Row("activation", "a", "b1.layer1.conv", "b1", 1, Loss(30.0, 1, 0.1)),
        Row("weight", "b1.layer1.conv", "b1.layer1.conv", "b1", 1, Loss(30.0, 2, 0.2)),
        Row("activation", "x", "c", None, None, Loss(28.0, 0, 0.0)),
        Row("concat", "b1", None, "b1", None, Loss(20.0, 4, 0.0)),
    )
    found = candidates(Sensitivity(10, Loss(19.0, 4, 0.0), rows))
    assert [(c.kind, c.name, c.flips) for c in found] == [
        ("concat", "b1", 4),
        ("layer", "b1.layer1.conv", 3),
        ("layer", "c", 0),
    ]
    assert found[1].noise == pytest.approx(2e-3)
    assert sum(c.share for c in found) == pytest.approx(1)
    assert "27.0 dB, 3 answers changed on 10 images" in found[1].reason
    broken = replace(rows[2], loss=Loss(None, 10, 1.0))
    first = candidates(Sensitivity(10, Loss(None, 4, 0.0), (*rows[:2], broken)))[0]
    assert (first.name, first.share) == ("c", 1.0)
    assert "no finite logits" in first.reason


def ramp(tmp_path: Path, count: int = 200) -> ImageSet:
    """Image i is i everywhere; the upper half is of class 1."""
    values = np.arange(count, dtype=np.uint8)
    pixels = np.broadcast_to(values[:, None, None], (count, 4, 4))
    np.savez(tmp_path / "ramp.npz", images=pixels, labels=(values >= count // 2).astype(np.int64))
    return replace(load_set(tmp_path / "ramp.npz"), class_names=("dark", "light"))


def above(threshold: float) -> Graph:
    """Class 1 where the mean of an image is above ``threshold`` of 255."""
    weight = np.array([[0.0], [1.0]], np.float32)
    bias = np.array([0.0, -threshold / 255], np.float32)
    nodes = (GlobalPool("mean", "images"), Linear("logits", "mean", weight, bias))
    return Graph("images", (1, 4, 4), nodes)


@pytest.mark.parametrize(
    ("budget_pp", "left"),
    [
        (10, ()),  # 10 of 200 wrong: drop 5 pp, up to 9.0 for sure
        (8, ("a",)),  # 4 wrong: 2 pp, up to 5.0
        (5.05, ("a",)),
        (4.9, ("a", "b")),  # where the drop itself, 2 pp, would do
        (2.8, ("a", "b")),  # 1 wrong: up to 2.78
        (2.7, ("a", "b", "c")),
    ],
)
def test_the_upper_end_of_the_interval_must_meet_the_budget(
    budget_pp: float, left: tuple[str, ...], tmp_path: Path
) -> None:
    wrong = {"a": 6, "b": 3, "c": 1}
    pre = Preprocess("x", (4, 4), None, (0.0,), (1.0,), "bilinear", "L")
    interface = Interface("images", (1, 4, 4), "logits", (2,), None)
    labelled = labelled_set(ramp(tmp_path), None, interface, budget_pp)
    assert labelled is not None
    rows = tuple(
        Row("weight", name, name, None, None, Loss(30.0 - lost, 0, 0.0))
        for name, lost in wrong.items()
    )

    def place(kept: frozenset[str]) -> Graph:
        return above(99.5 + sum(lost for name, lost in wrong.items() if name not in kept))

    found, budget = meet_budget(
        above(99.5), place, budget_pp, labelled, pre, lambda: Sensitivity(1, rows[0].loss, rows)
    )
    assert found == set(left)
    assert [one.name for one in budget.left_in_float] == list(left)
    lost = 10 - sum(wrong[name] for name in left)
    wanted = paired_difference(PairedCounts(200, lost, 0)).scaled(100)
    assert (budget.drop_pp, budget.drop_ci95) == (wanted.value, wanted.interval)
    assert wanted.high <= budget_pp
    whole = paired_difference(PairedCounts(200, 10, 0)).scaled(100)
    assert (budget.int8_drop_pp, budget.int8_drop_ci95) == (whole.value, whole.interval)
    assert budget.fp32 == 100


SEGMENTED = FCDenseNetSpec.build([2, 2], 2, 4, num_classes=2, stem_width=6, dropout=0.0)


@pytest.fixture
def masks(tmp_path: Path) -> tuple[ImageSet, Preprocess]:
    """Images whose masks are what the FP32 network says: its mean IoU is 100 %."""
    from edgedense.data import batches

    random = np.random.default_rng(3)
    root = tmp_path / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    pre = Preprocess("x", (16, 16), None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
    for k in range(40):
        pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{k:02}.png")
    network = trained(SEGMENTED)
    alone = load_set(root / "images")
    with torch.inference_mode():
        for batch in batches(alone, pre, 40):
            answers = network(torch.from_numpy(batch.images)).argmax(1).numpy().astype(np.uint8)
            for k, answer in enumerate(answers):
                Image.fromarray(answer).save(root / "masks" / f"{k:02}.png")
    return load_set(root), pre


def test_a_segmentation_network_is_judged_by_masks(
    masks: tuple[ImageSet, Preprocess], tmp_path: Path
) -> None:
    images, pre = masks
    network = trained(SEGMENTED)
    model = Model(network, "torchvision", "0" * 64, Path("m.pth"))
    options = QuantizeOptions(
        rest="fp32",
        effort="fast",
        placement="block",
        int8_stem=True,
        max_drop_pp=1.5,
        sensitivity_images=8,
    )
    found = quantize(model, images, pre, tmp_path / "out", options)
    budget = found.budget
    assert budget is not None
    assert (budget.metric, budget.images) == ("mIoU", 40)
    assert budget.fp32 == pytest.approx(100)
    assert budget.int8_drop_ci95[1] > 1.5 >= budget.drop_ci95[1]
    assert 0 < len(budget.left_in_float) == len(found.skipped) + len(found.float_concats)
    assert found.sensitivity is not None
    assert found.sensitivity.everything.flips_share == pytest.approx(
        found.sensitivity.everything.flips / (8 * 256)
    )
    # INT8 with these left, run by ONNX Runtime
    from edgedense.engines.onnxruntime import OnnxRunner
    from edgedense.validate.masks import measure_segmentation

    made = artifact.read(tmp_path / "out")
    runner = OnnxRunner(made.file("int8.fp32.onnx"), interface_of(SEGMENTED, (16, 16)))
    pixels = measure_segmentation(runner, images, pre, None).engine_pixels.sum(axis=0)
    assert 100 * (1 - mean_iou(pixels)) == pytest.approx(budget.drop_pp, abs=0.3)
    few = replace(images, items=images.items[:9])
    with pytest.raises(InputError, match="9 labelled evaluation images cannot show it"):
        quantize(model, images, pre, tmp_path / "few", options, evaluation=few)


class AsEngine:
    """A graph as validation takes it."""

    def __init__(self, graph: Graph, interface: Interface) -> None:
        self.name, self.interface, self._run = "graph", interface, GraphRunner(graph)

    def __call__(self, x: Any) -> Any:
        return self._run(x)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("void", [(), (0,)])
def test_a_drop_by_masks_is_that_of_a_validation(
    void: tuple[int, ...], masks: tuple[ImageSet, Preprocess]
) -> None:
    from edgedense.validate.masks import measure_segmentation

    images, pre = masks[0].ignoring(void), masks[1]
    graph, interface = lower(trained(SEGMENTED), (16, 16)), interface_of(SEGMENTED, (16, 16))
    scales = {node.input: 0.05 for node in graph.weighted()}
    placed = place_conv(graph, scales)
    labelled = labelled_set(images, None, interface, 5)
    assert labelled is not None
    found = Judge(graph, lambda _: placed, labelled, pre, SILENT).drop(frozenset())
    wanted = measure_segmentation(
        AsEngine(placed, interface), images, pre, AsEngine(graph, interface), batch_size=32
    ).drop
    assert found == wanted
    assert found.value > 0.1


def test_void_masks_judge_nothing(masks: tuple[ImageSet, Preprocess]) -> None:
    images, pre = masks
    graph, interface = lower(trained(SEGMENTED), (16, 16)), interface_of(SEGMENTED, (16, 16))
    labelled = labelled_set(images.ignoring((0, 1)), None, interface, 5)
    assert labelled is not None
    with pytest.raises(InputError, match="all but 0 masks are void everywhere"):
        Judge(graph, lambda _: graph, labelled, pre, SILENT)


def test_the_command_line(
    tiny: Any, checkpoint: Path, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["quantize", checkpoint, "--calib", tiny.train, "--preprocess", tiny.toml]
    words += ["--images", 64, "--rest", "fp32", "--effort", "fast", "--sensitivity-images", 16]
    evaluation = ["--eval", tiny.test, "--max-drop", 5]
    ended = edgedense(*words, *evaluation, "-o", tmp_path / "a", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["skipped"] == [SPOILT]
    assert [left["name"] for left in found["budget"]["left_in_float"]] == [SPOILT]
    assert found["sensitivity"]["worst"][0]["name"] == SPOILT
    assert found == artifact.read(tmp_path / "a").manifest.report
    assert "accuracy budget 5 pp: 180 evaluation images" in ended.err
    assert "can show is 2.09 pp" in ended.err

    ended = edgedense(*words, *evaluation, "-o", tmp_path / "b")
    assert ended.code == 0
    assert "1 left in fp32" in ended.err
    assert f"{SPOILT} (layer): alone in INT8" in ended.err
    assert f"met on 180 evaluation images of {tiny.test}" in ended.err

    ended = edgedense(*words, "--max-drop", 1, "-o", tmp_path / "c")
    assert ended.code == 2
    assert "64 labelled calibration images cannot show it" in ended.error[0]
    assert "--images 381, or --eval SET with 381 labelled images" in ended.error[1]
    assert edgedense(*words, "--max-drop", 0, "-o", tmp_path / "c").code == 2
    assert not (tmp_path / "c").exists()
