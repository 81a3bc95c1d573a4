from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import Floats, grey_set, logits, relative_error, tiny, trained
from onnx_rules import File

from edgedense import artifact
from edgedense.data import ImageSet, Preprocess, batches, content_hashes, load_set
from edgedense.densenet.checkpoints import Model
from edgedense.densenet.count import count_macs
from edgedense.densenet.spec import DenseNetSpec
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.reference import RecordedReference, load_reference
from edgedense.engines.runner import Interface
from edgedense.errors import EdgedenseError, InputError
from edgedense.quantize import QuantizeOptions, draw_calibration, quantize, stage, verify
from edgedense.quantize.verify import check_fp32, check_onnx, decibels

SIZE = (8, 8)
SPEC = tiny((2, 1), 4, in_channels=1)
GREY = Preprocess("tiny", SIZE, None, (0.5,), (0.25,), "bilinear", "L")
OPTIONS = QuantizeOptions(images=24)


def model(spec: DenseNetSpec = SPEC, **changes: Any) -> Model:
    whole = Model(trained(spec), "torchvision", "0" * 64, Path("model.pth"))
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return grey_set(tmp_path_factory.mktemp("images"), 40, SIZE)


@pytest.fixture(scope="module")
def made(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> artifact.Artifact:
    path = tmp_path_factory.mktemp("made") / "int8"
    quantize(model(calibration=("earlier",)), images, GREY, path, OPTIONS)
    return artifact.read(path)


def test_files_of_the_artifact(made: artifact.Artifact) -> None:
    assert sorted(made.manifest.files) == [
        "calibration.json",
        "fp16.onnx",
        "fp32.onnx",
        "golden.npz",
        "histograms.npz",
        "int8.cpu.onnx",
        "int8.fp16.onnx",
        "int8.fp32.onnx",
    ]
    assert {p.name for p in made.path.iterdir()} == {*made.manifest.files, "manifest.json"}
    for name in made.manifest.files:
        made.file(name)
    for name in ("fp16", "fp32", "int8.fp16", "int8.fp32"):
        file = File(onnx.load(made.file(f"{name}.onnx")), name.removeprefix("int8."))
        assert file.complaints() == []
        assert len(file.quantized()) == (9 if name.startswith("int8") else 0)
        properties = {p.key: p.value for p in file.model.metadata_props}
        assert json.loads(properties["edgedense.preprocess"]) == json.loads(
            json.dumps(GREY.to_dict())
        )


def test_manifest(made: artifact.Artifact, images: ImageSet) -> None:
    manifest = made.manifest
    assert manifest.stage == "quantize"
    assert set(manifest.parents) == {"model", "calibration"}
    assert manifest.parents["model"] == "0" * 64
    assert manifest.options == json.loads(json.dumps(asdict(OPTIONS)))
    assert Preprocess.from_dict(manifest.preprocess) == GREY
    assert Interface.from_dict(manifest.interface) == Interface(
        "images", (1, *SIZE), "logits", (3,), None
    )
    assert DenseNetSpec.from_dict(manifest.model["spec"]) == SPEC
    assert manifest.model["macs"] == count_macs(SPEC, SIZE)
    assert manifest.environment["seed"] == 0
    report = manifest.report
    assert {"onnx", "placement", "calibrator", "images", "sqnr_db", "seconds", "artifact"} <= set(
        report
    )
    assert (report["placement"], report["calibrator"], report["images"]) == ("conv", "mse", 24)
    assert report["onnx"] == str(made.path / "int8.fp16.onnx")
    assert report["quantized"] == 9
    assert report["file_bytes"] == {
        name.removesuffix(".onnx"): record.bytes
        for name, record in manifest.files.items()
        if name.endswith(".onnx")
    }
    assert 20 < report["sqnr_db"] < 60
    assert 0 < report["seconds"] < 600


def test_golden_images_are_calibration_images_with_pytorchs_logits(
    made: artifact.Artifact, images: ImageSet
) -> None:
    with np.load(made.file("golden.npz")) as golden:
        x, wanted = golden["images"], golden["logits"]
    assert x.dtype == wanted.dtype == np.float32
    assert x.shape == (8, 1, *SIZE)
    np.testing.assert_allclose(wanted, logits(trained(SPEC), x), rtol=1e-4, atol=1e-5)
    everything = next(iter(batches(images, GREY, 40))).images
    known = {image.tobytes() for image in everything}
    assert {image.tobytes() for image in x} <= known
    interface = Interface.from_dict(made.manifest.interface)
    found = OnnxRunner(made.file("int8.fp32.onnx"), interface)(x)
    assert decibels(wanted, found) > 20


def test_calibration_record(made: artifact.Artifact, images: ImageSet) -> None:
    record = json.loads(made.file("calibration.json").read_text())
    sample = draw_calibration(images, OPTIONS)
    assert len(sample) == 24
    assert record["content"][0] == "earlier"
    assert sorted(record["content"][1:]) == sorted(content_hashes(sample, GREY))
    assert record["source"] == images.source
    assert set(record["amax"]) == set(record["largest"])
    assert len(record["amax"]) == 9
    assert all(0 < record["amax"][name] <= record["largest"][name] for name in record["amax"])


def test_the_same_input_gives_the_same_bytes(
    made: artifact.Artifact, images: ImageSet, tmp_path: Path
) -> None:
    shuffled = replace(images, items=tuple(reversed(images.items)))
    quantize(model(calibration=("earlier",)), shuffled, GREY, tmp_path / "again", OPTIONS)
    again = artifact.read(tmp_path / "again")
    assert again.manifest.files == made.manifest.files


def test_options_have_their_effect(images: ImageSet, tmp_path: Path) -> None:
    options = QuantizeOptions("max", rest="fp32", skip=("conv0", "logits"), images=16)
    report = quantize(model(), images, GREY, tmp_path / "x", options)
    made = artifact.read(tmp_path / "x")
    record = json.loads(made.file("calibration.json").read_text())
    assert record["amax"] == record["largest"]
    assert report.onnx.endswith("int8.fp32.onnx")
    assert report.skipped == ("conv0", "logits")
    assert report.quantized == 7
    names = {node.name for node in File(onnx.load(report.onnx), "fp32").quantized()}
    assert len(names) == 7
    assert not names & {"conv0", "logits"}


def test_everything_skipped_is_the_fp32_network(images: ImageSet, tmp_path: Path) -> None:
    from edgedense.graph.lower import lower

    names = tuple(node.name for node in lower(trained(SPEC), SIZE).weighted())
    report = quantize(model(), images, GREY, tmp_path / "x", replace(OPTIONS, skip=names))
    assert report.quantized == 0
    assert report.sqnr_db > 100


def test_a_recorded_reference_travels_along(images: ImageSet, tmp_path: Path) -> None:
    reference = RecordedReference(("ab",), np.array([1]), np.ones((1, 3), np.float32), "torch")
    quantize(model(), images, GREY, tmp_path / "x", OPTIONS, reference)
    found = load_reference(artifact.read(tmp_path / "x").file("reference.npz"))
    assert found.content == ("ab",)
    np.testing.assert_array_equal(found.logits, reference.logits)


@pytest.fixture
def refused(images: ImageSet, tmp_path: Path) -> Callable[..., InputError]:
    def run(reason: str, **changes: Any) -> InputError:
        what = {"model": model(), "images": images, "preprocess": GREY, "options": OPTIONS}
        what |= changes
        destination = tmp_path / "refused"
        with pytest.raises(InputError, match=reason) as caught:
            quantize(
                what["model"], what["images"], what["preprocess"], destination, what["options"]
            )
        assert list(tmp_path.iterdir()) == []
        assert "\n" not in caught.value.what + caught.value.remedy
        return caught.value

    return run


def test_too_few_images(refused: Callable[..., InputError], images: ImageSet) -> None:
    few = replace(images, items=images.items[:3])
    refused("3 calibration images, at least 16", images=few)
    refused("15 calibration images", options=QuantizeOptions(images=15))


def test_an_unknown_name_to_skip(refused: Callable[..., InputError]) -> None:
    options = replace(OPTIONS, skip=("denseblock1.denselayer1.conv3",))
    error = refused(r"--skip denseblock1.denselayer1.conv3: no such convolution", options=options)
    assert "denseblock1.denselayer1.conv2" in error.remedy
    assert "conv0" in refused(r"--skip \?{4}", options=replace(OPTIONS, skip=("????",))).remedy


def test_images_of_another_kind(refused: Callable[..., InputError]) -> None:
    colour = Preprocess("c", SIZE, None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
    refused(r"reads 1 channel\(s\), the preprocessing gives 3", preprocess=colour)
    refused("8x8|8 x 8", preprocess=replace(GREY, input_size=(16, 16)))


def test_an_input_that_is_too_small_for_the_network(refused: Callable[..., InputError]) -> None:
    deep = model(tiny((1, 1, 1, 1, 1), 2, in_channels=1))
    refused("8x8 pixels is too small", model=deep)


def test_weights_that_overflow(refused: Callable[..., InputError]) -> None:
    wild = model()
    wild.network.features.conv0.weight.data *= 1e38
    refused("not finite|NaN|does not fit", model=wild)


def big(factor: float) -> Model:
    """Equal logits, but what the classifier reads is ``factor`` times as large."""
    whole = model()
    features = whole.network.features
    features.norm5.weight.data *= factor
    features.norm5.bias.data *= factor
    whole.network.classifier.weight.data /= factor
    return whole


@pytest.mark.parametrize("factor", [2.5e4, 1e6])
def test_a_network_beyond_fp16_works_with_rest_fp32_as_its_message_says(
    factor: float, refused: Callable[..., InputError], images: ImageSet, tmp_path: Path
) -> None:
    """Once it is an activation that FP16 cannot hold, once a parameter."""
    error = refused("FP16", model=big(factor))
    assert "--rest fp32" in error.remedy
    options = replace(OPTIONS, rest="fp32")
    report = quantize(big(factor), images, GREY, tmp_path / "x", options)
    assert set(report.file_bytes) == {"fp32", "int8.fp32", "int8.cpu"}
    assert report.sqnr_db > (20 if factor < 1e6 else 0)


def test_an_existing_destination_is_refused_before_any_work(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(stage, "lower", work)
    (tmp_path / "x").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        quantize(model(), images, GREY, tmp_path / "x", OPTIONS)
    assert (tmp_path / "x").read_text() == "mine"


def spoil(path: Path, name: str, factor: float) -> None:
    from onnx import numpy_helper

    file = onnx.load(path)
    entry = next(i for i in file.graph.initializer if i.name == name)
    value = numpy_helper.to_array(entry)
    entry.CopyFrom(numpy_helper.from_array(np.asarray(value * factor, value.dtype), name))
    onnx.save(file, path)


@pytest.mark.parametrize(
    ("file", "constant", "factor"),
    [
        ("int8.fp32", "denseblock1.denselayer1.norm1.relu.qdq.scale", 4.0),
        ("int8.fp16", "denseblock1.denselayer1.norm1.relu.qdq.scale", 0.25),
        ("int8.fp32", "denseblock1.denselayer2.conv1.weight.scale", 1.5),
        ("fp32", "denseblock1.denselayer1.conv1.bias", 1.01),
        ("fp16", "denseblock1.denselayer1.conv1.weight", 2.0),
    ],
)
def test_a_wrong_file_is_seen_and_nothing_stays_behind(
    file: str,
    constant: str,
    factor: float,
    images: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = stage.export_onnx

    def export(graph: Any, path: Path, *rest: Any) -> None:
        honest(graph, path, *rest)
        if path.name == f"{file}.onnx":
            spoil(path, constant, factor)

    monkeypatch.setattr(stage, "export_onnx", export)
    with pytest.raises(EdgedenseError, match=r"PyTorch|simulation|FP16"):
        quantize(model(), images, GREY, tmp_path / "x", OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("constant", "factor"),
    [
        ("denseblock1.denselayer1.norm1.relu.qdq.codes.scale", 4.0),
        ("denseblock1.denselayer2.conv1.codes.weight.scale", 1.5),
        ("logits.weight.scale", 1.5),
    ],
)
def test_a_wrong_integer_file_is_seen_and_nothing_stays_behind(
    constant: str,
    factor: float,
    images: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = stage.export_integer

    def export(graph: Any, path: Path, metadata: dict[str, str]) -> Any:
        written = honest(graph, path, metadata)
        spoil(path, constant, factor)
        return written

    monkeypatch.setattr(stage, "export_integer", export)
    with pytest.raises(EdgedenseError, match=r"int8\.cpu\.onnx against the simulation"):
        quantize(model(), images, GREY, tmp_path / "x", OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_lowering_that_computes_something_else_is_seen(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedense.graph.lower import lower

    other = trained(SPEC, seed=1)
    monkeypatch.setattr(stage, "lower", lambda _, size: lower(other, size))
    with pytest.raises(EdgedenseError, match="deployed graph differs from PyTorch") as caught:
        quantize(model(), images, GREY, tmp_path / "x", OPTIONS)
    assert not isinstance(caught.value, InputError)
    assert list(tmp_path.iterdir()) == []


def test_check_fp32_is_relative_to_the_largest_logit() -> None:
    wanted = np.array([[1000.0, 1.0]], np.float32)
    check_fp32(wanted, wanted + np.float32(0.09), "it")
    with pytest.raises(EdgedenseError, match="it differs"):
        check_fp32(wanted, wanted + np.float32(0.11), "it")
    with pytest.raises(EdgedenseError, match="it differs"):
        check_fp32(wanted, wanted * np.float32("nan"), "it")


def test_a_simulation_that_is_not_finite_passes_nothing(
    made: artifact.Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(made.file("golden.npz")) as golden:
        x, fp32 = golden["images"], golden["logits"]
    interface = Interface.from_dict(made.manifest.interface)
    paths = {name: made.file(f"{name}.onnx") for name in ("fp32", "int8.fp32")}
    with pytest.raises(EdgedenseError):
        check_onnx(paths, interface, x, fp32, fp32 * np.float32("nan"), fp32)


def test_decibels() -> None:
    wanted = np.array([[3.0, 4.0]], np.float32)
    assert decibels(wanted, np.array([[3.0, 4.5]], np.float32)) == pytest.approx(20)
    assert decibels(wanted, wanted * np.float32("inf")) == -np.inf
    assert verify.decibels(wanted, wanted) == 200


def test_imagenet_stem_max_pool_and_plain_layers_go_through(tmp_path: Path) -> None:
    spec = tiny((1, 2), 4, stem="imagenet", bottleneck=False, pool="max")
    pixels = np.random.default_rng(1).integers(0, 256, (16, 19, 22, 3), dtype=np.uint8)
    np.savez(tmp_path / "c.npz", images=pixels)
    colour = Preprocess("c", (19, 22), None, (0.5,) * 3, (0.25,) * 3, "bilinear", "RGB")
    quantize(model(spec), load_set(tmp_path / "c.npz"), colour, tmp_path / "x")
    made = artifact.read(tmp_path / "x")
    with np.load(made.file("golden.npz")) as golden:
        x, wanted = golden["images"], golden["logits"]
    interface = Interface.from_dict(made.manifest.interface)
    found: Floats = OnnxRunner(made.file("fp32.onnx"), interface)(x)
    assert relative_error(wanted, found) < 1e-4
