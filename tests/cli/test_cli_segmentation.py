"""``edgedense validate`` with an engine that answers for each pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgedense import artifact
from edgedense.data import Preprocess, load_set
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.reference import record_reference, save_reference
from edgedense.engines.runner import Interface

SIZE = (8, 12)
INTERFACE = Interface("images", (1, *SIZE), "logits", (3, *SIZE))
PREPROCESS = Preprocess("grey", SIZE, None, (0.0,), (1.0,), "bilinear", "L")


def network(path: Path, shift: float = 0.0) -> Path:
    """Three classes of brightness, parted at 1/3 and 2/3 + shift, by one 1x1 convolution."""
    weight = np.array([0, 1, 2], np.float32).reshape(3, 1, 1, 1)
    bias = np.array([0, -1 / 3, -1 - shift], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w", "b"], ["logits"])],
        "levels",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, *SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, *SIZE])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def engine(root: Path, shift: float, images: Path) -> Path:
    """An engine artifact as build-engine writes it, with what FP32 says of ``images``."""
    destination = root / f"engine-{shift}"
    fp32 = OnnxRunner(network(root / "fp32.onnx"), INTERFACE)
    with artifact.create(
        destination, "build-engine", parents={}, options={}, preprocess=PREPROCESS.to_dict()
    ) as draft:
        network(draft.path / "model.onnx", shift)
        recorded = record_reference(fp32, load_set(images), PREPROCESS)
        save_reference(draft.path / artifact.REFERENCE_FILE, recorded)
        draft.interface = INTERFACE.to_dict()
        draft.report = {"backend": "onnxruntime", "engine": "model.onnx", "target": "cpu"}
    return destination


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "street"
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for k in range(30):
        pixels = random.integers(0, 255, SIZE).astype(np.uint8)
        pixels[pixels % 85 == 0] += 1  # on the border rounding would choose the class
        Image.fromarray(pixels).save(root / f"images/{k:02}.png")
        mask = pixels // 85
        mask[random.random(SIZE) < 0.1] = 255
        Image.fromarray(mask).save(root / f"masks/{k:02}.png")
    (root / "classes.txt").write_text("night\ndusk\nday\n")
    return root


def test_json_and_artifact(edgedense: Any, images: Path, tmp_path: Path) -> None:
    made, out = engine(tmp_path, 0.005, images), tmp_path / "judged"
    words = ["validate", made, "--data", images, "--max-drop", 5, "--json", "-o", out]
    ended = edgedense(*words)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["task"], found["verdict"], found["samples"]) == ("segmentation", "pass", 30)
    assert found["reference"]["miou"] == 100
    assert found["reference"]["top1"] is found["logit_sqnr_db"] is None
    assert list(found["engine"]["iou"]) == ["night", "dusk", "day"]
    assert found["engine"]["iou"]["night"] == 100 > found["engine"]["iou"]["day"] > 90
    assert found["drop_pp"] == pytest.approx(100 - found["engine"]["miou"])
    manifest = artifact.read(out).manifest
    assert manifest.report == found
    assert manifest.options == {"max_drop_pp": 5, "min_speedup": None, "ignore_class": []}


def test_a_gate_on_mean_iou_fails(edgedense: Any, images: Path, tmp_path: Path) -> None:
    ended = edgedense("validate", engine(tmp_path, 0.1, images), "--data", images)
    assert (ended.code, ended.out) == (1, "")
    lines = [line.split() for line in ended.err.splitlines()]
    assert ["verdict:", "FAIL"] in lines
    tabled = [line[:-4] for line in lines if line[-1:] == ["%"]]
    # the worst first: what the engine takes from day, it gives to dusk
    assert tabled[:2] == [["mIoU"], ["pixel", "accuracy"]]
    assert sorted(map(tuple, tabled[2:4])) == [("IoU", "day"), ("IoU", "dusk")]
    assert tabled[4] == ["IoU", "night"]
    assert "mIoU drop" in ended.err
    assert "pixels of the same class as FP32" in ended.err


def test_ignore_class_is_void_and_recorded(edgedense: Any, images: Path, tmp_path: Path) -> None:
    made, out = engine(tmp_path, 0.1, images), tmp_path / "judged"
    for path in (images / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[0] = 9
        Image.fromarray(mask).save(path)
    ended = edgedense("validate", made, "--data", images)
    assert ended.code == 2
    assert "the class 9" in ended.error[0]
    assert "--ignore-class 9" in ended.error[1]
    words = ["--ignore-class", 9, "--ignore-class", 2, "--json", "-o", out]
    found = json.loads(edgedense("validate", made, "--data", images, *words).out)
    assert found["void"] == [2, 9, 255]
    # of the two classes that are left, the engine takes nothing away
    assert found["engine"]["iou"] == {"night": 100, "dusk": 100}
    assert artifact.read(out).manifest.options["ignore_class"] == [9, 2]


def test_what_does_not_fit_is_said(
    edgedense: Any, images: Path, tmp_path: Path, tiny: Any, made: Any
) -> None:
    dense = engine(tmp_path, 0.0, images)
    refused = {
        "a baseline keeps": [dense, "--data", images, "--write-baseline", tmp_path / "b.json"],
        "has no masks": [dense, "--data", tiny.test],
        "has masks, but": [made.engine, "--data", images],
        "--ignore-class is for masks": [made.engine, "--data", tiny.test, "--ignore-class", 3],
    }
    for message, words in refused.items():
        ended = edgedense("validate", *words)
        assert ended.code == 2, ended.err
        assert message in ended.error[0]
        assert len(ended.error) == 2
