"""The real thing: a trained DenseNet-BC-100-12 and CIFAR-10, where EDGEDENSE_SHARED points.

A directory with ``checkpoints/densenet_bc_100_12_cifar10.pth.tar`` and ``cifar10/{train,test}``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedense import artifact
from edgedense.data import PRESETS, ImageSet, Preprocess, batches, load_set
from edgedense.densenet import zoo
from edgedense.densenet.checkpoints import Model, load_model
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.pytorch import TorchRunner
from edgedense.engines.runner import Interface, Runner
from edgedense.prune import PruneOptions, prune
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.quantize.options import Placement
from edgedense.stats import logit_sqnr_db

pytestmark = pytest.mark.shared
JUDGED = 1000


@pytest.fixture(scope="module")
def shared() -> Path:
    place = os.environ.get("EDGEDENSE_SHARED")
    if not place:
        pytest.skip("EDGEDENSE_SHARED is not set")
    return Path(place)


@pytest.fixture(scope="module")
def preprocess() -> Preprocess:
    return PRESETS["cifar10"]


@pytest.fixture(scope="module")
def model(shared: Path) -> Model:
    return load_model(shared / "checkpoints" / "densenet_bc_100_12_cifar10.pth.tar")


@pytest.fixture(scope="module")
def test_set(shared: Path) -> ImageSet:
    return load_set(shared / "cifar10" / "test")


def run(runner: Runner, images: ImageSet, preprocess: Preprocess) -> np.ndarray:
    return np.concatenate([runner(b.images) for b in batches(images, preprocess, 100)])


@pytest.fixture(scope="module")
def fp32(model: Model, test_set: ImageSet, preprocess: Preprocess) -> np.ndarray:
    interface = Interface("images", (3, 32, 32), "logits", (10,))
    return run(TorchRunner(model.network, interface), test_set, preprocess)


def test_the_checkpoint_is_recognised(model: Model) -> None:
    assert model.scheme == "andreasveit"
    assert model.spec == zoo.cifar_bc(100, 12)


def test_fp32_top1_is_what_was_measured_elsewhere(fp32: np.ndarray, test_set: ImageSet) -> None:
    assert len(test_set) == 5000
    assert int((fp32.argmax(axis=1) == test_set.labels).sum()) == 4728  # 94.56 %


@pytest.mark.parametrize(("placement", "least_db"), [("conv", 35.0), ("block", 32.5)])
def test_int8_keeps_accuracy_and_logits(
    placement: Placement,
    least_db: float,
    model: Model,
    shared: Path,
    fp32: np.ndarray,
    test_set: ImageSet,
    preprocess: Preprocess,
    tmp_path: Path,
) -> None:
    train = load_set(shared / "cifar10" / "train")
    options = QuantizeOptions(placement=placement, images=512)
    quantize(model, train, preprocess, tmp_path / "int8", options)
    made = artifact.read(tmp_path / "int8")
    interface = Interface.from_dict(made.manifest.interface)
    # the sample is shuffled by class, unlike the first 1000 of the tree
    rows = np.random.default_rng(0).permutation(len(test_set))[:JUDGED]
    judged = replace(test_set, items=tuple(test_set.items[row] for row in rows))
    found = run(OnnxRunner(made.file("int8.fp32.onnx"), interface), judged, preprocess)
    sqnr_db = logit_sqnr_db(fp32[rows], found)
    assert sqnr_db is not None
    assert sqnr_db >= least_db  # with all 5,000: 37.0 and 34
    right = [(x.argmax(axis=1) == judged.labels).mean() for x in (fp32[rows], found)]
    assert abs(right[0] - right[1]) <= 0.005


def test_a_pruned_network_keeps_accuracy_without_training(
    model: Model, shared: Path, test_set: ImageSet, preprocess: Preprocess, tmp_path: Path
) -> None:
    train = load_set(shared / "cifar10" / "train")
    prune(model, train, preprocess, tmp_path / "pruned", PruneOptions(macs=0.57, images=512))
    pruned = load_model(tmp_path / "pruned")
    interface = Interface("images", (3, 32, 32), "logits", (10,))
    found = run(TorchRunner(pruned.network, interface), test_set, preprocess)
    assert (found.argmax(axis=1) == test_set.labels).mean() >= 0.9456 - 0.010
