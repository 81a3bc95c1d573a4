from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedense import artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.build.golden import Golden, golden_warnings
from edgedense.stats.logits import logit_sqnr_db

IMAGES = np.zeros((1, 3, 4, 4), np.float32)
LOGITS = np.ones((1, 10), np.float32)


def test_a_cpu_engine_is_tried_on_the_golden_images(made: Any, tmp_path: Path) -> None:
    source = artifact.read(made.quantized)
    with np.load(made.quantized / "golden.npz") as file:
        images, logits = file["images"], file["logits"]
    from edgedense.engines.opening import open_engine

    for precision, least in (("int8", 10), ("fp32", 80)):
        report = build_engine(source, tmp_path / precision, BuildOptions("cpu", precision))
        runner = open_engine(artifact.read(tmp_path / precision))
        assert report.golden_sqnr_db == pytest.approx(logit_sqnr_db(logits, runner(images)))
        assert report.golden_sqnr_db is not None and report.golden_sqnr_db > least
        assert (report.sm, report.gpu, report.tensorrt) == (None, None, None)


@pytest.mark.parametrize(
    ("found", "promised", "precision", "warned"),
    [(25.0, 30.0, "int8", False), (19.0, 30.0, "int8", True), (4.0, None, "int8", False),
     (2.0, None, "int8", True), (2.0, 5.0, "int8", True), (4.0, 5.0, "int8", False),
     (19.0, 5.0, "fp16", True), (21.0, 50.0, "fp32", False), (None, 30.0, "int8", False)],
)  # fmt: skip
def test_what_is_warned_of(
    found: float | None, promised: float | None, precision: str, warned: bool
) -> None:
    golden = Golden(IMAGES, LOGITS, promised)
    assert bool(golden_warnings(found, golden, precision)) is warned
