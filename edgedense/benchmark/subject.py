"""What is to be measured, by its place: so that another process can open it too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.engines.opening import STAGE, open_engine, recorded_interface
from edgedense.engines.runner import Runner
from edgedense.environment import require


@dataclass(frozen=True)
class Subject:
    """An engine, or a trained network to run in FP32 PyTorch (``preprocess_of`` is then given).

    ``name`` is how tables call it. ``preprocess_of`` is the engine whose images it takes.
    """

    path: Path
    name: str
    preprocess_of: Path | None = None

    def open(self) -> Runner:
        """A runner; whoever opens it closes it.

        Errors: InputError where it is damaged; MachineError where its runtime is missing.
        """
        if self.preprocess_of is None:
            return open_engine(artifact.read(self.path))
        return _fp32(self.path, artifact.read(self.preprocess_of))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Runner]:
        """A runner that is open inside the block."""
        runner = self.open()
        try:
            yield runner
        finally:
            runner.close()

    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), without opening it. Errors: InputError where damaged."""
        return recorded_interface(artifact.read(self.preprocess_of or self.path)).input_shape

    @property
    def sha256(self) -> str:
        """What identifies it. Errors: InputError where there is no such file or artifact."""
        return artifact.sha256_of(self.path)


def engine_subject(path: Path) -> Subject:
    """An engine by its directory. Errors: InputError where it is none."""
    return Subject(path, engine_name(artifact.read(path)))


def other_subject(path: Path, engine: Path) -> Subject:
    """Another engine, or a trained network that takes the images of ``engine``.

    Errors: InputError where there is nothing at ``path``.
    """
    if artifact.is_artifact(path) and artifact.read(path).manifest.stage == STAGE:
        return engine_subject(path)
    artifact.sha256_of(path)
    return Subject(path, f"{path.name} (PyTorch fp32)", engine)


def engine_name(engine: Artifact) -> str:
    """``name (target precision)``, as tables call an engine."""
    report = engine.manifest.report
    told = [str(report[key]) for key in ("target", "precision") if report.get(key)]
    name = engine.path.absolute().name
    return f"{name} ({' '.join(told)})" if told else name


def _fp32(model: Path, engine: Artifact) -> Runner:
    for module in ("torch", "safetensors"):
        require(module, "running a trained network")
    from edgedense.data import Preprocess
    from edgedense.densenet.checkpoints import check_channels, load_model
    from edgedense.engines.pytorch import reference_runner

    preprocess = Preprocess.from_dict(engine.manifest.preprocess)
    found = load_model(model)
    check_channels(found.spec, preprocess.channels)
    return reference_runner(found.network, preprocess.input_size)
