"""A new TensorRT engine, opened on the machine that built it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedense.artifact import INSPECTOR_FILE, PROFILE_FILE, write_json
from edgedense.build.golden import Golden, golden_sqnr, golden_warnings
from edgedense.engines.layer_times import profile_rows
from edgedense.engines.runner import Images, Interface
from edgedense.engines.tensorrt import TensorRTRunner
from edgedense.engines.tensorrt_api import Dialect, explain, open_logger
from edgedense.errors import MachineError
from edgedense.progress import Progress


@dataclass(frozen=True)
class Trial:
    """What came of opening or running an engine: None where that was not tried."""

    activation_bytes: int | None = None
    golden_sqnr_db: float | None = None
    warnings: tuple[str, ...] = ()


def inspect(trt: Any, dialect: Dialect, engine_path: Path, interface: Interface) -> Trial:
    """Open an engine, and write ``inspector.json`` beside it.

    Errors: MachineError where it does not open on this machine.
    """
    logger, journal = open_logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(engine_path.read_bytes())
    if engine is None:
        raise explain(reversed(journal.errors), "the new engine does not open on this machine")
    size = int(getattr(engine, dialect.memory_size))
    text = _layers(trt, engine, interface)
    del engine  # before its runtime
    try:
        json.loads(text)
    except ValueError:
        return Trial(size, warnings=("TensorRT's list of layers is no JSON: it was not kept",))
    (engine_path.parent / INSPECTOR_FILE).write_text(text, encoding="utf-8")
    return Trial(size)


def _layers(trt: Any, engine: Any, interface: Interface) -> str:
    """The inspector's JSON of all layers.

    While the batch is free, it hides formats and types ("N/A due to dynamic shapes"): a context
    settles it. Without memory for one, that much is told all the same.
    """
    inspector = engine.create_engine_inspector()
    context = engine.create_execution_context()
    if context is not None:
        shape = (optimal_batch(interface), *interface.input_shape)
        if context.set_input_shape(interface.input_name, trt.Dims(shape)):
            inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def try_out(
    module_name: str,
    engine_path: Path,
    interface: Interface,
    precision: str,
    golden: Golden | None,
    progress: Progress,
) -> Trial:
    """Run an engine on the golden images, and write ``profile.json`` beside it.

    Errors: InputError where it computes NaN. An engine that cannot be run here and now (the memory
    may be taken) is a warning: it took long to build.
    """
    try:
        with TensorRTRunner(engine_path, interface, module_name) as runner:
            found = None if golden is None else golden_sqnr(runner, golden)
            batch = _batch(interface, golden)
            rows = profile_rows(runner, batch, progress=progress)
            write_json(engine_path.parent / PROFILE_FILE, rows)
    except MachineError as error:
        return Trial(warnings=(f"the new engine was not tried: {error.what}",))
    warnings = () if golden is None else golden_warnings(found, golden, precision)
    return Trial(golden_sqnr_db=found, warnings=warnings)


def _batch(interface: Interface, golden: Golden | None) -> Images:
    """One batch of the size that the engine was tuned for."""
    size = optimal_batch(interface)
    if golden is None:
        return np.zeros((size, *interface.input_shape), np.float32)
    return golden.images[np.arange(size) % len(golden.images)]


def optimal_batch(interface: Interface) -> int:
    """The batch that the engine was tuned for."""
    return interface.batch[1] if interface.batch else 1
