"""Checks between what PyTorch, our simulation and the written ONNX files compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgedense.densenet.family import Network
from edgedense.engines.onnxruntime import OnnxRunner
from edgedense.engines.runner import Interface
from edgedense.errors import EdgedenseError, InputError
from edgedense.graph.nodes import Affine, Array, Graph, Node, Weighted
from edgedense.graph.run import GraphRunner
from edgedense.memory import give_back
from edgedense.stats import logit_sqnr_db

# a check needs no more memory than calibration does
_PIXELS_AT_ONCE = 2 * 224 * 224
_MOST_AT_ONCE = 8
# FP32 against FP32 differs by the order of additions only
FP32_TOLERANCE = 1e-4
# a value within rounding error of a code's border may fall on either side, and each such flip
# spreads through all later layers: a right file agrees to some 35 to 45 dB. How far it may be off
# is what the simulation itself is off when its parameters change by some roundings; images alone
# would not do, their pixels have codes of their own
SIMULATION_MARGIN_DB = 3.0
_ROUNDINGS = 2.0**-21
_TWIN_MARGIN_DB = 4.0
# its sums are exact where the simulation rounds: one code flips in some ten thousand values
INTEGER_MARGIN_DB = 3.0
INTEGER_CEILING_DB = 40.0
# above these the two may differ by rounding to the file's float type alone
FP32_CEILING_DB = 60.0
FP16_CEILING_DB = 40.0
FP16_SQNR_DB = 25.0


def in_parts(run: Callable[[Array], Array], images: Array) -> Array:
    """What ``run`` gives for ``images`` (N, C, H, W), asked for a few of them at a time."""
    size = max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (images.shape[2] * images.shape[3])))
    return np.concatenate([run(images[at : at + size]) for at in range(0, len(images), size)])


def pytorch_logits(network: Network, images: Array) -> Array:
    """FP32 logits of the PyTorch network. Errors: InputError where they are not finite."""

    def run(few: Array) -> Array:
        found: Array = network(torch.from_numpy(few)).numpy()
        return found

    with torch.inference_mode():
        logits = in_parts(run, images)
    if not np.isfinite(logits).all():
        raise InputError(
            "the network gives NaN or infinite logits on real images",
            "Check --preprocess, and the checkpoint by: edgedense inspect",
        )
    if not logits.any():
        raise InputError("all logits of the network are zero", "Take a trained checkpoint.")
    return logits


def check_fp32(wanted: Array, found: Array, what: str) -> None:
    """Both must agree to ``FP32_TOLERANCE`` of the largest logit."""
    error = float(np.abs(wanted - found).max() / max(float(np.abs(wanted).max()), 1e-12))
    if not error <= FP32_TOLERANCE:
        raise EdgedenseError(f"{what} differs from PyTorch by {error:.2g} of the largest logit")


def check_onnx(
    paths: dict[str, Path],
    interface: Interface,
    images: Array,
    fp32: Array,
    simulated: Array,
    twin: Array,
) -> dict[str, float]:
    """Run each written file and compare it; gives the agreement in dB by file name.

    ``paths`` has the keys ``fp32`` and ``int8.fp32``, and where FP16 is wanted ``fp16`` and
    ``int8.fp16``; ``interface`` is the artifact's; ``fp32`` are the PyTorch logits of
    ``images``, ``simulated`` those of the INT8 simulation, ``twin`` of its :func:`shaken`
    twin. Errors: EdgedenseError where a file
    computes something else than it should; InputError where the network needs more than FP16.
    """
    found = {}
    for name, path in paths.items():
        runner = OnnxRunner(path, interface.of(name), exact=True)
        found[name] = in_parts(runner, images)
        runner.close()
        give_back()
    check_fp32(fp32, found["fp32"], "the FP32 ONNX")
    if not np.isfinite(simulated).all():
        raise EdgedenseError("the INT8 simulation gives NaN or infinite logits")
    noise = decibels(fp32, simulated)
    agreement = {
        name: decibels(simulated if name.startswith("int8") else fp32, logits)
        for name, logits in found.items()
    }
    own_db = decibels(simulated, twin) - _TWIN_MARGIN_DB
    floor_db = min(noise + SIMULATION_MARGIN_DB, own_db, FP32_CEILING_DB)
    _floor("int8.fp32.onnx against the simulation", agreement["int8.fp32"], floor_db)
    # the FP32 files were right, so these are too: it is the network that does not fit
    half_db = min(noise, FP16_CEILING_DB) - SIMULATION_MARGIN_DB
    for name, floor_db in (("fp16", FP16_SQNR_DB), ("int8.fp16", half_db)):
        if name in agreement and not agreement[name] >= floor_db:
            raise InputError(
                f"with FP16 the network keeps {agreement[name]:.1f} dB of its logits "
                f"({name}.onnx), where {floor_db:.1f} dB are needed",
                "Keep the other operators in FP32: --rest fp32.",
            )
    return agreement


def shaken(graph: Graph) -> Graph:
    """The graph with its biases, shifts and scales of BN off by some roundings of FP32."""
    random = np.random.default_rng(0)

    def off(values: Array) -> Array:
        relative = random.standard_normal(values.shape).astype(np.float32) * _ROUNDINGS
        found: Array = values * (1 + relative) + relative * np.abs(values).max()
        return found

    def change(node: Node) -> Node:
        if isinstance(node, Affine):
            return replace(node, scale=off(node.scale), shift=off(node.shift))
        return replace(node, bias=off(node.bias)) if isinstance(node, Weighted) else node

    return graph.map(change)


def check_integer(
    path: Path, interface: Interface, written: Graph, images: Array, fp32: Array
) -> float:
    """Run the file of integer operators as it is meant to run; gives its agreement in dB.

    ``written`` is the graph that it was written from, its biases rounded. Errors: EdgedenseError
    where it computes something else.
    """
    runner = OnnxRunner(path, interface.of(path.name))
    found = in_parts(runner, images)
    runner.close()
    simulated = in_parts(GraphRunner(written), images)
    noise = decibels(fp32, simulated)
    twin = in_parts(GraphRunner(shaken(written)), images)
    own_db = decibels(simulated, twin) - _TWIN_MARGIN_DB
    floor_db = min(noise - INTEGER_MARGIN_DB, INTEGER_CEILING_DB - INTEGER_MARGIN_DB, own_db)
    agreement_db = decibels(simulated, found)
    _floor(f"{path.name} against the simulation", agreement_db, floor_db)
    return agreement_db


def decibels(wanted: Array, found: Array) -> float:
    """Logit SQNR in dB; minus infinity where ``found`` is not finite."""
    found_db = logit_sqnr_db(wanted, found)
    return -math.inf if found_db is None else found_db


def _floor(what: str, agreement_db: float, floor_db: float) -> None:
    if not agreement_db >= floor_db:
        raise EdgedenseError(
            f"{what}: {agreement_db:.1f} dB, where at least {floor_db:.1f} dB is expected"
        )
