"""What an engine became: precisions and times of layers, in maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Node, parse

from edgedense.errors import InputError
from edgedense.report import page, read_raw, read_run


def layer(block: int, number: int, type_: str) -> dict[str, Any]:
    name = f"denseblock{block}.denselayer{number}.conv1"
    end = {"Name": "x", "Dimensions": [1, 8, 4, 4], "Format/Datatype": f"Row major {type_} format"}
    kernel = "sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32_nhwckrsc"
    half = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc"
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "ParameterType": "Convolution",
        "Inputs": [end],
        "Outputs": [end],
        "TacticName": kernel if type_ == "Int8" else half,
    }


@pytest.fixture
def engine(write: Any, tmp_path: Path) -> Path:
    types = {(1, 1): "Int8", (1, 2): "Half", (2, 1): "Int8", (2, 2): "Int8"}
    layers = [layer(block, number, type_) for (block, number), type_ in types.items()]
    times = [
        {"name": one["Name"], "averageMs": 0.01 * (k + 1), "percentage": 1.0}
        for k, one in enumerate(layers)
    ]
    files = {"inspector.json": {"Layers": layers, "Bindings": []}, "profile.json": times}
    report = {"precision": "int8", "target": "jetson-orin-nano", "backend": "tensorrt"}
    write("engine-x", "build-engine", report, files=files, options={"rest": "fp16"})
    return tmp_path / "made"


def drawn(root: Node, title: str) -> list[str]:
    svg = next(svg for svg in root.all("svg") if title in svg.all("title")[0].text)
    return [node.text for node in svg.all("text")]


def test_maps_of_precision_and_time(engine: Path) -> None:
    found = read_run(engine)
    root = parse(page(found, read_raw(engine, found["stages"])))
    precision = drawn(root, "Precision of convolutions")
    assert precision == [
        *("layer", "1", "2", "denseblock1", "INT8", "FP16", "denseblock2", "INT8", "INT8"),
    ]
    time = drawn(root, "Time by dense block")
    assert time == ["layer", "1", "2", "denseblock1", "10", "20", "denseblock2", "30", "40"]
    heading = next(node for node in root.all("h2") if node.get("id") == "where-heading")
    assert heading.text == "Where time goes"
    slowest = next(t for t in root.all("table") if "take longest" in t.text)
    assert slowest.all("tbody")[0].all("th")[0].text == "denseblock2.denselayer2.conv1"


def test_an_inspector_that_was_changed_is_refused(engine: Path) -> None:
    (engine / "engine-x" / "inspector.json").write_text("{}")
    with pytest.raises(InputError, match=r"inspector\.json: contents differ"):
        read_raw(engine, read_run(engine)["stages"])


@pytest.mark.parametrize(
    "arrays",
    [
        {"names": np.array(["a"])},
        {"names": np.array(["a", "b"]), "counts": np.ones((1, 64)), "top": np.ones(1)},
        {"names": np.array([{}], object), "counts": np.ones((1, 64)), "top": np.ones(1)},
    ],
)
def test_histograms_that_are_none_are_refused(arrays: Any, write: Any, tmp_path: Path) -> None:
    write("quantize", "quantize", {}, files={"histograms.npz": arrays})
    with pytest.raises(InputError, match=r"histograms\.npz is damaged"):
        read_raw(tmp_path / "made", read_run(tmp_path / "made")["stages"])
