"""How a command that did not succeed ends: what it says, and its exit code.

Of several processes under torchrun one speaks, for an error is mostly that of all: the one that
failed alone, else the first. torchrun ends the others as soon as one of them has ended, so those
that have nothing to say wait for that: ending before the speaker would cut it off.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence

import click

from edgedense.cli.terminal import emit
from edgedense.distributed import World, world
from edgedense.errors import EdgedenseError, InputError, Interrupted

EXIT_BUG, EXIT_INTERRUPTED = 70, 130
# after that the speaker is gone, or never had this error
PATIENCE_SECONDS = 30.0

_KEPT = "What was finished stays, nothing half-written does: the same command again does the rest."
_NOT_KEPT = "Nothing is kept: the same command again starts anew."
_ALWAYS_KEPT = ("demo", "report", "run-bundle")  # these write somewhere without -o too


def failed(error: EdgedenseError) -> int:
    """Tell an error, where that is for this process; its exit code."""
    if not _speaks(error) and _is_ended():
        return error.exit_code
    return tell(error.what, error.remedy, error.exit_code)


def interrupted(error: BaseException) -> int:
    """Tell that the user has ended the command, and what is kept; the exit code."""
    reason, here = _reason(error), _here()
    if isinstance(reason, EdgedenseError) and here.size > 1:
        # torchrun was faster than the way out of an error
        if _speaks(reason):
            tell(reason.what, reason.remedy, reason.exit_code)
        return reason.exit_code
    if not here.first:
        return EXIT_INTERRUPTED
    kept = reason.kept if isinstance(reason, Interrupted) else _kept(sys.argv[1:])
    return tell("interrupted", kept, EXIT_INTERRUPTED)


def tell(what: str, remedy: str, exit_code: int) -> int:
    """Say what went wrong: one or two lines on stderr, with ``--json`` one object on stdout too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # these lines are wanted whole
    rank = _here().rank
    _emit(what, remedy, exit_code)
    place = f"process {rank}: " if rank else ""
    click.echo(f"{place}error: {what}", err=True)
    if remedy:
        click.echo(f"{place}  → {remedy}", err=True)
    return exit_code


def _kept(words: Sequence[str]) -> str:
    """What stays of a command that was given in these words."""
    always = next(iter(words), "") in _ALWAYS_KEPT
    given = any(word.startswith(("-o", "--output")) for word in words)
    return _KEPT if always or given else _NOT_KEPT


def _speaks(error: EdgedenseError) -> bool:
    """Whether this process tells the error; the first one's JSON object is its own affair."""
    here = _here()
    if here.rank == (error.process or 0):
        return True
    _emit(error.what, error.remedy, error.exit_code)
    return False


def _emit(what: str, remedy: str, exit_code: int) -> None:
    if "--json" in sys.argv and _here().first:
        emit({"error": what, "remedy": remedy, "exit_code": exit_code})


def _is_ended() -> bool:
    try:
        time.sleep(PATIENCE_SECONDS)
    except KeyboardInterrupt:
        return True
    return False


def _reason(error: BaseException) -> EdgedenseError | Interrupted | None:
    """What was on its way out when the interrupt came, or what it told."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, EdgedenseError | Interrupted):
        link = link.__cause__ or link.__context__
    return link


def _here() -> World:
    try:
        return world()
    except InputError:  # which is then the error that is told
        return World()
