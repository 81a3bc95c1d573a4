"""Tables and news keep every word and number whole, however narrow the terminal is."""

from __future__ import annotations

import pytest

from edgedense.cli.terminal import Terminal

HEAD = ["", "point", "MACs", "drop pp [95 %]", "ONNX"]
ROWS = [
    ["★", "0.9-int8-block-best", "139.6k", "0.00[-8.76,8.76]", "28.7kB"],
    ["", "1-fp32", "140.2k", "-0.25[-9.5,9.25]", "125.0kB"],
]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(params=[20, 40, 54, 55, 56, 57, 64, 80])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def test_a_narrow_terminal_takes_nothing_from_a_cell(columns: int, capsys: Captured) -> None:
    Terminal().table("", HEAD, ROWS)
    printed = capsys.readouterr().err
    for row in ROWS:
        assert all(cell in printed for cell in row)
    widest = max(len(line.rstrip()) for line in printed.splitlines())
    assert widest <= max(columns, len("  drop pp [95 %]: 0.00[-8.76,8.76]"))
    # a row a line as long as there is room for it, then a paragraph a row
    cells = [line.split() for line in printed.splitlines()]
    as_table = all([cell for cell in row if cell] in cells for row in ROWS)
    assert as_table == (columns >= 57)


def test_rows_without_room_are_paragraphs(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "18")
    Terminal().table("latency", ["", "p50 ms", "p99\nms"], [["cpu engine int8", "0.038", "12.3"]])
    Terminal().table("", ["", ""], [("sha256", "d6ffff354916e763d6ffff354916e763")])
    assert capsys.readouterr().err.splitlines() == [
        "latency",
        "cpu engine int8",
        "  p50 ms: 0.038",
        "  p99 ms: 12.3",
        "sha256",
        "  d6ffff354916e763d6ffff354916e763",
    ]


def test_sentences_fold_where_the_terminal_ends(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    Terminal().table("", ["stage", "what"], [["latency", "of four engines " * 9]])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 4
    assert max(len(line.rstrip()) for line in lines) <= 40


def test_an_amount_and_its_unit_stay_together(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Terminal().table("", ["file", "size"], [["int8.onnx", "33.4 kB"], ["fp32.onnx", "- 1 GB"]])
    assert "33.4 kB" in capsys.readouterr().err


def test_news_fold_between_words_and_commands_do_not(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command = "edgedense build-engine runs/first/quantize -o engine --target jetson-orin-nano"
    Terminal().say(f"  engine-orin: not on this machine; build it there: {command}")
    Terminal().say(f"  bin/{command}")
    Terminal().say(f"key: {'a' * 50}", whole=True)
    assert capsys.readouterr().err.splitlines() == [
        "  engine-orin: not on this machine;",
        "    build it there:",
        f"    {command}",
        f"  bin/{command}",
        f"key: {'a' * 50}",
    ]


def test_news_in_a_pipe_are_one_line_each(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    Terminal().say("word " * 40)
    assert capsys.readouterr().err == "word " * 40 + "\n"
