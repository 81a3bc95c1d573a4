"""The commands of a Markdown page: which there are, and what is to be done with each.

Fenced blocks named ``sh`` hold commands, ``console`` blocks have them behind ``$``. They are run,
one after the other, unless the line above says ``<!-- not run here: REASON -->``. A block below
``<!-- file: PATH -->`` is a file that later commands find. Whatever else on the page begins with
``edgedense`` is held against the command line, as are blocks that are not run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from edgedense import pytest_plugin
from edgedense.cli.main import cli

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FENCE = re.compile(r"^(?P<tick>```+)(?P<language>[\w-]*)\s*$")
MARK = re.compile(r"^<!-- (?P<word>not run here|file): (?P<what>.+?) -->$")
ENDING = re.compile(r"#.*?\bexit (?P<codes>\d(?: or \d)*)")
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][A-Za-z0-9-]*")
COMMANDS = ("sh", "console")
# what a block that is not run may call beside edgedense: nothing here can try it
FOREIGN = {
    *(".", "cat", "cd", "cmake", "export", "free", "git", "head", "ls", "mkdir", "scp", "ssh"),
    *("fallocate", "chmod", "mkswap", "swapon", "systemctl", "nvpmodel", "jetson_clocks"),
    *("apt", "make", "pip", "pytest", "python3", "python3.10", "python3.12", "tegrastats", "tee"),
    *("sh", "tritonserver", "torchrun", "unzip", "build/edgedense-run", "eval"),
}
# and options of theirs that the text mentions
FOREIGN_OPTIONS = {"--system-site-packages", "--exportProfile", "--exportLayerInfo"}


@dataclass(frozen=True)
class Block:
    """A fenced block: ``file`` it is to be, or ``skipped`` for a reason, or neither."""

    place: str
    language: str
    text: str
    skipped: str = ""
    file: str = ""

    @property
    def runs(self) -> bool:
        return self.language in COMMANDS and not self.skipped and not self.file


@dataclass(frozen=True)
class Command:
    """One line of shell, its continuations joined; ``codes`` are the exit codes it may have."""

    place: str
    line: str
    codes: tuple[int, ...] = (0,)


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    inside, language, mark, first = "", "", {"": ""}, 0
    kept: list[str] = []
    above = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if inside and line.strip() == inside:
            text = "\n".join(kept) + "\n"
            skipped, file = mark.get("not run here", ""), mark.get("file", "")
            yield Block(f"{page.name}:{first}", language, text, skipped, file)
            inside, kept = "", []
        elif inside:
            kept.append(line)
        elif fence:
            inside, language, first = fence["tick"], fence["language"], number
            found = MARK.match(above)
            mark = {found["word"]: found["what"]} if found else {}
        above = line
    assert not inside, f"{page.name}:{first}: a block has no end"


def commands(block: Block) -> Iterator[Command]:
    """The lines of shell in a block, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    for line in lines:
        if block.language == "console":
            if not line.startswith("$ "):
                continue
        elif block.language not in COMMANDS and not line.startswith(("$ ", "edgedense ")):
            continue
        typed = line.removeprefix("$ ")
        code, plain = ENDING.search(typed), without_comment(typed)
        if plain:
            codes = tuple(int(code) for code in code["codes"].split(" or ")) if code else (0,)
            yield Command(block.place, plain, codes)


def without_comment(line: str) -> str:
    """A line of shell up to its comment; a ``#`` inside a word or quotes is none."""
    quote = ""
    for number, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (number == 0 or line[number - 1].isspace()):
            return line[:number].strip()
    return line.strip()


def calls(line: str) -> Iterator[list[str]]:
    """The simple commands of a line of shell, as words; variables in front of them are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    into = False  # behind > comes a file
    for word in [*lexer, ";"]:
        if into or word in (">", ">>"):
            into = not into
            continue
        if set(word) <= set("|&;"):
            while words and (re.match(r"^\w+=", words[0]) or words[0] == "sudo"):
                words = words[1:]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def check_call(words: list[str], *, whole: bool = True) -> None:
    """Hold a command against the command line: ValueError where it would be refused.

    Without ``whole`` it may lack what is required.
    """
    if words[0] == "torchrun":
        words = words[words.index("edgedense") :]
    if words[0] != "edgedense":
        if words[0] not in FOREIGN:
            raise ValueError(f"{words[0]}: nothing runs this, and fenced.py does not know it")
        return
    given = [word for word in words[1:] if word not in ("…", "...", "[OPTIONS]")]
    whole = whole and len(given) == len(words) - 1
    if not given or given[0].startswith("-") or given[0] == "COMMAND":
        return
    command = cli.commands.get(given[0])
    if command is None:
        raise ValueError(f"edgedense {given[0]}: there is no such command")
    try:
        command.make_context(given[0], given[1:], resilient_parsing=False)
    except click.MissingParameter as error:
        if whole:
            raise ValueError(f"{' '.join(words)}: {error.format_message()}") from error
    except click.exceptions.Exit:
        pass  # --help
    except click.UsageError as error:
        raise ValueError(f"{' '.join(words)}: {error.format_message()}") from error


def spans(page: Path) -> Iterator[str]:
    """Code in the running text and in tables."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^(```+).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    for found in SPAN.finditer(text):
        yield " ".join(found[1].split())


def check_span(span: str) -> None:
    """Hold a command or an option that the text mentions against the command line."""
    if "[OPTIONS]" in span:  # usage, not a call
        check_call(span.split()[:2], whole=False)
    elif span.startswith("edgedense "):
        for words in calls(span):
            check_call(words, whole=False)
    elif span.startswith("--"):
        known = {
            name
            for command in cli.commands.values()
            for parameter in command.params
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        scripts = "".join(path.read_text(encoding="utf-8") for path in BENCHMARKS.glob("*.py"))
        known |= {"--help", "--version", *FOREIGN_OPTIONS, *OPTION.findall(scripts)}
        known |= {f"--edgedense-{name}" for name in (*pytest_plugin._PATHS, "missing")}
        for name in OPTION.findall(span):
            if name not in known:
                raise ValueError(f"{name}: no command has this option")
