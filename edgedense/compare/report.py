"""What a comparison of two engines found, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgedense import artifact, stats
from edgedense.artifact import Artifact
from edgedense.compare.paired import Difference, difference
from edgedense.compare.verdict import NEITHER, NOT_ENOUGH, Decision, Terms, decide
from edgedense.validate import Gates, Judgement
from edgedense.validate.judge import Measured, judge

STAGE = "compare"
REHEARSAL = "cpu"
REHEARSAL_NOTE = (
    "A rehearsal on cpu: neither this accuracy nor this speed is the device's. Compare again there."
)
_BITS = {"int4": 4, "int8": 8, "fp8": 8, "fp16": 16, "bf16": 16, "fp32": 32}


@dataclass(frozen=True)
class Facts:
    """What is known of an engine besides what it was measured to do; None where nobody tells."""

    name: str
    sha256: str
    precision: str | None = None
    target: str | None = None
    engine_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class Contender:
    """An engine, what it answered, and what one image costs it in mJ (the whole board's)."""

    facts: Facts
    measured: Measured
    energy_mj: float | None = None

    def held(self, terms: Terms) -> Judgement:
        """Its accuracy against FP32, as validation judges it."""
        return judge(self.measured, Gates(terms.max_drop_pp))

    def to_dict(self, terms: Terms) -> dict[str, Any]:
        """As plain JSON values."""
        measured, held = self.measured, self.held(terms)
        drop = measured.drop
        return {
            "engine_name": self.facts.name,
            "precision": self.facts.precision,
            "manifest_sha256": self.facts.sha256,
            "engine_bytes": self.facts.engine_bytes,
            "accuracy": measured.engine.to_dict(),
            "fp32": measured.reference.to_dict() if measured.reference else None,
            "drop_pp": drop.value if drop else None,
            "drop_ci95": list(drop.interval) if drop else None,
            "agreement": measured.agreement,
            "logit_sqnr_db": measured.logit_sqnr_db,
            "verdict": held.verdict,
            "reasons": list(held.reasons),
            "energy_mj": self.energy_mj,
        }


@dataclass(frozen=True)
class Speed:
    """How many times as fast the candidate is, measured in turns, and under which conditions."""

    speedup: stats.Estimate
    rounds: int
    candidate: Mapping[str, Any]
    incumbent: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class VerdictReport:
    """The candidate (the smaller precision) against the incumbent, and the answer."""

    candidate: Contender
    incumbent: Contender
    speed: Speed | None
    terms: Terms

    @cached_property
    def labels(self) -> tuple[str, str]:
        """What they are called: by precision, else by name."""
        first, second = self.candidate.facts, self.incumbent.facts
        if first.precision and second.precision and first.precision != second.precision:
            return first.precision.upper(), second.precision.upper()
        return first.name, second.name

    @cached_property
    def between(self) -> Difference:
        """How much the candidate loses against the incumbent."""
        return difference(self.incumbent.measured, self.candidate.measured)

    @cached_property
    def decision(self) -> Decision:
        """The answer with its reasons."""
        name, other = self.labels
        return decide(
            (name, self.candidate.held(self.terms)),
            (other, self.incumbent.held(self.terms)),
            self.speed.speedup if self.speed else None,
            self.speed.rounds if self.speed else 0,
            self.terms,
        )

    @property
    def ship(self) -> str | None:
        """Whom to ship; None where that is nobody, or not known."""
        return {"candidate": self.labels[0], "incumbent": self.labels[1]}.get(self.decision.answer)

    @property
    def verdict(self) -> str:
        """``ship INT8``, ``ship FP16``, ``ship neither`` or ``not enough evidence``."""
        if self.ship is not None:
            return f"ship {self.ship}"
        return NEITHER if self.decision.answer == "neither" else NOT_ENOUGH

    @property
    def exit_code(self) -> int:
        """0 where one of the two may be shipped, whichever; else 1."""
        return 0 if self.ship is not None else 1

    @property
    def rehearsal(self) -> bool:
        """Whether this was not the device that the engines are meant for."""
        return REHEARSAL in (self.candidate.facts.target, self.incumbent.facts.target)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to keep in mind."""
        sides = (self.speed.candidate, self.speed.incumbent) if self.speed else ()
        told = [
            f"Latencies of {label} alone were unstable, which the turns keep out of the ratio: "
            f"{'; '.join(reasons)}."
            for label, side in zip(self.labels, sides, strict=False)
            if (reasons := side.get("reasons"))
        ]
        return (*told, *([REHEARSAL_NOTE] if self.rehearsal else []))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        speed = self.speed
        return {
            "verdict": self.verdict,
            "ship": self.ship,
            "reasons": list(self.decision.reasons),
            "settle": list(self.decision.settle),
            "notes": list(self.notes),
            "rehearsal": self.rehearsal,
            "target": self.candidate.facts.target or self.incumbent.facts.target,
            "max_drop_pp": self.terms.max_drop_pp,
            "min_speedup": self.terms.min_speedup,
            "labels": list(self.labels),
            "samples": self.candidate.measured.samples,
            "candidate": self.candidate.to_dict(self.terms),
            "incumbent": self.incumbent.to_dict(self.terms),
            "between": self.between.to_dict(),
            "speedup": speed.speedup.value if speed else None,
            "speedup_ci95": list(speed.speedup.interval) if speed else None,
            "rounds": speed.rounds if speed else None,
            "latency": {
                "candidate": dict(speed.candidate) if speed else None,
                "incumbent": dict(speed.incumbent) if speed else None,
            },
        }


def facts_of(engine: Artifact) -> Facts:
    """What an engine's manifest tells of it."""
    report = engine.manifest.report
    size = report.get("engine_bytes")
    return Facts(
        name=engine.path.absolute().name,
        sha256=engine.sha256,
        precision=_text(report.get("precision")),
        target=_text(report.get("target")),
        engine_bytes=size if isinstance(size, int) else None,
    )


def candidate_first(first: Facts, second: Facts) -> bool:
    """Whether the first is the candidate: the smaller precision, else the one that was named."""
    bits = [_BITS.get(facts.precision or "", 0) for facts in (first, second)]
    return bits[0] <= bits[1]


def write_report(
    path: Path, report: VerdictReport, *, parents: Mapping[str, str], options: Mapping[str, Any]
) -> None:
    """Write a ``compare`` artifact. Errors: InputError where ``path`` exists."""
    with artifact.create(path, STAGE, parents=parents, options=options) as draft:
        draft.report = report.to_dict()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
