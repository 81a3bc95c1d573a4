"""The stage ``import``: a checkpoint of any code base in, an artifact with its network out."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.data import Preprocess
from edgedense.densenet.checkpoints import LoadOptions, Model, check_channels, save_weights
from edgedense.densenet.count import describe, usual_input_size
from edgedense.engines.pytorch import interface_of

STAGE = "import"


@dataclass(frozen=True)
class ImportReport:
    """What was imported; ``preprocess`` is the name of what was recorded, None for nothing.

    ``params`` and ``macs`` are counts, the latter for one image of ``input_size`` (height, width).
    """

    scheme: str
    family: str
    task: str
    activation: str
    num_classes: int
    params: int
    macs: int
    input_size: tuple[int, int]
    preprocess: str | None
    notes: tuple[str, ...]
    seconds: float
    artifact: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "input_size": list(self.input_size), "notes": list(self.notes)}


def import_model(
    model: Model, preprocess: Preprocess | None, destination: Path, options: LoadOptions
) -> ImportReport:
    """Write ``model`` as the artifact ``destination``, which every command takes as MODEL.

    ``options`` are those that it was loaded with, to be recorded. Errors: InputError where
    ``preprocess`` gives other channels than the network reads, or too small images.
    """
    started = time.perf_counter()
    artifact.check_absent(destination)
    spec = model.spec
    size = usual_input_size(spec)
    if preprocess is not None:
        check_channels(spec, preprocess.channels)
        size = preprocess.input_size
    facts = describe(spec, size)
    report = ImportReport(
        scheme=model.scheme,
        family=spec.family,
        task=spec.task,
        activation=spec.activation,
        num_classes=spec.num_classes,
        params=facts["params"],
        macs=facts["macs"],
        input_size=size,
        preprocess=preprocess.name if preprocess else None,
        notes=model.notes,
        seconds=time.perf_counter() - started,
        artifact=str(destination),
    )
    with artifact.create(
        destination,
        STAGE,
        parents={"model": model.sha256},
        options=asdict(options),
        preprocess=preprocess.to_dict() if preprocess else None,
    ) as draft:
        draft.interface = interface_of(spec, size).to_dict()
        draft.model = facts
        save_weights(model.network, draft.path / artifact.WEIGHTS_FILE)
        draft.report = report.to_dict()
    return report
