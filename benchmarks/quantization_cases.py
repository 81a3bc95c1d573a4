"""What all quantizers of the benchmark get: a network, its FP32 ONNX, images and logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from edgedense.data import ImageSet, Preprocess, batches, load_preprocess, load_set
from edgedense.densenet import zoo
from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.family import initialised
from edgedense.engines.pytorch import reference_runner
from edgedense.engines.reference import RecordedReference, record_reference
from edgedense.engines.runner import Interface
from edgedense.graph.export import export_onnx
from edgedense.graph.lower import lower


@dataclass(frozen=True)
class Case:
    """What is quantized; where the weights are random, labels mean nothing."""

    model: Path
    sample: ImageSet
    judged: ImageSet
    preprocess: Preprocess
    trained: bool


@dataclass(frozen=True)
class Given:
    """The files and logits that all tools share, in ``folder``."""

    case: Case
    folder: Path
    interface: Interface
    reference: RecordedReference
    peer_python: str

    @property
    def fp32(self) -> Path:
        return self.folder / "fp32.onnx"

    @property
    def images(self) -> Path:
        return self.folder / "calibration.npy"


def case_of(
    model: Path | None,
    calib: Path | None,
    evaluation: Path | None,
    preprocess: str | None,
    network: str | None,
    images: int,
    judged: int,
    folder: Path,
) -> Case:
    """What the words of a command name: a checkpoint and its images, or a network of the zoo."""
    if network:
        return synthetic(network, images, folder)
    if not (model and calib and evaluation and preprocess):
        raise click.UsageError("give MODEL, --calib, --eval and --preprocess, or --network")
    data = load_set(evaluation)
    data = data.sample(min(judged, len(data)), 0)
    sample = load_set(calib).sample(images, 0)
    return Case(model, sample, data, load_preprocess(preprocess), trained=True)


def case_options(command: Callable[..., None]) -> Callable[..., None]:
    """MODEL with its images, or --network."""
    words = (
        click.argument("model", type=click.Path(path_type=Path), required=False),
        click.option("--calib", type=click.Path(path_type=Path)),
        click.option("--eval", "evaluation", type=click.Path(path_type=Path)),
        click.option("--preprocess"),
        click.option("--network", help="Instead of MODEL: a network of the zoo, random weights."),
    )
    for word in reversed(words):
        command = word(command)
    return command


def prepared(case: Case, folder: Path, peer_python: str) -> Given:
    """FP32 ONNX, calibration images as an array, and PyTorch's logits."""
    network = load_model(case.model).network
    runner = reference_runner(network, case.preprocess.input_size)
    reference = record_reference(runner, case.judged, case.preprocess)
    given = Given(case, folder, runner.interface, reference, peer_python)
    export_onnx(lower(network, case.preprocess.input_size), given.fp32, "fp32", {})
    parts = [batch.images for batch in batches(case.sample, case.preprocess, 32)]
    np.save(given.images, np.concatenate(parts))
    return given


def synthetic(name: str, images: int, folder: Path) -> Case:
    """A network of the zoo with random weights, and coloured noise in several sizes as images."""
    import torch
    from PIL import Image

    entry = next(entry for entry in zoo.ENTRIES if entry.name == name)
    small = max(entry.input_size) <= 64
    size = entry.input_size if small else (256, 256)
    preprocess = load_preprocess("cifar10" if small else "imagenet")
    draw = np.random.default_rng(0)
    for number in range(2 * images):
        coarse = draw.integers(0, 256, (2 << number % 5, 2 << number % 5, 3), np.uint8)
        place = folder / ("calibration", "judged")[number % 2] / f"{number // 2 % 2}"
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        picture.save(place / f"{number}.png")
    sets = [load_set(folder / part) for part in ("calibration", "judged")]
    network = initialised(zoo.find(name), 0).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(torch.from_numpy(next(iter(batches(sets[0], preprocess, 16))).images))
    checkpoint = folder / f"{name}.pth"
    torch.save({"state_dict": network.state_dict()}, checkpoint)
    return Case(checkpoint, *sets, preprocess, trained=False)
