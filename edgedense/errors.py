"""What can go wrong, as one tree; the command line turns it into exit codes.

    EdgedenseError        70  a bug in edgedense: a check of our own result failed
    ├── InputError         2  bad usage or bad input: the user can mend it
    └── MachineError       3  this machine lacks something: a library, a GPU
        └── DiskError      3  … space on its disk

A gate that fails is a result and not an error: see ``edgedense.validate``.
"""

from __future__ import annotations

from typing import ClassVar


class EdgedenseError(Exception):
    """Base of all errors: ``what`` went wrong and where, and the ``remedy`` that mends it."""

    exit_code: ClassVar[int] = 70

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        self.process: int | None = None  # of several processes that of the one that tells it
        super().__init__(f"{what}\n{remedy}" if remedy else what)


class InputError(EdgedenseError):
    """Bad usage or bad input; ``remedy`` names the command or the edit that mends it."""

    exit_code: ClassVar[int] = 2


class MachineError(EdgedenseError):
    """The machine lacks something; ``remedy`` says how to get it, or where to go instead."""

    exit_code: ClassVar[int] = 3


class DiskError(MachineError):
    """The disk is full: freeing space mends it, going elsewhere is not needed."""


class Interrupted(KeyboardInterrupt):
    """The user has ended a stage; ``kept`` says what stays of it, and how to go on."""

    def __init__(self, kept: str) -> None:
        self.kept = kept
        super().__init__(kept)
