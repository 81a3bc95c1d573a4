"""One tiny trained network with its images, and what the real stages make of it, once a session.

This file's presence also puts its directory on the import path: ``nets`` and ``onnx_rules`` are
shared by several rooms of tests.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOML = """\
input_size = [8, 8]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
interpolation = "bilinear"
colour = "RGB"
"""


@dataclass(frozen=True)
class Tiny:
    """A DenseNet-BC that tells which channel of an 8x8 image is brightest."""

    root: Path

    @property
    def checkpoint(self) -> Path:
        return self.root / "net.pth"

    @property
    def train(self) -> Path:
        return self.root / "train"

    @property
    def test(self) -> Path:
        return self.root / "test"

    @property
    def toml(self) -> Path:
        return self.root / "tiny.toml"


@dataclass(frozen=True)
class Made:
    """Artifacts of the tiny network: quantized with reference logits, and its cpu engine."""

    quantized: Path
    engine: Path


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> list[str]:
        """The lines of the error: what is wrong, and what mends it."""
        lines = self.err.splitlines()
        start = next((k for k, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        return lines[start:]


def draw(folder: Path, count: int, seed: int) -> None:
    """Class folders of noise in which the channel of the class is brighter."""
    random = np.random.default_rng(seed)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            pixels = random.integers(0, 120, (8, 8, 3))
            pixels[..., channel] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{k:03}.png")


def train_on(folder: Path, toml: Path, checkpoint: Path) -> None:
    import torch

    from edgedense.data import batches, load_preprocess, load_set
    from edgedense.densenet.family import initialised
    from edgedense.densenet.spec import DenseNetSpec

    network = initialised(DenseNetSpec.build([2, 2], 8, num_classes=3), 0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    images, preprocess = load_set(folder), load_preprocess(str(toml))
    for epoch in range(5):
        for batch in batches(images.sample(len(images), epoch), preprocess, 30):
            logits = network(torch.from_numpy(batch.images))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(network.state_dict(), checkpoint)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    found = Tiny(tmp_path_factory.mktemp("tiny"))
    draw(found.train, 40, seed=0)
    draw(found.test, 60, seed=1)
    found.toml.write_text(TOML)
    train_on(found.train, found.toml, found.checkpoint)
    return found


@pytest.fixture(scope="session")
def made(tiny: Tiny) -> Made:
    from edgedense import artifact
    from edgedense.build import BuildOptions, build_engine
    from edgedense.data import load_preprocess, load_set
    from edgedense.densenet.checkpoints import load_model
    from edgedense.engines.reference import record_reference
    from edgedense.pipeline import Inputs
    from edgedense.quantize import quantize

    found = Made(tiny.root / "int8", tiny.root / "engine")
    model, preprocess = load_model(tiny.checkpoint), load_preprocess(str(tiny.toml))
    inputs = Inputs(model, load_set(tiny.train), load_set(tiny.test), preprocess)
    reference = record_reference(inputs.runner(), inputs.evaluation, preprocess)
    quantize(model, inputs.calibration, preprocess, found.quantized, reference=reference)
    build_engine(artifact.read(found.quantized), found.engine, BuildOptions("cpu"))
    return found


@pytest.fixture(autouse=True)
def no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-xdist's workers have COLUMNS=80, and sentences would fold."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def edgedense(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Call the command line as the script does, in this process: words in, exit code out."""
    from edgedense.cli import main

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["edgedense", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return Ended(code, out, err)

    return call
