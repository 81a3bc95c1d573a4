from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_nets import Caffe, Layer, Liu, Shicai, caffemodel, item, v1_layer_bytes
from nets import logits, relative_error

from edgedense import environment
from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.checkpoints.caffe import recognise_caffe
from edgedense.densenet.checkpoints.infer import infer_spec
from edgedense.densenet.checkpoints.recognised import Recognised
from edgedense.densenet.checkpoints.restore import restore
from edgedense.errors import InputError, MachineError

SIZES = [(32, 32), (33, 47), (38, 21)]


def pixels(size: tuple[int, int]) -> torch.Tensor:
    values = np.random.default_rng(1).normal(size=(2, 3, *size)).astype(np.float32)
    return torch.from_numpy(values).double()


def run(net: Shicai | Liu) -> Shicai | Liu:
    """``net`` with its weights."""
    net(pixels(SIZES[0]))
    return net


def saved(net: Caffe, path: Path, **form: bool) -> Path:
    path.write_bytes(caffemodel(net, **form))
    return path


def same_function(net: Shicai | Liu, found: Recognised) -> None:
    path = Path("x.caffemodel")
    ours = restore(infer_spec(found.state, found.facts, path), found.state, path)
    for size in SIZES:
        x = pixels(size)
        wanted = net(x).float().numpy()
        assert relative_error(wanted, logits(ours, x.float().numpy())) < 1e-5


def refused(path: Path, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        recognise_caffe(path)
    error = caught.value
    assert str(path) in error.what
    assert "\n" not in error.what + error.remedy
    assert error.remedy


@pytest.mark.parametrize("form", [{}, {"old": True}, {"double": True}])
def test_shicai(form: dict[str, bool], tmp_path: Path) -> None:
    net = run(Shicai())
    found = recognise_caffe(saved(net, tmp_path / "a.caffemodel", **form))
    assert (found.scheme, found.facts.eps, found.facts.preset) == ("shicai", 1e-5, "caffe")
    # its deploy network stops at fc6
    assert (found.facts.activation, found.facts.padding) == ("none", "symmetric")
    same_function(net, found)


@pytest.mark.parametrize(("kind", "wanted"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid")])
def test_what_follows_the_logits(kind: str, wanted: str, tmp_path: Path) -> None:
    net = run(Shicai())
    net.layers["prob"] = Layer(kind, "prob", ["fc6"], "prob")
    assert recognise_caffe(saved(net, tmp_path / "a.caffemodel")).facts.activation == wanted


def test_eps_of_the_file(tmp_path: Path) -> None:
    net = Shicai()
    net.eps = 2e-4
    found = recognise_caffe(saved(run(net), tmp_path / "a.caffemodel"))
    assert found.facts.eps == 2e-4
    same_function(net, found)
    net.layers["conv1/bn"].eps = 1e-3
    refused(saved(net, tmp_path / "a.caffemodel"), "2 different eps")


def test_liuzhuang13_by_order(tmp_path: Path) -> None:
    net = run(Liu())
    for layer in net.layers.values():
        layer.eps = None  # left to Caffe's default
    found = recognise_caffe(saved(net, tmp_path / "a.caffemodel"))
    assert (found.scheme, found.facts.preset) == ("caffe", None)
    assert found.facts.activation == "softmax"
    assert "mean image" in " ".join(found.facts.notes)
    same_function(net, found)


def test_the_loader_takes_it(tmp_path: Path) -> None:
    model = load_model(saved(run(Shicai()), tmp_path / "a.caffemodel"))
    assert (model.scheme, model.preset) == ("shicai", "caffe")
    assert model.spec.block_config == (2, 3, 1)


def split(net: Caffe) -> None:
    """Split layers in front of the concats, which Caffe inserts and saves."""
    for layer in list(net.layers.values()):
        if layer.kind == "Concat":
            name = layer.bottoms[0] + "_split"
            net.layers[layer.name] = Layer("Split", name, [layer.bottoms[0]], name)
            moved = Layer("Concat", layer.name, [name, layer.bottoms[1]], layer.top)
            net.layers[layer.name + " moved"] = moved
    # only the order of producers and readers matters here
    order = {"Split": 1, "Concat": 2}
    ordered = sorted(net.layers.items(), key=lambda pair: order.get(pair[1].kind, 0))
    net.layers = dict(ordered)


def test_split_layers(tmp_path: Path) -> None:
    net = run(Shicai())
    split(net)
    assert recognise_caffe(saved(net, tmp_path / "a.caffemodel")).scheme == "shicai"


def test_reversed_concats_are_refused(tmp_path: Path) -> None:
    net = Shicai()
    net.reversed_concat = True
    refused(saved(run(net), tmp_path / "a"), r"concat_2_1 concatenates \[new features, input\]")
    split(net)
    refused(saved(net, tmp_path / "a"), r"concatenates \[new features, input\]")


def test_statistics_that_were_never_taken(tmp_path: Path) -> None:
    net = run(Shicai())
    net.layers["conv1/bn"].blobs[2] = torch.zeros(1)
    state = recognise_caffe(saved(net, tmp_path / "a")).state
    assert not state["features.norm0.running_mean"].any()
    assert not state["features.norm0.running_var"].any()


def test_a_batch_norm_without_scale(tmp_path: Path) -> None:
    net = run(Shicai())
    del net.layers["conv1/scale"]
    state = recognise_caffe(saved(net, tmp_path / "a")).state
    assert bool((state["features.norm0.weight"] == 1).all())
    assert not state["features.norm0.bias"].any()


def change_blobs(name: str, *shapes: tuple[int, ...]) -> Callable[[Caffe], None]:
    def change(net: Caffe) -> None:
        net.layers[name].blobs = [torch.zeros(shape) for shape in shapes]

    return change


def remove(*names: str) -> Callable[[Caffe], None]:
    def change(net: Caffe) -> None:
        for name in names:
            del net.layers[name]

    return change


def add_deconvolution(net: Caffe) -> None:
    head = net.layers.pop("fc6")
    net.layers["up"] = Layer("Deconvolution", "up\nline", ["x"], "up", [torch.zeros(1, 1, 2, 2)])
    net.layers["fc6"] = head


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add_deconvolution, r"up\?line \(Deconvolution, \(1, 1, 2, 2\)\) has no place"),
        (change_blobs("conv1", (8, 3, 7, 7), (8,)), "conv1 .* has no place in a DenseNet"),
        (change_blobs("conv1/bn", (8,), (8,)), "conv1/bn .* has no place"),
        (change_blobs("conv1/bn", (8,), (7,), (1,)), "conv1/bn and its Scale differ in length"),
        (change_blobs("conv1/scale", (7,), (7,)), "conv1/bn and its Scale differ"),
        (change_blobs("fc6", (5, 16, 3, 3)), "fc6 .* comes last and is no classifier"),
        (remove("conv1/bn"), "conv1/scale .* has no place"),
        (remove("fc6"), "to BN and classifier is expected, found conv, norm, …, conv, norm"),
    ],
)
def test_other_networks(change: Callable[[Caffe], None], reason: str, tmp_path: Path) -> None:
    net = run(Shicai())
    change(net)
    refused(saved(net, tmp_path / "a"), reason)


def test_a_missing_layer_is_told_by_the_loader(tmp_path: Path) -> None:
    for name in ("conv1", "conv2_blk", "conv3_2/x1"):
        net = run(Shicai())
        remove(name)(net)
        with pytest.raises(InputError):
            load_model(saved(net, tmp_path / "a.caffemodel"))


def test_the_older_form_of_layers(tmp_path: Path) -> None:
    """It has no BatchNorm, so that no DenseNet can be in it: the reason is told."""
    path = tmp_path / "a.caffemodel"
    conv = v1_layer_bytes("c", 4, torch.zeros(8, 3, 3, 3))
    path.write_bytes(conv + v1_layer_bytes("fc", 14, torch.zeros(2, 8), torch.zeros(2)))
    refused(path, "to BN and classifier is expected, found conv, linear")


def test_every_truncation_is_bad_input(tmp_path: Path) -> None:
    whole, path = caffemodel(run(Shicai())), tmp_path / "a"
    for end in [*range(0, 200, 7), *range(200, len(whole), len(whole) // 150), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(path, ".")


def test_foreign_and_damaged_bytes(tmp_path: Path) -> None:
    whole, path = caffemodel(run(Shicai())), tmp_path / "a"
    for data in (b"", b"layer {\n  name: 'x'\n}", b"PK\x03\x04" + bytes(100), bytes(1000)):
        path.write_bytes(data)
        refused(path, "not a Caffe model, or truncated|no layers with weights")
    path.write_bytes(item(100, item(1, b"\xff\xfe\n") + item(7, item(7, item(1, b"\x7f")))))
    refused(path, r"a blob of .*\? has 0 numbers for a shape \[127\]")
    path.write_bytes(item(100, item(7, item(1, 2**62) + item(2, 2**62) + item(5, bytes(8)))))
    refused(path, "has 2 numbers for a shape")
    random = np.random.default_rng(0)
    for _ in range(60):
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        bytes_[random.integers(0, len(whole), 20)] = random.integers(0, 256, 20)
        path.write_bytes(bytes_.tobytes())
        try:
            recognise_caffe(path)
        except InputError:
            continue


def test_without_protobuf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "installed", lambda module: False)
    with pytest.raises(MachineError, match="needs onnx"):
        recognise_caffe(tmp_path / "a.caffemodel")
