"""Numbers as people read them; what is unknown is a dash."""

from __future__ import annotations

from collections.abc import Sequence

DASH = "\u2013"
MINUS = "\u2212"
TIMES = "\u00d7"
UNSTABLE = "unstable measurement"


def decimal(value: float | None, digits: int = 2) -> str:
    """``-0.02`` with a true minus sign; a rounded zero has none."""
    if value is None:
        return DASH
    found = f"{value:,.{digits}f}"
    bare = found.lstrip("-")
    if not bare.strip("0.,"):
        return bare
    return found.replace("-", MINUS)


def between(ends: tuple[float, float] | None, digits: int = 2) -> str:
    """``−0.26 to 0.22``."""
    return DASH if ends is None else f"{decimal(ends[0], digits)} to {decimal(ends[1], digits)}"


def times(value: float | None, *, unstable: bool = False) -> str:
    """A factor."""
    if value is None:
        return DASH
    return f"{decimal(value)}{TIMES}" + (f" ({UNSTABLE})" if unstable else "")


def milliseconds(value: float | None) -> str:
    """Three digits that count: ``0.237``, ``12.7``, ``127``."""
    if value is None:
        return DASH
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return decimal(value, digits)


def amount(value: float | None) -> str:
    """A large count: ``288 M``."""
    if value is None:
        return DASH
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    return decimal(value, 0)


def size(value: float | None) -> str:
    """Bytes in a readable unit."""
    if value is None:
        return DASH
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value:.0f} B"


def plural(count: float, one: str, many: str = "") -> str:
    """``1 image``, ``5,000 images``."""
    return f"{count:,.0f} {one if count == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; of many the first ones, and how many more."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
