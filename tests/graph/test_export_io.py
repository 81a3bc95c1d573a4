"""The type of a network's input and output, from the exporter to the engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import images, tiny, trained
from onnx_rules import File

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.benchmark.measure import input_images
from edgedense.densenet.family import Spec
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.runner import Interface
from edgedense.environment import installed
from edgedense.errors import InputError
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.quantize.place import place_conv, representable

SIZE = (16, 16)
NETS: dict[str, Spec] = {
    "densenet": tiny((2, 2), 8, stem_width=16),
    "fc-densenet": FCDenseNetSpec.build([1, 2], 2, 8, num_classes=3, stem_width=16),
}


def small(kind: str) -> tuple[Graph, Graph]:
    graph, peak = lower(trained(NETS[kind]), SIZE), dict[str, float]()
    GraphRunner(graph)(
        images(NETS[kind], SIZE), lambda name, value: peak.update({name: float(value.abs().max())})
    )
    scales = {
        node.input: float(representable(peak[node.input] / 127, "")) for node in graph.weighted()
    }
    return graph, place_conv(graph, scales)


def interface_of(graph: Graph, dtype: str) -> Interface:
    return Interface(graph.input, graph.input_shape, graph.output, graph.output_shape, dtype=dtype)


@pytest.mark.parametrize("kind", NETS)
def test_fp16_ends_change_no_bit_of_the_answer(kind: str, tmp_path: Path) -> None:
    half = images(NETS[kind], SIZE).astype(np.float16)
    for graph in small(kind):
        found = []
        for io, dtype in (("fp32", "float32"), ("fp16", "float16")):
            path = tmp_path / f"{io}.onnx"
            export_onnx(graph, path, "fp16", {}, io)  # type: ignore[arg-type]
            file = File(onnx.load(path), "fp16", io)
            assert file.complaints() == []
            assert sum(node.op_type == "Cast" for node in file.nodes) == 2 * (io == "fp32")
            runner = OnnxRunner(path, interface_of(graph, dtype), threads=1, exact=True)
            found.append(runner(half.astype(np.float32)))
            np.testing.assert_array_equal(runner(half), found[-1])
            assert found[-1].dtype == np.float32
        # ONNX Runtime leaves out a Cast to FP16 and back, so it is done here
        np.testing.assert_array_equal(found[0].astype(np.float16), found[1])


def test_the_rules_see_ends_of_the_other_type(tmp_path: Path) -> None:
    export_onnx(small("densenet")[1], tmp_path / "x.onnx", "fp16", {}, "fp16")
    assert File(onnx.load(tmp_path / "x.onnx"), "fp16", "fp32").complaints()


@pytest.mark.parametrize(("io", "dtype"), [("fp32", "float16"), ("fp16", "float32")])
def test_a_file_that_is_not_the_manifests_is_refused(io: Any, dtype: str, tmp_path: Path) -> None:
    graph = small("densenet")[1]
    export_onnx(graph, tmp_path / "x.onnx", "fp16", {}, io)
    with pytest.raises(InputError, match=rf"x\.onnx has the ends .*tensor.*, not {dtype} images"):
        OnnxRunner(tmp_path / "x.onnx", interface_of(graph, dtype))


def test_raw_pixels_are_no_images(tmp_path: Path) -> None:
    graph = small("densenet")[1]
    export_onnx(graph, tmp_path / "x.onnx", "fp16", {}, "fp16")
    runner = OnnxRunner(tmp_path / "x.onnx", interface_of(graph, "float16"))
    pixels: Any = np.zeros((1, 3, *SIZE), np.uint8)
    with pytest.raises(InputError, match="images of type uint8, where the engine takes float16"):
        runner(pixels)


def test_dtype_of_an_interface() -> None:
    half = Interface("images", (3, 4, 4), "logits", (10,), dtype="float16")
    assert Interface.from_dict(half.to_dict()) == half
    for name in ("fp16", "int8.fp16", "int8.fp16.onnx"):
        assert half.of(name) == half
    for name in ("fp32", "int8.fp32", "fp32.onnx"):
        assert half.of(name) == replace(half, dtype="float32")
    for wrong in ("float64", "uint8", ["float32"], None):
        with pytest.raises(ValueError, match="dtype"):
            Interface.from_dict(half.to_dict() | {"dtype": wrong})


@pytest.mark.parametrize("golden", [None, np.ones((2, 3, 4, 4), np.float32)])
def test_benchmarks_feed_the_engines_own_type(golden: Any) -> None:
    """A conversion inside the timed call would be counted as the engine's."""
    for dtype in ("float32", "float16"):
        interface = Interface("images", (3, 4, 4), "logits", (10,), dtype=dtype)
        assert input_images(interface, 5, 0, golden).dtype == dtype


@pytest.fixture(scope="module", params=[(k, io) for k in NETS for io in ("fp32", "fp16")], ids=str)
def source(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    kind, io = request.param
    graph, placed = small(kind)
    path = tmp_path_factory.mktemp("io") / "q"
    with artifact.create(path, "quantize", parents={}, options={}) as draft:
        export_onnx(placed, draft.path / "int8.fp16.onnx", "fp16", {}, io)
        export_onnx(graph, draft.path / "fp16.onnx", "fp16", {}, io)
        dtype = "float16" if io == "fp16" else "float32"
        draft.interface = interface_of(graph, dtype).to_dict()
    return artifact.read(path)


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
def test_tensorrt_rtx_builds_both(source: Artifact, tmp_path: Path) -> None:
    """Strongly typed: the network's ends have the types of the file, and stay so."""
    import tensorrt_rtx

    from edgedense.build import BuildOptions, build_engine

    report = build_engine(source, tmp_path / "e", BuildOptions("rtx-ampere"))
    assert report.onnx == "int8.fp16.onnx"
    assert report.strongly_typed is True
    assert all(line.startswith("(foreignNode)") for line in report.warnings), report.warnings
    dtype = source.manifest.interface["dtype"]
    assert artifact.read(tmp_path / "e").manifest.interface["dtype"] == dtype
    logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    builder = tensorrt_rtx.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt_rtx.OnnxParser(network, logger)
    assert parser.parse(source.file("int8.fp16.onnx").read_bytes())
    ends = {network.get_input(0).dtype, network.get_output(0).dtype}
    assert ends == {tensorrt_rtx.DataType.HALF if dtype == "float16" else tensorrt_rtx.float32}
