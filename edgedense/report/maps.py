"""Maps of dense blocks by layers, and what the sections about them share."""

from __future__ import annotations

import re
from typing import Any

from edgedense.report.cells import Cell, cells
from edgedense.report.facts import at, mapping
from edgedense.report.html import Markup
from edgedense.report.words import DASH

MOST_STAGES = 4  # of one kind shown whole; a sweep has many
LAYER = re.compile(
    r"^(?P<block>.+)\.(?:(?:dense)?layer(?P<layer>\d+)|layers\.(?P<index>\d+))\.(?P<operator>[^.]+)$"
)


def grid(name: str, title: str, found: dict[tuple[str, int], Cell]) -> Markup:
    """A map of cells by block and layer (from 1)."""
    blocks = dict.fromkeys(block for block, _ in found)
    last = max(layer for _, layer in found)
    rows = [(_short(b), [found.get((b, n)) for n in range(1, last + 1)]) for b in blocks]
    return cells(ident(name), title, rows, "layer")


def _short(block: str) -> str:
    return block.removeprefix("features.")


def ident(name: str) -> str:
    """A name that an element may have."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")


def of_kind(found: dict[str, Any], kind: str) -> dict[str, Any]:
    """The stages of one kind, by name."""
    stages = mapping(found, "stages")
    return {name: stage for name, stage in stages.items() if at(stage, "stage") == kind}


def figures(value: float | None) -> str:
    """Four digits that count."""
    return DASH if value is None else f"{value:.4g}"
