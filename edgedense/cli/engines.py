"""Opening engines and references for the commands that run them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgedense.cli import params
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.engines.reference import RecordedReference
    from edgedense.engines.runner import Runner


@contextlib.contextmanager
def opened(source: Artifact) -> Iterator[Runner]:
    """An engine, verified and open inside the block."""
    from edgedense.cli.terminal import Terminal
    from edgedense.engines.opening import open_engine
    from edgedense.engines.tensorrt import TensorRTRunner

    runner = open_engine(source)
    try:
        if isinstance(runner, TensorRTRunner):
            for note in runner.notes:
                Terminal().say(f"note: {note}")
        yield runner
    finally:
        runner.close()


def fp32_of(model: Path, source: Artifact) -> Runner:
    """The FP32 reference in PyTorch, with the preprocessing of the engine ``source``."""
    from edgedense.data import Preprocess

    preprocess = Preprocess.from_dict(source.manifest.preprocess)
    return params.fp32_runner(params.read_model(model), preprocess)


def reference_of(source: Artifact, model: Path | None) -> Runner | RecordedReference:
    """What to judge an engine against: the network given, or the logits that travel along.

    Errors: InputError where there is neither.
    """
    from edgedense.artifact import REFERENCE_FILE
    from edgedense.engines.reference import load_reference

    if model is not None:
        return fp32_of(model, source)
    if source.has(REFERENCE_FILE):
        return load_reference(source.file(REFERENCE_FILE))
    raise InputError(
        f"{source.path} carries no FP32 logits to judge against",
        "Give the network with --reference MODEL, or record them: edgedense quantize … --eval SET",
    )
