"""``docs/reference.md`` is what ``docs/reference.py`` writes today, wherever it is run."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import click
import pytest

from edgedense.cli.main import cli

DOCS = Path(__file__).parents[2] / "docs"


def written() -> str:
    module: dict[str, Any] = runpy.run_path(str(DOCS / "reference.py"))
    return str(module["page"]())


def test_it_is_not_stale() -> None:
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == written(), (
        "write it anew: python docs/reference.py"
    )


def test_it_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = written()
    for name, value in {"COLUMNS": "40", "LINES": "10", "LANG": "C", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert written() == before


def test_every_command_and_option_is_there() -> None:
    page = written()
    for name, command in cli.commands.items():
        section = page.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(f"`{option}`" in section for option in parameter.opts)
        assert "```sh" in section, f"{name} has no example"
