from __future__ import annotations

import builtins
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_nets import (
    Applications,
    Flyyufelix,
    Keras,
    Original,
    Titu,
    as_bytes,
    description,
    float32,
    save_archive,
    save_keras3,
    save_model,
    save_npz,
    save_weights,
)
from nets import logits, relative_error

from edgedense import environment
from edgedense.densenet.checkpoints import LoadOptions, load_model
from edgedense.densenet.checkpoints.infer import infer_spec
from edgedense.densenet.checkpoints.keras import recognise_keras, recognise_npz
from edgedense.densenet.checkpoints.recognised import Recognised
from edgedense.densenet.checkpoints.restore import restore
from edgedense.errors import InputError, MachineError

SIZES = [(32, 32), (33, 47), (38, 21)]  # the stem's halvings meet odd and even sides
Save = Callable[[Keras, Path], Path]


def pixels(size: tuple[int, int], channels: int = 3) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(2, *size, channels)).astype(np.float32)
    return x.astype(np.float64)


def run(net: Original, channels: int = 3) -> Original:
    """``net`` with its weights."""
    net(pixels(SIZES[0], channels))
    return net


def same_function(net: Original, found: Recognised, channels: int = 3) -> None:
    path = Path("x.h5")
    ours = restore(infer_spec(found.state, found.facts, path), found.state, path)
    for size in SIZES:
        x = pixels(size, channels)
        wanted = net(x).astype(np.float32)
        given = np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)
        assert relative_error(wanted, logits(ours, given)) < 1e-5


def refused(path: Path, reason: str, by_order: bool = False) -> InputError:
    recognise = recognise_npz if path.suffix == ".npz" else recognise_keras
    with pytest.raises(InputError, match=reason) as caught:
        recognise(path, by_order=by_order)
    error = caught.value
    assert str(path) in error.what
    assert "\n" not in error.what + error.remedy
    assert error.remedy
    return error


FILES: dict[str, tuple[Save, str]] = {
    "weights": (save_weights, "a.h5"),
    "model": (save_model, "a.hdf5"),
    "keras-3": (save_archive, "a.keras"),
    "npz": (save_npz, "a.npz"),
    "npz-bare": (lambda net, path: save_npz(net, path, ""), "a.npz"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("slash", ["/", "_"])
def test_keras_applications(kind: str, slash: str, tmp_path: Path) -> None:
    save, name = FILES[kind]
    net = Applications()
    net.slash = slash
    path = save(run(net), tmp_path / name)
    found = recognise_npz(path) if path.suffix == ".npz" else recognise_keras(path)
    assert found.scheme == "keras-applications"
    assert found.facts.eps == 1.001e-5
    assert (found.facts.activation, found.facts.preset) == ("softmax", "imagenet")
    assert found.facts.padding == "symmetric"
    same_function(net, found)


def test_another_head_and_one_input_channel(tmp_path: Path) -> None:
    net = Applications()
    net.head = "predictions"
    found = recognise_keras(save_weights(run(net, 1), tmp_path / "grey.h5"))
    assert found.facts.preset is None
    same_function(net, found, channels=1)


def test_flyyufelixs_scale_layers_are_merged(tmp_path: Path) -> None:
    net = Flyyufelix()
    found = recognise_keras(save_weights(run(net), tmp_path / "a.h5"))
    assert (found.scheme, found.facts.eps) == ("flyyufelix", 1.1e-5)
    assert (found.facts.preset, found.facts.padding) == ("caffe", "symmetric")
    same_function(net, found)


def test_keras_1_names(tmp_path: Path) -> None:
    net = run(Flyyufelix())
    words = {"kernel": "W", "bias": "b", "moving_mean": "running_mean"}
    words |= {"moving_variance": "running_std"}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in net.layers]
        for layer in net.layers.values():
            group = file.create_group(layer.name)
            arrays = {f"{layer.name}_{words.get(n, n)}": v for n, v in float32(layer)}
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, value in arrays.items():
                group.create_dataset(name, data=value)
    same_function(net, recognise_keras(tmp_path / "a.h5"))


@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("save", [save_weights, save_keras3])
def test_titu1994s_imagenet_networks(save: Save, bottleneck: bool, tmp_path: Path) -> None:
    net = Titu()
    net.bottleneck = bottleneck
    found = recognise_keras(save(run(net), tmp_path / "a.weights.h5"))
    assert (found.scheme, found.facts.eps) == ("titu1994", 1.1e-5)
    assert (found.facts.padding, found.facts.preset) == ("same", "caffe")
    assert found.facts.activation == "softmax"
    assert "[input, new features]" in found.facts.notes[0]
    same_function(net, found)


def small(**changes: object) -> Titu:
    net = Titu()
    net.wide = False
    for name, value in changes.items():
        setattr(net, name, value)
    return net


@pytest.mark.parametrize("save", [save_weights, save_keras3])
def test_automatic_names_of_small_networks_are_ambiguous(save: Save, tmp_path: Path) -> None:
    net = small()
    path = save(run(net), tmp_path / "a.h5")
    error = refused(path, r"\[input, new\], eps 1.1e-5.*\[new, input\], such as cmasch")
    assert "--scheme order" in error.remedy
    found = recognise_keras(path, by_order=True)
    assert (found.scheme, found.facts.padding, found.facts.preset) == (
        "keras-order",
        "symmetric",
        None,
    )
    same_function(net, found)
    assert load_model(path, LoadOptions(scheme="order")).spec.eps == 1.1e-5


@pytest.mark.parametrize("compression", [0.5, 1.0])
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("save", [save_model, save_archive])
def test_a_whole_model_tells_what_names_do_not(
    save: Save, bottleneck: bool, compression: float, tmp_path: Path
) -> None:
    net = small(eps=2e-4, bottleneck=bottleneck, compression=compression)
    name = "a.keras" if save is save_archive else "a.h5"
    found = recognise_keras(save(run(net), tmp_path / name))
    assert (found.scheme, found.facts.eps) == ("keras-order", 2e-4)
    same_function(net, found)


def test_a_whole_model_of_titu1994(tmp_path: Path) -> None:
    net = Titu()
    found = recognise_keras(save_model(run(net), tmp_path / "a.h5"))
    assert (found.scheme, found.facts.padding) == ("titu1994", "same")
    same_function(net, found)


def test_cmasch_is_refused(tmp_path: Path) -> None:
    net = small(reversed_concat=True, eps=1e-3)
    for path in (save_model(run(net), tmp_path / "a.h5"), save_archive(net, tmp_path / "b.keras")):
        refused(path, r"concatenates \[new features, input\]")
    biased = small(reversed_concat=True, eps=1e-3, use_bias=True)
    refused(save_weights(run(biased), tmp_path / "c.h5"), "conv2d_1 has kernel, bias")


def test_a_model_used_as_a_layer(tmp_path: Path) -> None:
    net = run(Applications())
    arrays = {
        f"{layer.name}/{name}:0": value
        for layer in net.layers.values()
        for name, value in float32(layer)
        if layer.kind != "Dense"
    }
    # as Keras orders them: what is trained first
    order = sorted(arrays, key=lambda name: "moving" in name)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"densenet121", b"dense"]
        inner, head = file.create_group("densenet121"), file.create_group("dense")
        inner.attrs["weight_names"] = [name.encode() for name in order]
        head.attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        for name in order:
            inner.create_dataset(name, data=arrays[name])
        for name, value in float32(net.layers["fc1000"]):
            head.create_dataset(f"dense/{name}:0", data=value)
    same_function(net, recognise_keras(tmp_path / "a.h5"))


def inside_another(archive: Path, *, rescaling: bool = False) -> Path:
    """The network without its head as a layer of a Sequential model, as transfer learning does."""
    with zipfile.ZipFile(archive) as whole:
        inner = json.loads(whole.read("config.json"))
        weights = io.BytesIO(whole.read("model.weights.h5"))
    layers = inner["config"]["layers"]
    head = layers.pop()
    assert head.pop("class_name") == "Dense"
    front = [{"class_name": "Rescaling", "config": {"name": "r", "scale": 1 / 255}}]
    outer = [
        {"class_name": "InputLayer", "config": {"name": "input_layer"}},
        *(front if rescaling else []),
        {"class_name": "Functional", "config": {"name": "densenet121", "layers": layers}},
        {"class_name": "GlobalAveragePooling2D", "config": {"name": "pool"}},
        {"class_name": "Dense", "config": head["config"]},
    ]
    with h5py.File(weights, "a") as file:
        file.move("layers", "inner")
        file.move("inner/dense", "layers/dense")
        file.move("inner", "layers/functional/layers")
    with zipfile.ZipFile(archive, "w") as nested:
        model = {"class_name": "Sequential", "config": {"name": "sequential", "layers": outer}}
        nested.writestr("config.json", json.dumps(model))
        nested.writestr("model.weights.h5", weights.getvalue())
    return archive


@pytest.mark.parametrize("original", [Applications, Titu])
def test_a_model_used_as_a_layer_in_keras_3(original: type[Original], tmp_path: Path) -> None:
    net = run(original())
    found = recognise_keras(inside_another(save_archive(net, tmp_path / "a.keras")))
    same_function(net, found)
    assert not any("preprocessing" in note for note in found.facts.notes)


@pytest.mark.parametrize("original", [Applications, Titu])
def test_preprocessing_inside_a_model_is_told_of(original: type[Original], tmp_path: Path) -> None:
    path = save_archive(run(original()), tmp_path / "a.keras")
    notes = recognise_keras(inside_another(path, rescaling=True)).facts.notes
    assert sum("preprocessing (Rescaling) is not read" in note for note in notes) == 1


def test_models_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers/dense/vars")
        for number in range(9):
            file[f"layers/functional_{number}/layers"] = file["layers"]
    refused(path, "models inside models, more than 4 deep")


def test_names_in_pieces(tmp_path: Path) -> None:
    net = run(Applications())
    path = save_weights(net, tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:20], names[20:]
    same_function(net, recognise_keras(path))


def without(net: Keras, *names: str) -> Keras:
    for name in names:
        del net.layers[name]
    return net


def test_no_classifier(tmp_path: Path) -> None:
    path = save_weights(without(run(Applications()), "fc1000"), tmp_path / "notop.h5")
    refused(path, "no classifier inside .*include_top=False")


@pytest.mark.parametrize("name", ["conv1/bn", "conv3_block2_1_conv", "pool2_conv", "bn"])
def test_a_missing_layer_is_told_by_the_loader(name: str, tmp_path: Path) -> None:
    path = save_weights(without(run(Applications()), name), tmp_path / "a.h5")
    with pytest.raises(InputError, match="is missing"):
        load_model(path)


def two_heads(net: Keras) -> None:
    net.layers["fc2"] = net.layers["fc1000"].__class__("Dense", "fc2", {}, [])
    net.layers["fc2"].weights = dict(net.layers["fc1000"].weights)


def transposed(net: Keras) -> None:
    weights = net.layers["conv1/conv"].weights
    weights["kernel"] = weights["kernel"].transpose(3, 2, 0, 1)


def renamed(net: Keras) -> None:
    layer = net.layers["conv3_block2_1_conv"]
    layer.name = "squeeze"


def no_gamma(net: Keras) -> None:
    del net.layers["bn"].weights["gamma"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (two_heads, "2 Dense layers"),
        (transposed, "conv1/conv has a kernel"),
        (renamed, "keras-applications network, but for the layer 'squeeze'"),
        (no_gamma, "bn has beta, mean, variance|bn has beta, moving"),
    ],
)
def test_other_networks(change: Callable[[Keras], None], reason: str, tmp_path: Path) -> None:
    net = run(Applications())
    change(net)
    refused(save_weights(net, tmp_path / "a.h5"), reason)


def describe_with(net: Original, change: Callable[[list[dict]], object]) -> str:
    raw = json.loads(description(net))
    change(raw["config"]["layers"])
    return json.dumps(raw)


def of(layers: list[dict], kind: str) -> dict:
    return [layer for layer in layers if layer["class_name"] == kind][-1]["config"]


def sigmoid_behind(layers: list[dict]) -> None:
    of(layers, "Dense")["activation"] = "linear"
    layers.append({"class_name": "Activation", "config": {"name": "p", "activation": "sigmoid"}})


def test_the_activation_behind_the_classifier(tmp_path: Path) -> None:
    net = run(Applications())
    path = save_model(net, tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = describe_with(net, sigmoid_behind)
    assert recognise_keras(path).facts.activation == "sigmoid"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lambda x: of(x, "Dense").update(activation="relu"), "the classifier ends in relu"),
        (lambda x: of(x, "Conv2D").update(activation="relu"), "has a relu of its own"),
        (lambda x: of(x, "BatchNormalization").update(epsilon=1e-3), "2 different eps"),
        (lambda x: None, "max pools behind the stem"),
        (lambda x: of(x, "Conv2D").pop("name"), r"damaged \(KeyError\)"),
        ("{", "damaged"),
        ("[1]", "damaged"),
        ('{"class_name": "Model", "config": ' + "[" * 100_000, "damaged"),
    ],
)
def test_descriptions(text: str | Callable, reason: str, tmp_path: Path) -> None:
    if callable(text):
        text = describe_with(run(Applications()), text)
    if "max pools" in reason:
        text = text.replace("AveragePooling2D", "MaxPooling2D")
    data, path = io.BytesIO(), tmp_path / "a.keras"
    with h5py.File(data, "w") as file:
        file.create_group("layers")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", text)
        archive.writestr("model.weights.h5", data.getvalue())
    refused(path, reason)


def test_every_truncation_is_bad_input(tmp_path: Path) -> None:
    net = run(Applications())
    path, whole = tmp_path / "a.h5", as_bytes(net)
    for end in [0, 1, 7, 8, 100, *range(512, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(path, "not a Keras weights file, or truncated")


def test_every_truncation_of_an_npz_is_bad_input(tmp_path: Path) -> None:
    whole = save_npz(run(Applications()), tmp_path / "a.npz").read_bytes()
    path = tmp_path / "b.npz"
    for end in [0, 1, 30, *range(100, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(path, "not an .npz archive")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_never_escape_as_other_errors(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    for name, whole in {
        "a.npz": save_npz(run(Applications()), tmp_path / "a.npz").read_bytes(),
        "a.keras": save_archive(run(small()), tmp_path / "a.keras").read_bytes(),
    }.items():
        for _ in range(20):
            data = np.frombuffer(whole, np.uint8).copy()
            places = random.integers(0, len(data), 30)
            data[places] = random.integers(0, 256, 30)
            path = tmp_path / name
            path.write_bytes(data.tobytes())
            try:
                recognise_npz(path) if path.suffix == ".npz" else recognise_keras(path)
            except InputError:
                continue


def test_hostile_hdf5(tmp_path: Path) -> None:
    secret = save_weights(run(Applications()), tmp_path / "secret.h5")
    path = tmp_path / "a.h5"

    def fresh() -> h5py.File:
        file = h5py.File(path, "w")
        file.attrs["layer_names"] = [b"conv1"]
        return file

    with fresh() as file:
        file["conv1"] = h5py.ExternalLink(secret, "/conv1")
    refused(path, "'conv1' is missing, or a link out of the file")
    with fresh() as file:
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1/kernel:0"]
        # a terabyte in a few bytes
        group.create_dataset("conv1/kernel:0", (512, 512, 1024, 1024), "f4", chunks=True)
    refused(path, "is too large for a DenseNet")
    with fresh() as file:
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1/kernel:0"]
        hollow = group.create_dataset("conv1/kernel:0", (64, 64, 64, 64), "f4", chunks=(1, 1, 1, 1))
        hollow[0, 0, 0, 0] = 1
    refused(path, r"\(64, 64, 64, 64\) is too large .* or not in the file")
    with fresh() as file:
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1/kernel:0"]
        group.create_dataset("conv1/kernel:0", data=np.zeros(3, np.int64))
    refused(path, "int64, no floating point numbers")
    with fresh() as file:
        group = file.create_group("conv1")
        group.attrs["weight_names"] = [b"conv1/embeddings:0"]
        group.create_dataset("conv1/embeddings:0", data=np.zeros(3, np.float32))
    refused(path, "'conv1/embeddings:0' is a weight of no layer")
    with h5py.File(path, "w") as file:
        file["x"] = 1
    refused(path, "an HDF5 file without Keras' layers")
    with h5py.File(path, "w") as file:
        file.create_group("layers/functional/layers/conv2d/vars")
    refused(path, "no classifier inside")


def test_hostile_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}], object))
    refused(path, "plain arrays")
    np.savez(path, a=np.zeros(3, np.int32))
    refused(path, "int32, no floating point")
    np.savez(path, a=np.float32(3))
    refused(path, "no arrays inside")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    refused(path, "no arrays inside")
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr("a.npy", data + bytes(16))
    refused(path, "or truncated")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", bytes(1000))
        archive.writestr("b.npy", bytes(1000))
    # sizes as the archive's directory tells them
    path.write_bytes(path.read_bytes().replace((1000).to_bytes(4, "little"), b"\xf0\xff\xff\xff"))
    refused(path, "unpacks to more than 4 GiB")
    np.savez(path, **{"conv1.weight": np.zeros((8, 3, 3, 3), np.float32)})
    refused(path, "a weight of no layer")


def test_arrays_of_get_weights(tmp_path: Path) -> None:
    net = small()
    arrays = [value for layer in run(net).layers.values() for _, value in float32(layer)]
    path = tmp_path / "a.npz"
    np.savez(path, *arrays)
    refused(path, "automatic names")
    same_function(net, recognise_npz(path, by_order=True))
    wide = Applications()
    np.savez(path, *[v for layer in run(wide).layers.values() for _, v in float32(layer)])
    refused(path, "fit keras-applications .* and titu1994", by_order=True)


def test_without_h5py(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "installed", lambda module: module != "h5py")
    with pytest.raises(MachineError, match="needs h5py") as caught:
        recognise_keras(tmp_path / "a.h5")
    assert "edgedense[keras]" in caught.value.remedy


def test_h5py_is_not_needed_for_npz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = save_npz(run(Applications()), tmp_path / "a.npz")
    real = builtins.__import__

    def block(name: str, *rest: object) -> object:
        assert not name.startswith("h5py")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", block)
    assert recognise_npz(path).scheme == "keras-applications"
