"""The style sheet: enough contrast for text, in light, in dark and on paper."""

from __future__ import annotations

import re

import pytest

from edgedense.report.page import STYLE_FILE

CSS = STYLE_FILE.read_text()
TEXT = ("ink", "muted", "accent", "warn", "bad")
GRAPHIC = ("accent", "two", "muted", "warn")


def palettes() -> dict[str, dict[str, str]]:
    """The custom properties of each ``:root``: light first, then dark, then print."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    light, dark, paper = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", b)) for b in blocks)
    return {"light": light, "dark": dark, "print": paper}


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast ratio (WCAG 2.2), 1 to 21."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_text_has_the_contrast_of_aa(mode: str) -> None:
    colours = palettes()[mode]
    pairs = {(name, ground) for name in TEXT for ground in ("bg", "panel", "beyond")}
    pairs |= {(f"t{level}", f"h{level}") for level in range(7)}
    poor = {(a, b): contrast(colours[a], colours[b]) for a, b in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_lines_and_marks_are_seen(mode: str) -> None:
    colours = palettes()[mode]
    poor = {name: contrast(colours[name], colours["bg"]) for name in GRAPHIC}
    assert {name: ratio for name, ratio in poor.items() if ratio < 3} == {}


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
def test_stronger_cells_are_further_from_the_ground(mode: str) -> None:
    colours = palettes()[mode]
    steps = [contrast(colours[f"h{level}"], colours["bg"]) for level in range(7)]
    assert steps == sorted(steps)


def test_every_colour_that_is_used_is_defined_in_every_mode() -> None:
    used = set(re.findall(r"var\(--(\w+)\)", CSS))
    light, dark, paper = palettes().values()
    assert used <= set(light)
    assert set(light) == set(dark) == set(paper)


def test_the_sheet_loads_nothing_and_cannot_end_its_element() -> None:
    assert not re.search(r"url\(|@import|</|http", CSS)
    assert "outline: 2px" in CSS and "outline: none" not in CSS
