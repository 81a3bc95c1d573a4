"""Every command of the documents is run or, where it needs a board, held against the parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fenced import COMMANDS, Block, blocks, calls, check_call, check_span, commands, spans
from warm_commands import Shell

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "engines/README.md")),
    *DOCS,
    *sorted((ROOT / "examples").glob("*/README.md")),
]
# what README's blocks type in the place of the documents; its others are only held against the
# command line
README_RUNS = re.compile(r"^\$ edgedense (inspect|prune|quantize|build-engine|validate) ", re.M)


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    "name", [page.name for page in DOCS if page.name not in ("methods.md", "reference.md")]
)
def test_the_commands_of_a_page_run(name: str, place: Any, shell: Shell) -> None:
    found = [b for b in blocks(ROOT / "docs" / name) if b.runs or b.file]
    assert sum(b.runs for b in found) > 1
    type_in(found, place(name), shell)


def test_the_tour_of_the_readme_runs(place: Any, shell: Shell) -> None:
    found = [b for b in blocks(ROOT / "README.md") if README_RUNS.search(b.text)]
    assert found
    type_in(found, place("README.md"), shell)


def type_in(found: list[Block], where: Path, shell: Shell) -> None:
    """Write the files, run the commands, each of which has to end as it says."""
    for block in found:
        if block.file:
            file = where / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            continue
        for command in commands(block):
            done = shell.line(command.line, where)
            assert done.code in command.codes, (
                f"{command.place}: exit {done.code}\n$ {command.line}\n{done.log}"
            )


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_what_is_not_run_is_held_against_the_command_line(page: Path) -> None:
    wrong = []
    for block in blocks(page):
        for command in () if block.file else commands(block):
            for words in calls(command.line):
                wrong += complaint(command.place, words, foreign=block.language in COMMANDS)
    for span in spans(page):
        try:
            check_span(span)
        except ValueError as error:
            wrong.append(f"{page.name}: {error}")
    assert not wrong, "\n".join(wrong)


def complaint(place: str, words: list[str], *, foreign: bool) -> list[str]:
    if words[0] != "edgedense" and not foreign:
        return []
    try:
        check_call(words)
    except ValueError as error:
        return [f"{place}: {error}"]
    return []


@pytest.mark.parametrize("page", DOCS, ids=title)
def test_no_command_hides_in_a_block_of_another_kind(page: Path) -> None:
    for block in blocks(page):
        assert block.language, f"{block.place}: say what the block is"
        if block.language not in COMMANDS and not block.file:
            assert not re.search(r"^\s*(\$ )?(edgedense|pip|python3?) ", block.text, re.M), (
                f"{block.place}: commands belong into a block named sh or console"
            )


def test_no_page_is_left_without_commands_that_run() -> None:
    assert {page.name for page in DOCS} == {
        *("tour.md", "methods.md", "device.md", "ci.md", "reference.md")
    }


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*DOCS, *PAGES[-5:]], ids=title)
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > 110 and not line.startswith("|")]
    assert not long


def test_extras_that_are_installed_exist() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.split("[project.optional-dependencies]\n", 1)[1].split("\n[", 1)[0]
    known = set(re.findall(r"^(\w+) = \[", table, re.M))
    assert "cpu" in known
    for page in PAGES:
        told = page.read_text(encoding="utf-8")
        for extras in re.findall(r"(?:pip install '\.|edgedense)\[([\w,]+)\]", told):
            assert set(extras.split(",")) <= known, f"{page.name}: [{extras}]"


def test_the_workflow_of_the_page_fits_the_action() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (text,) = [b.text for b in blocks(ROOT / "docs/ci.md") if b.language == "yaml"]
    steps = yaml.safe_load(text)["jobs"]["validate"]["steps"]
    (ours,) = [step for step in steps if "/edgedense@" in step.get("uses", "")]
    assert set(ours["with"]) <= set(action["inputs"])
    assert set(re.findall(rf"steps\.{ours['id']}\.outputs\.([\w-]+)", text)) <= set(
        action["outputs"]
    )
    page = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in action["outputs"])


def test_figures_of_methods_are_those_of_the_readme() -> None:
    shown = list(rows(ROOT / "README.md"))
    same = 0
    for row in rows(ROOT / "docs/methods.md"):
        alike = [whole for whole in shown if whole[0] == row[0]]
        assert not alike or any(is_part(row, whole) for whole in alike), row
        same += bool(alike)
    assert same > 15


def rows(page: Path) -> Iterator[list[str]]:
    """Rows of tables with figures."""
    for line in re.findall(r"^\|(.+)\|$", page.read_text(encoding="utf-8"), re.M):
        if re.search(r"\d\.\d", line):
            yield [cell.strip() for cell in line.split("|")]


def is_part(row: list[str], whole: list[str]) -> bool:
    """Whether ``row`` is ``whole`` without some of its columns."""
    left = iter(whole)
    return all(cell in left for cell in row)


# --- the reader of pages itself: a command that nobody runs or parses must fail


def read(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_commands_of_a_block(tmp_path: Path) -> None:
    page = read(
        tmp_path,
        "```sh\nedgedense a \\\n  --b 1   # exit 1 or 3: why\n# nothing\nx '# no' && y\n```\n"
        "<!-- not run here: reason -->\n```sh\nz\n```\n```console\n$ one\noutput\n$ two\n```\n"
        "<!-- file: a/b.txt -->\n```text\nhello\n```\n",
    )
    first, second, third, fourth = blocks(page)
    assert [(c.line.split(), c.codes) for c in commands(first)] == [
        (["edgedense", "a", "--b", "1"], (1, 3)),
        (["x", "'#", "no'", "&&", "y"], (0,)),
    ]
    assert (first.runs, second.runs, third.runs, fourth.runs) == (True, False, True, False)
    assert second.skipped == "reason"
    assert [c.line for c in commands(third)] == ["one", "two"]
    assert (fourth.file, fourth.text) == ("a/b.txt", "hello\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("edgedense prune net -o x --mac 0.7", "No such option"),
        ("edgedense prune net --macs 0.7", "Missing option"),
        ("edgedense prune net -o x --macs half", "not a valid float"),
        ("edgedense quantize net -o x --calib c --placement blocks", "is not one of"),
        ("sudo edgedense cut net", "no such command"),
        ("A=1 edgedense targets && edgedense targets --jsn", "No such option"),
        ("torchrun --nproc_per_node 2 -m edgedense train -o x --date d", "No such option"),
        ("curl example.org", "nothing runs this"),
    ],
)
def test_what_would_be_refused_is_found(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        for words in calls(line):
            check_call(words)


@pytest.mark.parametrize(
    "line",
    [
        "edgedense prune net -o x --macs 0.7",
        "edgedense deploy MODEL …",
        "edgedense quantize --help",
        "sudo nvpmodel -m 0 && edgedense doctor",
        "edgedense",
    ],
)
def test_what_would_be_taken_is_not(line: str) -> None:
    for words in calls(line):
        check_call(words)


def test_options_that_the_text_mentions_exist(tmp_path: Path) -> None:
    page = read(
        tmp_path, "`--macs`, `edgedense prune`\n```sh\nno `--span` here\n```\n`--no-such`\n"
    )
    assert list(spans(page)) == ["--macs", "edgedense prune", "--no-such"]
    check_span("--macs 0.7")
    check_span("edgedense prune")
    for wrong in ("--no-such", "edgedense prune --no-such", "edgedense shrink"):
        with pytest.raises(ValueError, match="no"):
            check_span(wrong)


def test_a_command_that_ends_otherwise_than_it_says_is_told(tmp_path: Path, shell: Shell) -> None:
    text = "edgedense inspect nowhere.pth      # exit 2: there is no such file\n"
    type_in([Block("page.md:1", "sh", text)], tmp_path, shell)
    with pytest.raises(AssertionError, match=r"page\.md:1: exit 2\n"):
        type_in([Block("page.md:1", "sh", text.partition("#")[0])], tmp_path, shell)
