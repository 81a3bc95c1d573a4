"""What a process that measures and the process that asked for it tell each other.

One JSON object a line. The order goes to the child's standard input, which stays open: when it
ends, so does the child, so that none is left behind by a parent that was killed. Events come back
on its standard output: ``ready`` (and the child waits for the next line, while its parent begins to
watch the board), ``tick`` after every chunk of calls, ``measured``, and ``result`` or ``error``.
Nothing is put on the disk.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedense.benchmark.options import BenchmarkOptions
from edgedense.benchmark.subject import Subject

READY, TICK, MEASURED, RESULT, ERROR = "ready", "tick", "measured", "result", "error"
GO = "go\n"


@dataclass(frozen=True)
class Order:
    """Measure ``subject`` once; its paths hold in ``directory``."""

    subject: Subject
    options: BenchmarkOptions
    directory: Path

    def to_line(self) -> str:
        """As one line of JSON."""
        raw = {
            "path": str(self.subject.path),
            "name": self.subject.name,
            "preprocess_of": str(self.subject.preprocess_of or ""),
            "options": asdict(self.options),
            "directory": str(self.directory),
        }
        return json.dumps(raw) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Order:
        """From what :meth:`to_line` gave."""
        raw = json.loads(line)
        engine = raw["preprocess_of"]
        subject = Subject(Path(raw["path"]), raw["name"], Path(engine) if engine else None)
        return cls(subject, BenchmarkOptions(**raw["options"]), Path(raw["directory"]))


def event(kind: str, **told: Any) -> str:
    """One line of a child."""
    return json.dumps({"event": kind, **told}) + "\n"
