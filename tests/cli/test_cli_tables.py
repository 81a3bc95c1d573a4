"""Tables that are wanted whole keep every character, however narrow the terminal is."""

from __future__ import annotations

import pytest

from edgedense.cli.terminal import Terminal

HEAD = ["", "point", "MACs", "drop pp [95 %]", "ONNX"]
ROWS = [
    ["★", "0.9-int8-block-best", "139.6k", "0.00[-8.76,8.76]", "28.7kB"],
    ["", "1-fp32", "140.2k", "-0.25[-9.5,9.25]", "125.0kB"],
]


@pytest.mark.parametrize("columns", [20, 40, 61, 62, 63, 64, 65, 80])
def test_a_narrow_terminal_takes_nothing_from_a_cell(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Terminal().table("", HEAD, ROWS, whole=True)
    printed = [line.split() for line in capsys.readouterr().err.splitlines()]
    for row in ROWS:
        assert [cell for cell in row if cell] in printed


def test_sentences_fold_where_the_terminal_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    Terminal().table("", ["stage", "what"], [["latency", "of four engines " * 9]], whole=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 4
    assert max(len(line.rstrip()) for line in lines) <= 40
