"""The engines of a run, each with all that its stages tell about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgedense.errors import InputError
from edgedense.report.facts import at, interval, mapping, number, text
from edgedense.targets import find_target

REHEARSAL = "cpu"
_NO_GATE = "open"


@dataclass(frozen=True)
class Engine:
    """One engine: what was built, measured and judged. A part that was not made is empty.

    ``name`` is the target, or the point of a sweep. ``origin`` names the quantize stage;
    ``whole`` is the description of the FP32 network before anything was removed.
    """

    name: str
    built: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, Any] = field(default_factory=dict)
    timed: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    origin: str | None = None
    samples: tuple[str, str] = ("", "")  # stage and series of its latency
    against: str = "against_ms"

    @property
    def target(self) -> str:
        """The target's name; where no engine is there to tell it, the stage's."""
        return text(self.built, "target") or self.name

    @property
    def device(self) -> str:
        """What the target is, in words."""
        try:
            return find_target(self.target).label
        except InputError:
            return self.target

    @property
    def rehearsal(self) -> bool:
        """Whether its numbers are those of ONNX Runtime on some computer."""
        if self.built:
            return self.target == REHEARSAL
        return text(self.judged, "engine_name") == "onnxruntime" or self.name == REHEARSAL

    @property
    def precision(self) -> str:
        """``INT8``; empty where it is not known."""
        return text(self.built, "precision").upper()

    @property
    def verdict(self) -> str:
        """``pass``, ``fail``, ``inconclusive``, ``open`` where no gate was set, or empty."""
        gates = number(self.judged, "max_drop_pp"), number(self.judged, "min_speedup")
        found = text(self.judged, "verdict")
        if found == "pass" and gates == (None, None) and not self.judged.get("reasons"):
            return _NO_GATE
        return found

    @property
    def metric(self) -> tuple[str, str]:
        """The key of its accuracy in a report, and how people call it."""
        dense = text(self.judged, "task") == "segmentation"
        return ("miou", "mean IoU") if dense else ("top1", "top-1 accuracy")

    @property
    def accuracy(self) -> float | None:
        """In percent."""
        return number(self.judged, "engine", self.metric[0])

    @property
    def drop(self) -> float | None:
        """In percentage points."""
        return number(self.judged, "drop_pp")

    @property
    def drop_ends(self) -> tuple[float, float] | None:
        """The 95 % interval of the drop."""
        return interval(self.judged, "drop_ci95")

    @property
    def speedup(self) -> float | None:
        """How many times faster than what it was timed against."""
        return number(self.timed, "speedup") or number(self.judged, "speedup")

    @property
    def speedup_ends(self) -> tuple[float, float] | None:
        """The 95 % interval of the speed-up."""
        return interval(self.timed, "speedup_ci95") or interval(self.judged, "speedup_ci95")

    @property
    def unstable(self) -> bool:
        """Whether its latency was measured, and was not stable."""
        return self.timed.get("stable") is False

    @property
    def unstable_speedup(self) -> bool:
        """Whether the latency of one of the two that were timed was not stable."""
        pair = self.timed.get("both_stable"), at(self.timed, "against", "stable")
        return self.unstable or False in pair


def engines(found: dict[str, Any]) -> list[Engine]:
    """Those of devices first, then rehearsals, each in the order of the run."""
    stages = mapping(found, "stages")
    built = [name for name, stage in stages.items() if stage["stage"] == "build-engine"]
    known = [_engine(stages, name) for name in built]
    known += _orphans(stages, {stages[name]["manifest_sha256"] for name in built})
    return sorted(known, key=lambda engine: engine.rehearsal)


def _engine(stages: dict[str, Any], name: str) -> Engine:
    stage = stages[name]
    sha256, bare = stage["manifest_sha256"], name.removeprefix("engine-")
    timed_name, timed = _reader(stages, "benchmark", sha256)
    samples, against = (timed_name, "samples_ms"), "against_ms"
    if not timed:
        timed_name, timed = _point(stages, name, sha256)
        samples = timed_name, bare
    by_hash = {other["manifest_sha256"]: key for key, other in stages.items()}
    origin = by_hash.get(stage["parents"].get("model"))
    return Engine(
        name=bare,
        built=stage["report"],
        judged=_reader(stages, "validate", sha256)[1],
        timed=timed,
        model=mapping(stage, "model"),
        whole=_whole(stages),
        origin=origin,
        samples=samples,
        against=against,
    )


def _reader(stages: dict[str, Any], kind: str, sha256: str) -> tuple[str, dict[str, Any]]:
    for name, stage in stages.items():
        if stage["stage"] == kind and stage["parents"].get("engine") == sha256:
            return name, stage["report"]
    return "", {}


def _point(stages: dict[str, Any], engine: str, sha256: str) -> tuple[str, dict[str, Any]]:
    """What a sweep's ``latency`` stage says about one engine."""
    for name, stage in stages.items():
        if stage["stage"] == "latency" and stage["parents"].get(engine) == sha256:
            return name, mapping(stage["report"], "points", engine.removeprefix("engine-"))
    return "", {}


def _orphans(stages: dict[str, Any], known: set[str]) -> list[Engine]:
    """Engines that were judged or timed, and are not in the run themselves."""
    parts: dict[str, dict[str, Any]] = {}
    for name, stage in stages.items():
        kind, sha256 = stage["stage"], stage["parents"].get("engine", name)
        if kind in ("validate", "benchmark") and sha256 not in known:
            part = parts.setdefault(sha256, {"name": name.removeprefix(f"{kind}-")})
            if kind == "validate":
                part["judged"] = stage["report"]
            else:
                part.update(timed=stage["report"], samples=(name, "samples_ms"))
    return [Engine(**part, whole=_whole(stages)) for part in parts.values()]


def _whole(stages: dict[str, Any]) -> dict[str, Any]:
    """The network as it was: by the reference, else by what pruning had before it."""
    for kind in ("reference", "import", "train"):
        for stage in stages.values():
            if stage["stage"] == kind and number(stage, "model", "macs"):
                return mapping(stage, "model")
    for stage in stages.values():
        if stage["stage"] == "prune":
            report = stage["report"]
            before = {key: report.get(f"{key}_before") for key in ("macs", "params")}
            return {**mapping(stage, "model"), **before}
    for stage in stages.values():
        if stage["stage"] == "quantize":
            return mapping(stage, "model")
    return {}
