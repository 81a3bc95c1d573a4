"""Effort ``best`` and the stem, through the whole stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import tiny, trained

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, load_set
from edgedense.densenet.checkpoints import Model
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.environment import installed
from edgedense.lint import lint
from edgedense.quantize import QuantizeOptions, QuantizeReport, quantize

SIZE = (16, 16)
PRE = Preprocess("tiny", SIZE, None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
SPEC = tiny((3, 3), 4)
SEGMENTED = FCDenseNetSpec.build([2, 2], 2, 3, num_classes=2)
BEST = QuantizeOptions(images=48, effort="best")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    coarse = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("images") / "calib.npz"
    np.savez(path, images=coarse.repeat(4, 1).repeat(4, 2), labels=np.arange(64) % 3)
    return load_set(path)


def made(
    images: ImageSet, out: Path, spec: Any = SPEC, **options: Any
) -> tuple[QuantizeReport, artifact.Artifact]:
    model = Model(trained(spec), "torchvision", "0" * 64, Path("m.pth"))
    report = quantize(model, images, PRE, out, replace(BEST, **options))
    return report, artifact.read(out)


@pytest.mark.parametrize("placement", ["conv", "block"])
@pytest.mark.parametrize("spec", [SPEC, SEGMENTED, tiny((2, 2), 4, bottleneck=False)])
def test_best_keeps_the_rules_and_is_the_least_noise(
    placement: Any, spec: Any, images: ImageSet, tmp_path: Path
) -> None:
    found, source = made(images, tmp_path / "best", spec, placement=placement)
    assert (found.skipped[-1:] == ("logits",)) == (spec is not SEGMENTED)
    path = source.file("int8.fp16.onnx")
    assert "error" not in {finding.severity for finding in lint(path).findings}
    assert "Add" in {node.op_type for node in onnx.load(path).graph.node}  # of borders
    plain, _ = made(images, tmp_path / "plain", spec, placement=placement, effort="default")
    assert found.sqnr_db > plain.sqnr_db


@pytest.mark.parametrize(
    ("placement", "asked", "left"),
    [
        ("conv", None, ()),
        ("block", None, ("conv0",)),
        ("block", True, ()),
        ("conv", False, ("conv0",)),
    ],
)
def test_the_stem_is_quantized_where_it_was_asked(
    placement: Any, asked: bool | None, left: tuple[str, ...], images: ImageSet, tmp_path: Path
) -> None:
    report, _ = made(
        images, tmp_path / "q", placement=placement, int8_stem=asked, effort="fast", rest="fp32"
    )
    assert report.skipped == left


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("placement", ["conv", "block"])
def test_tensorrt_rtx_builds_it(placement: Any, images: ImageSet, tmp_path: Path) -> None:
    from edgedense.build import BuildOptions, build_engine

    _, source = made(images, tmp_path / "q", placement=placement)
    found = build_engine(source, tmp_path / "engine", BuildOptions("rtx-ampere", "int8"))
    assert found.engine_bytes > 0
    assert all(line.startswith("(foreignNode)") for line in found.warnings), found.warnings
