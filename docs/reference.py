"""Writes reference.md beside this file from the command line itself: ``python docs/reference.py``.

Only what the commands declare is read, never what click prints, so that the page depends neither on
click's version nor on a terminal.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from edgedense.cli.main import cli

PAGE = Path(__file__).with_suffix(".md")
WIDTH = 110
HEAD = """\
# Reference

Every command and option, in the order of work; `edgedense COMMAND --help` says the same. This page
is written by `python docs/reference.py`, and a test fails where it lags behind. Exit codes are at
the end of the [tour](tour.md#for-programs).
"""


def page() -> str:
    """The whole page."""
    commands = [(name, cli.commands[name]) for name in cli.list_commands(click.Context(cli))]
    contents = ", ".join(f"[{name}](#{name})" for name, _ in commands)
    parts = [HEAD, _filled(contents)]
    parts += [part for name, command in commands for part in _command(name, command)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _command(name: str, command: click.Command) -> Iterator[str]:
    yield f"## {name}"
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    words = ["edgedense", name, *(["[OPTIONS]"] if options else []), *map(_placeholder, arguments)]
    yield f"`{' '.join(words)}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield _paragraph(paragraph)
    yield "\n".join(map(_option, options))


def _paragraph(text: str) -> str:
    """Running text, or (``Example:`` and what is set as it is) a block."""
    plain = text.strip("\b\n")
    first, colon, rest = plain.partition(":")
    if not colon or first not in ("Example", "Examples"):
        return _filled(plain)
    lines = [line.strip() for line in rest.splitlines() if line.strip()]
    joined = "\n".join(lines).replace("\n--", " --")
    calls = joined.replace("\nedgedense", "\0edgedense").replace("\n", " ").split("\0")
    return "\n".join(["```sh", *map(_call, calls), "```"])


def _call(line: str) -> str:
    """A command, on several lines where it is long."""
    return " \\\n    ".join(textwrap.wrap(line, WIDTH - 6, break_on_hyphens=False))


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag or option.count else f" `{_placeholder(option)}`"
    told = " ".join(part for part in (_ended(option.help or ""), *_facts(option)) if part)
    return _filled(f"- {names}{value}: {told}", "  ")


def _ended(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "]", "?", "!", ")")) else f"{text}."


def _facts(option: click.Option) -> Iterator[str]:
    """What click would put into brackets behind the help."""
    if option.required:
        yield "[required]"
    if option.multiple and "several times" not in (option.help or ""):
        yield "[several]"
    shown = option.show_default
    if isinstance(shown, str):
        yield f"[default: ({shown})]"
    elif shown and (default := _default(option)):
        yield f"[default: {default}]"


def _default(option: click.Option) -> str:
    value = option.default
    if option.is_flag and option.secondary_opts:
        return (option.opts if value else option.secondary_opts)[0].lstrip("-")
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, str | int | float) and value is not False else ""


def _placeholder(parameter: click.Parameter) -> str:
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter, click.Argument):
        return (parameter.name or "").upper()
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    kind = parameter.type.name
    return "N" if kind.startswith("integer") else "X" if kind.startswith("float") else kind.upper()


def _filled(text: str, indent: str = "") -> str:
    # a line may break between the words of a sentence, never within code
    inside = False
    letters = []
    for letter in " ".join(text.split()):
        inside ^= letter == "`"
        letters.append("\0" if inside and letter == " " else letter)
    filled = textwrap.fill(
        "".join(letters),
        WIDTH,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return filled.replace("\0", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
