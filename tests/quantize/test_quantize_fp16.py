"""FP16 between the INT8 parts: what does not fit is found at export, by real images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import grey_set, logits, relative_error, specs, tiny, tiramisus, trained
from nets import images as noise

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches, load_set
from edgedense.densenet.checkpoints import Model
from edgedense.errors import InputError
from edgedense.graph.lower import lower
from edgedense.graph.nodes import FP16_MAX, Graph
from edgedense.graph.run import GraphRunner
from edgedense.quantize import QuantizeOptions, draw_calibration, quantize
from edgedense.quantize.float_range import Extent, Reach, check_fp16, facts, moved_extents
from edgedense.quantize.fullrange import move
from edgedense.quantize.migrate import migratables
from edgedense.quantize.pixels import exact_pixels
from edgedense.quantize.prepare import prepare

SIZE = (8, 8)
SPEC = tiny((2, 1), 4, in_channels=1)
GREY = Preprocess("tiny", SIZE, None, (0.5,), (0.25,), "bilinear", "L")
INNER = "denseblock1.denselayer2.conv1"
PLACEMENTS = ("conv", "block")


def options(**changes: Any) -> QuantizeOptions:
    """Effort ``fast``: migration changes what is inside, and these tests count on it."""
    return replace(QuantizeOptions(images=24, effort="fast"), **changes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return grey_set(tmp_path_factory.mktemp("images"), 24, SIZE)


def peaks(graph: Graph, x: Any) -> dict[str, float]:
    """The largest magnitude of every value, by running the graph and looking at all of them."""
    found: dict[str, float] = {}
    GraphRunner(graph)(x, lambda name, value: found.update({name: float(value.abs().max())}))
    return found


def scaled(factor: float) -> Model:
    """The same function, but behind one BN within a layer all is ``factor`` times as large."""
    network = trained(SPEC)
    layer = network.features.denseblock1.denselayer2
    layer.norm2.weight.data *= factor
    layer.norm2.bias.data *= factor
    layer.conv2.weight.data /= factor
    return Model(network, "torchvision", "0" * 64, Path("model.pth"))


@pytest.fixture(scope="module")
def usual(images: ImageSet) -> float:
    """How large that value is, unscaled, on all calibration images."""
    x = next(iter(batches(images, GREY, 24))).images
    return peaks(lower(trained(SPEC), SIZE), x)[INNER]


def test_scaling_leaves_the_function_alone() -> None:
    x = noise(SPEC, SIZE)
    wanted = logits(trained(SPEC), x)
    assert relative_error(wanted, logits(scaled(2.0**15).network, x)) < 1e-5


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_overflow_is_refused_with_the_nodes_name_and_fits_into_fp32(
    placement: Any, usual: float, images: ImageSet, tmp_path: Path
) -> None:
    model = scaled(1.01 * FP16_MAX / usual)
    with pytest.raises(InputError) as caught:
        quantize(model, images, GREY, tmp_path / "x", options(placement=placement))
    # 1.01 of the largest in FP32, and a little more with the noise of INT8
    assert re.match(rf"{INNER}: values of 6\.6\de\+04 on calibration images", caught.value.what)
    assert caught.value.remedy == "Keep the other operators in FP32: --rest fp32."
    assert list(tmp_path.iterdir()) == []

    whole = options(placement=placement, rest="fp32")
    report = quantize(model, images, GREY, tmp_path / "x", whole)
    plain = quantize(scaled(1.0), images, GREY, tmp_path / "plain", whole)
    assert report.sqnr_db == pytest.approx(plain.sqnr_db, abs=1.0)
    assert report.warnings == ()
    found = json.loads(artifact.read(tmp_path / "x").file("calibration.json").read_text())
    for kind in ("plain", "int8"):
        assert found["float_range"][kind]["largest_at"] == INNER
        assert found["float_range"][kind]["largest"] == pytest.approx(1.01 * FP16_MAX, rel=0.05)


@pytest.mark.parametrize(("share", "warns"), [(0.7, True), (0.55, True), (0.45, False)])
def test_what_comes_near_is_a_warning(
    share: float, warns: bool, usual: float, images: ImageSet, tmp_path: Path
) -> None:
    model = scaled(share * FP16_MAX / usual)
    report = quantize(model, images, GREY, tmp_path / "x", options())
    assert [line.partition(":")[0] for line in report.warnings] == [INNER] * warns
    assert artifact.read(tmp_path / "x").manifest.report["warnings"] == list(report.warnings)


def test_one_image_among_all_is_enough(images: ImageSet, tmp_path: Path) -> None:
    """All calibration images count, not only the few whose logits are compared."""
    pixels = np.full((96, *SIZE), 128, np.uint8)
    pixels[:, 0, :3] = np.arange(96 * 3).reshape(96, 3) % 5
    pixels[:, 4:] = np.arange(96)[:, None, None] % 7 + 125
    pixels[66] = np.random.default_rng(1).integers(0, 2, SIZE) * 255
    np.savez(tmp_path / "c.npz", images=pixels)
    many = load_set(tmp_path / "c.npz")
    sample = draw_calibration(many, options(images=96))
    x = next(iter(batches(sample, GREY, 96))).images
    graph = lower(trained(SPEC), SIZE)
    row = int(np.argmax([np.abs(image).mean() for image in x]))
    assert row % 3  # every third is one of the 32 whose logits are compared
    rest = peaks(graph, np.delete(x, row, 0))[INNER]
    alone = peaks(graph, x[row : row + 1])[INNER]
    assert alone > 1.1 * rest
    model = scaled(1.05 * FP16_MAX / alone)
    with pytest.raises(InputError, match=rf"{INNER}: values of 6\.[89]\de\+04"):
        quantize(model, many, GREY, tmp_path / "x", options(images=96))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("exponent", [-30, 30])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_with_rest_fp32_nothing_depends_on_fp16(
    placement: Any, exponent: int, images: ImageSet, tmp_path: Path
) -> None:
    """A power of two changes no digit: scales far outside of FP16 do what those within do."""
    whole = options(placement=placement, rest="fp32")
    report = quantize(scaled(2.0**exponent), images, GREY, tmp_path / "x", whole)
    plain = quantize(scaled(1.0), images, GREY, tmp_path / "plain", whole)
    assert report.sqnr_db == pytest.approx(plain.sqnr_db, abs=0.01)


def test_values_too_small_for_fp16_are_told(usual: float, images: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="FP16") as caught:
        quantize(scaled(1e-8 / usual), images, GREY, tmp_path / "x", options())
    assert "--rest fp32" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_verdicts_on_extents() -> None:
    fine = {"a": Extent(-1, 2), "dead": Extent(0, 0), "b": Extent(-(2.0**-17), 0)}
    assert check_fp16(fine) == ()
    assert check_fp16({"a": Extent(-FP16_MAX / 2, 0)}) == ()
    (near,) = check_fp16({**fine, "n": Extent(-FP16_MAX, 1)})
    assert near.startswith("n: values of 6.55e+04 on calibration images come near")
    (faint,) = check_fp16({**fine, "f": Extent(-1e-6, 7e-6)})
    assert faint.startswith("f: no value above 7e-06")
    for wrong in (1e5, np.inf, np.nan):
        with pytest.raises(InputError, match=r"^first: ") as caught:
            check_fp16({**fine, "first": Extent(-wrong, 0), "x": Extent(0, wrong)})
        assert "(and 1 more nodes)" in caught.value.what
    assert facts(fine) == {
        "largest": 2,
        "largest_at": "a",
        "smallest": 2.0**-17,
        "smallest_at": "b",
    }
    assert facts({"dead": Extent(0, 0), "wild": Extent(0, np.inf)}) == {}


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_reach_bounds_every_value_and_follows_a_move(data: st.DataObject) -> None:
    spec = data.draw(specs() | tiramisus())
    size = (40, 33)
    graph, x = lower(trained(spec, data.draw(st.integers(0, 99))), size), noise(spec, size, 2)
    reach = Reach(graph)
    GraphRunner(graph)(x[:1], reach.observe)
    GraphRunner(graph)(x[1:], reach.observe)
    seen = peaks(graph, x)
    assert max(e.peak for e in reach.extents.values()) == pytest.approx(max(seen.values()))
    for name, extent in reach.extents.items():
        assert extent.peak == pytest.approx(seen[name], rel=1e-5, abs=1e-6)
    scales = {m.value: max(seen[m.value], 0.1) / 255 for m in migratables(graph)}
    moved, now = move(graph, scales), moved_extents(reach.extents, graph, scales)
    again = peaks(moved, x)
    for name, extent in now.items():
        assert extent.peak == pytest.approx(again[name], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("effort", ["fast", "default"])
def test_what_calibration_recorded_is_what_the_final_graphs_do(
    placement: Any, effort: Any, images: ImageSet
) -> None:
    graph = lower(trained(SPEC), SIZE)
    x = next(iter(batches(images, GREY, 24))).images
    prepared = prepare(graph, images, GREY, options(placement=placement, effort=effort))
    final, plain = peaks(prepared.graph, x), peaks(exact_pixels(graph, GREY), x)
    assert set(prepared.extents) == set(prepared.plain)
    for name, extent in prepared.extents.items():
        assert extent.peak == pytest.approx(final[name], rel=1e-3)
    for name, extent in prepared.plain.items():  # of the images that were surveyed
        assert extent.peak <= plain[name] * 1.0001
        whole = placement == "block" or effort == "fast"
        assert extent.peak > plain[name] * (0.999 if whole else 0.5)


# from the command line to the engine


@pytest.mark.parametrize("io", ["fp16", "fp32"])
def test_ends_travel_from_quantize_to_validate(
    io: str, tiny: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("--calib", tiny.train, "--preprocess", tiny.toml, "--eval", tiny.test)
    made = edgedense(
        "quantize", tiny.checkpoint, "-o", tmp_path / "q", *words, "--io", io, "--images", "32"
    )
    assert made.code == 0, made.err
    dtypes = {}
    for rest in ("fp16", "fp32"):
        engine = tmp_path / rest
        built = edgedense(
            "build-engine", tmp_path / "q", "-o", engine, "--target", "cpu", "--rest", rest
        )
        assert built.code == 0, built.err
        dtypes[rest] = artifact.read(engine).manifest.interface["dtype"]
        judged = edgedense("validate", engine, "--data", tiny.test, "--max-drop", 5, "--json")
        assert judged.code == 0, judged.err
        assert json.loads(judged.out)["agreement"] > 0.95
    assert dtypes == {"fp16": "float16" if io == "fp16" else "float32", "fp32": "float32"}
    short = ("--iterations", "10", "--max-seconds", "0.2", "--repeats", "2")
    quick = (*short, "--allow-unstable", "--json")
    timed = edgedense("benchmark", tmp_path / "fp16", "--against", tmp_path / "fp32", *quick)
    assert timed.code == 0, timed.err


def test_fp16_ends_without_an_fp16_file_are_refused(
    tiny: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("--calib", tiny.train, "--preprocess", tiny.toml, "--io", "fp16", "--rest", "fp32")
    ended = edgedense("quantize", tiny.checkpoint, "-o", tmp_path / "q", *words)
    assert ended.code == 2
    assert "--io fp16 with --rest fp32" in ended.error[0]
    assert not (tmp_path / "q").exists()
