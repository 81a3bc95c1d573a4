"""What is no ONNX file, or half of one, is bad input; weights stay on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from lint_models import dense, node, places, put
from onnx import TensorProto, helper, numpy_helper

from edgedense.errors import InputError
from edgedense.lint import lint
from edgedense.lint.read import read_file


def refused(path: Path, match: str) -> str:
    with pytest.raises(InputError, match=match) as caught:
        lint(path)
    assert "\n" not in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.remedy.endswith(".")
    return caught.value.remedy


@pytest.mark.parametrize(
    "data", [b"", b"hello, this is no network", b"\x80\x04K\x01.", bytes(200), b"PK\x03\x04" * 50]
)
def test_other_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    refused(path, "not an ONNX")


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "x.onnx", "No such file")
    onnx.save(dense(), tmp_path / "net.onnx")
    assert "net.onnx" in refused(tmp_path, "is a folder")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_truncated(share: float, tmp_path: Path) -> None:
    data = dense().SerializeToString()
    path = tmp_path / "x.onnx"
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "truncated")


def test_damaged_files_end_in_findings_or_one_error(tmp_path: Path) -> None:
    data = bytearray(dense(np.float16).SerializeToString())
    random = np.random.default_rng(0)
    structure = [i for i in range(len(data)) if data[i : i + 1] not in (b"\x01", b"\x00")]
    path = tmp_path / "x.onnx"
    ended = {True: 0, False: 0}
    for _ in range(300):
        bad = bytearray(data)
        for at in random.choice(structure, 2):
            bad[at] = random.integers(256)
        path.write_bytes(bad)
        try:
            lint(path)
            ended[True] += 1
        except InputError as error:
            assert "\n" not in error.what
            ended[False] += 1
    assert min(ended.values()) > 10


@pytest.fixture
def external(tmp_path: Path) -> Path:
    path = tmp_path / "x.onnx"
    onnx.save(dense(), path, save_as_external_data=True, location="x.data", size_threshold=0)
    return path


def test_external_data(external: Path) -> None:
    assert lint(external).findings == ()
    model = onnx.load(external)
    put("x.scale", np.float32(-1))(model)
    onnx.save(model, external, save_as_external_data=True, location="y.data", size_threshold=0)
    assert places(lint(external).findings, "scale-not-positive") == ["x.q"]


def test_external_data_missing_or_cut(external: Path) -> None:
    data = external.with_name("x.data")
    whole = data.read_bytes()
    data.write_bytes(whole[:-10])
    assert "x.data" in refused(external, r"x\.data are cut")
    data.unlink()
    assert "x.data" in refused(external, r"x\.data are missing")


@pytest.mark.parametrize(
    "place", ["/etc/hostname", "../secret", "a/../../secret", "..\\secret", ""]
)
def test_external_data_stay_beside_the_file(place: str, external: Path) -> None:
    model = onnx.load(external, load_external_data=False)
    entry = model.graph.initializer[0].external_data[0]
    assert entry.key == "location"
    entry.value = place
    external.write_bytes(model.SerializeToString())
    refused(external, "not a place beside the file")


def test_weights_are_not_read(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = numpy_helper.to_array

    def spy(tensor: Any, *rest: Any) -> Any:
        read.append(int(np.prod(tensor.dims)))
        return real(tensor, *rest)

    monkeypatch.setattr("onnx.numpy_helper.to_array", spy)
    lint(external)
    assert read and max(read) <= 64  # scales and zero-points: one a channel


def test_nodes_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    model = dense()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    path.write_bytes(model.SerializeToString())
    assert lint(path).findings == ()
    seen = read_file(path)
    made = set(seen.constants) | {"x"}
    for op in seen.ops:
        assert set(op.inputs) <= made
        made.update(op.outputs)


def test_constants_may_be_nodes_and_shared_by_identity(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    model = dense()
    for k, entry in enumerate(model.graph.initializer):
        if entry.name == "x.zero":
            del model.graph.initializer[k]
            break
    value = numpy_helper.from_array(np.int8(0), "")
    inner = helper.make_node("Constant", [], ["zero"], value=value)
    alias = helper.make_node("Identity", ["zero"], ["x.zero"])
    model.graph.node.insert(0, alias)
    model.graph.node.insert(0, inner)
    path.write_bytes(model.SerializeToString())
    assert lint(path).findings == ()
    inner.attribute[0].t.CopyFrom(numpy_helper.from_array(np.uint8(1), ""))
    model.graph.node[0].CopyFrom(inner)
    path.write_bytes(model.SerializeToString())
    assert {f.rule for f in lint(path).findings} == {"uint8", "zero-point-nonzero"}


def cycle(model: onnx.ModelProto) -> None:
    node(model, "bn1").input[0] = "relu2"


def twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["x"], ["first"]))


def nothing(model: onnx.ModelProto) -> None:
    node(model, "bn1").input[0] = "gone"


def negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-1]


def short(model: onnx.ModelProto) -> None:
    next(e for e in model.graph.initializer if e.name == "first.ws").dims[:] = [10**12]


def strange(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (cycle, "in a circle"),
        (twice, "first is computed twice"),
        (nothing, "bn1 reads gone, which nothing computes"),
        (negative, "no valid type or shape"),
        (short, r"first\.ws does not hold"),
        (strange, "no valid type or shape"),
    ],
)
def test_files_that_contradict_themselves(edit: Any, match: str, tmp_path: Path) -> None:
    model = dense()
    edit(model)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path / "x.onnx", match)


def test_a_value_that_a_branch_reads_has_a_reader_there(tmp_path: Path) -> None:
    """Without it BN would seem to be the only reader, and to fold."""
    model = dense()
    node(model, "concat").input[0] = "relu1"
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    body = helper.make_graph([helper.make_node("Relu", ["first"], ["inner"])], "b", [], [out])
    model.graph.initializer.append(numpy_helper.from_array(np.bool_(True), "yes"))
    path = tmp_path / "x.onnx"
    path.write_bytes(model.SerializeToString())
    assert places(lint(path).findings, "norm-unfolded") == ["bn1"]
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["z"], name="if", then_branch=body, else_branch=body)
    )
    path.write_bytes(model.SerializeToString())
    assert places(lint(path).findings, "norm-unfolded") == []
