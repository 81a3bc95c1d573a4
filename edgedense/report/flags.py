"""The options of stages as the command line has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flag:
    """An option of a stage, as the command line has it; left out where it is its ``default``.

    A ``switch`` has a word for True and one for False; a list is given value by value, or
    ``joined`` by commas.
    """

    key: str
    name: str
    default: Any = None
    switch: tuple[str, str] | None = None
    joined: bool = False


_SEED = Flag("seed", "--seed", 0)
FLAGS: dict[str, tuple[Flag, ...]] = {
    "prune": (
        Flag("method", "--method"),
        Flag("scope", "--scope", "auto"),
        Flag("align", "--align"),
        Flag("iterations", "--iterations", 1),
        Flag("images", "--images", 512),
        Flag("reestimate_bn", "", True, ("--reestimate-bn", "--keep-bn")),
        Flag("latency_table", "--latency-table"),
        _SEED,
    ),
    "quantize": (
        Flag("placement", "--placement"),
        Flag("effort", "--effort", "default"),
        Flag("calibrator", "--calibrator", "mse"),
        Flag("percentile", "--percentile", 99.999),
        Flag("rest", "--rest", "fp16"),
        Flag("io", "--io", "fp32"),
        Flag("skip", "--skip"),
        Flag("int8_stem", "", None, ("--int8-stem", "--skip-stem")),
        Flag("float_concats", "--float-concat"),
        Flag("max_drop_pp", "--max-drop"),
        Flag("sensitivity", "", False, ("--sensitivity", "")),
        Flag("sensitivity_images", "--sensitivity-images", 64),
        Flag("images", "--images", 512),
        _SEED,
    ),
    "build-engine": (
        Flag("target", "--target"),
        Flag("precision", "--precision", "int8"),
        Flag("rest", "--rest"),
        Flag("workspace_mib", "--workspace"),
        Flag("timing_cache", "--timing-cache"),
        Flag("optimization_level", "--optimization-level", 3),
        Flag("sms", "--sm", [], joined=True),
    ),
    "benchmark": (
        Flag("batch", "--batch", 1),
        Flag("iterations", "--iterations"),
        Flag("min_seconds", "--min-seconds"),
        Flag("max_seconds", "--max-seconds", 30.0),
        Flag("warmup_seconds", "--warm-up", 0.5),
        _SEED,
    ),
    "validate": (
        Flag("ignore_class", "--ignore-class", []),
        Flag("baseline", "--baseline"),
        Flag("max_regression_pp", "--max-regression", 0.0),
        Flag("max_slowdown_percent", "--max-slowdown", 10.0),
        Flag("latency", "", True, ("--latency", "--no-latency")),
        Flag("force", "", False, ("--force", "")),
    ),
    "finetune": (
        Flag("epochs", "--epochs"),
        Flag("batch", "--batch"),
        Flag("lr", "--lr"),
        Flag("optimizer", "--optimizer", "sgd"),
        Flag("schedule", "--schedule"),
        Flag("momentum", "--momentum"),
        Flag("weight_decay", "--weight-decay"),
        Flag("label_smoothing", "--label-smoothing", 0.0),
        Flag("keep", "--keep", "last"),
        Flag("patience", "--patience"),
        Flag("temperature", "--temperature", 4.0),
        Flag("alpha", "--alpha", 0.9),
        Flag("memory_efficient", "", False, ("--memory-efficient", "")),
        Flag("amp", "", False, ("--amp", "")),
        _SEED,
    ),
}
