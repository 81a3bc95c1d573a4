"""The sums over an engine's layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from edgedense.findings import SEVERITIES, Finding, Severity, count, worst_first
from edgedense.insight.engine import Engine
from edgedense.insight.layers import REST, Layer
from edgedense.insight.rules import findings

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Part:
    """Layers that have something in common; ``time_ms`` and ``share`` (0 … 1) need a profile.

    ``int8`` of the ``weighted`` ones run in INT8.
    """

    name: str
    layers: int
    weighted: int
    int8: int
    time_ms: float | None
    share: float | None


@dataclass(frozen=True)
class Row:
    """One layer in the table of all."""

    name: str
    kind: str
    role: str
    precision: str | None
    asked_int8: bool
    block: str
    time_ms: float | None


@dataclass(frozen=True)
class InsightReport:
    """What became of an engine, worst findings first.

    ``precisions`` are of the weighted layers (convolutions and matrix products), ``roles`` and
    ``blocks`` of all. ``asked`` says where it is known from what was to be INT8.
    """

    file: str
    target: str | None
    runtime: str | None
    asked: str
    total_ms: float | None
    precisions: tuple[Part, ...]
    roles: tuple[Part, ...]
    blocks: tuple[Part, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def weighted(self) -> int:
        """Number of convolutions and matrix products."""
        return sum(part.layers for part in self.precisions)

    @property
    def int8(self) -> int:
        """How many of them run in INT8."""
        return sum(part.int8 for part in self.precisions)

    @property
    def exit_code(self) -> int:
        """1 where there are errors: INT8 that was asked for is not there, or cannot be seen."""
        return 1 if count(self.findings, "error") else 0

    def slowest(self, most: int) -> tuple[Row, ...]:
        """The layers that take most time; none without a profile."""
        timed = [row for row in self.rows if row.time_ms is not None]
        return tuple(sorted(timed, key=lambda row: -(row.time_ms or 0.0))[:most])

    def count(self, severity: Severity) -> int:
        """Number of findings of one severity."""
        return count(self.findings, severity)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        counts = {f"{severity}s": self.count(severity) for severity in SEVERITIES}
        sums = {"layers": len(self.rows), "weighted": self.weighted, "int8": self.int8}
        return asdict(self) | sums | counts


def summed(
    engine: Engine, *, file: str, target: str | None = None, runtime: str | None = None
) -> InsightReport:
    """All that is told of an engine, and what it means."""
    weighted = engine.weighted
    return InsightReport(
        file=file,
        target=target,
        runtime=runtime,
        asked=_asked(engine),
        total_ms=engine.total_ms,
        precisions=_parts(engine, ((layer.precision or UNKNOWN, layer) for layer in weighted)),
        roles=_parts(engine, ((layer.role, layer) for layer in engine.layers)),
        blocks=_blocks(engine),
        rows=tuple(_row(engine, layer) for layer in engine.layers),
        findings=worst_first(findings(engine)),
    )


def _asked(engine: Engine) -> str:
    asked = engine.asked
    if asked.nodes is not None:
        return f"the ONNX file: {len(asked.nodes)} nodes in INT8"
    if asked.precision:
        return f"the build: {asked.precision}"
    return "Q/DQ in the names of layers and in front of them"


def _blocks(engine: Engine) -> tuple[Part, ...]:
    found = _parts(engine, ((layer.block, layer) for layer in engine.layers))
    if all(part.name == REST for part in found):
        return ()
    return tuple(sorted(found, key=lambda part: part.name == REST))


def _parts(engine: Engine, pairs: Iterable[tuple[str, Layer]]) -> tuple[Part, ...]:
    members: defaultdict[str, list[Layer]] = defaultdict(list)
    for name, layer in pairs:
        members[name].append(layer)
    return tuple(_part(engine, name, layers) for name, layers in members.items())


def _part(engine: Engine, name: str, layers: list[Layer]) -> Part:
    total = engine.total_ms
    # layers of one name share one line of the profile
    names = {layer.name for layer in layers}
    time_ms = sum(engine.times.get(name, 0.0) for name in names) if engine.times else None
    weighted = [layer for layer in layers if layer.role == "weighted"]
    return Part(
        name=name,
        layers=len(layers),
        weighted=len(weighted),
        int8=sum(layer.precision == "INT8" for layer in weighted),
        time_ms=time_ms,
        share=time_ms / total if time_ms is not None and total else None,
    )


def _row(engine: Engine, layer: Layer) -> Row:
    return Row(
        name=layer.name,
        kind=layer.kind,
        role=layer.role,
        precision=layer.precision,
        asked_int8=layer.role == "weighted" and engine.asks_int8(layer),
        block=layer.block,
        time_ms=engine.time_ms(layer),
    )
