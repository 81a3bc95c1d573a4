"""A run directory: stages side by side, and a ledger of what each was made from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedense import __version__, artifact
from edgedense.artifact import FORMAT, Artifact
from edgedense.errors import DiskError, InputError, MachineError
from edgedense.progress import Progress

LEDGER = "run.json"
Done = Mapping[str, Artifact]


@dataclass(frozen=True)
class Step:
    """One stage of a run: ``name`` is its directory, ``after`` the stages whose results it reads.

    ``key`` holds what else decides the result: options, and hashes of the inputs. ``make`` gets
    the finished stages and writes its artifact into the directory that it is given. ``optional``
    steps may be impossible on this machine (no GPU, no TensorRT); the others go on without them.
    """

    name: str
    what: str
    after: tuple[str, ...]
    key: dict[str, Any]
    make: Callable[[Done, Path], object]
    optional: bool = False


class Run:
    """A run directory on disk. It belongs to the command that made it, which may replace stages.

    ``asked`` is what the run was made for, as far as no stage of it tells: for who reads it later.
    Errors: InputError where ``path`` exists and is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stages, self.asked = ({}, {}) if _is_new(path) else _read_ledger(path)

    def reusable(self, step: Step, done: Done) -> Artifact | None:
        """The stage as an earlier call left it, if its inputs are the same and its files whole."""
        entry = self._stages.get(step.name)
        if entry is None or any(name not in done for name in step.after):
            return None
        if entry["key"] != _digest(step, done):
            return None
        try:
            found = artifact.read(self.path / step.name)
            for name in found.manifest.files:
                found.file(name)
        except InputError:
            return None
        return found if found.sha256 == entry["manifest"] else None

    def work(
        self, steps: Iterable[Step], done: dict[str, Artifact], progress: Progress
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Make what is not there yet, into ``done``; what was reused, and what cannot be had here.

        The latter are optional steps with their reasons; steps that read them are left out.
        Errors: those of the steps.
        """
        reused: list[str] = []
        elsewhere: dict[str, str] = {}
        for step in steps:
            if any(name not in done for name in step.after):
                continue  # what it reads cannot be had on this machine
            if found := self.reusable(step, done):
                progress.say(f"{step.name}: unchanged, reused")
                reused.append(step.name)
                done[step.name] = found
                continue
            progress.say(f"{step.name}: {step.what}")
            try:
                done[step.name] = self.complete(step, done)
            except MachineError as error:
                if not step.optional or isinstance(error, DiskError):
                    raise
                elsewhere[step.name] = str(error)
                progress.say(f"{step.name}: not on this machine: {error.what}")
        return tuple(reused), elsewhere

    def complete(self, step: Step, done: Done) -> Artifact:
        """Make a stage, replacing what is there, and note it in the ledger."""
        self.begin(step)
        step.make(done, self.path / step.name)
        return self.finish(step, done)

    def begin(self, step: Step) -> None:
        """Make room for a stage that this or another process is about to make."""
        with artifact.disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._stages.pop(step.name, None)
            self._write_ledger()
            shutil.rmtree(self.path / step.name, ignore_errors=True)
            self.tidy(step)
            for leftover in self.path.glob(_partial("*")):
                leftover.unlink(missing_ok=True)

    def finish(self, step: Step, done: Done) -> Artifact:
        """Note a stage that was made in the ledger."""
        made = artifact.read(self.path / step.name)
        self._stages[step.name] = {"key": _digest(step, done), "manifest": made.sha256}
        with artifact.disk_errors(self.path):
            self._write_ledger()
        return made

    def note(self, asked: dict[str, Any]) -> None:
        """Keep in the ledger what the run was made for."""
        if asked != self.asked:
            self.asked = asked
            with artifact.disk_errors(self.path):
                self._write_ledger()

    def tidy(self, step: Step) -> None:
        """Remove what killed processes left of a stage."""
        for leftover in self.path.glob(f".{step.name}.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _write_ledger(self) -> None:
        ledger = {"format": FORMAT, "stages": self._stages, "asked": self.asked}
        artifact.write_json(self.path / LEDGER, ledger)


def _partial(process: int | str) -> str:
    return f".{LEDGER}.partial-{process}"


def _is_new(path: Path) -> bool:
    """Whether nothing is there, or only what a process left that ended before its first line."""
    if not path.is_dir():
        return not os.path.lexists(path)
    return all(entry.match(_partial("*")) for entry in path.iterdir())


def _read_ledger(path: Path) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    try:
        raw = json.loads((path / LEDGER).read_text(encoding="utf-8"))
        stages, asked = raw["stages"], raw.get("asked", {})  # older versions wrote no ``asked``
        keyed = all({"key", "manifest"} <= set(stage) for stage in stages.values())
        if raw["format"] == FORMAT and keyed and isinstance(asked, dict):
            return stages, asked
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(
        f"{path} exists already and is no run of edgedense deploy, sweep or run-bundle",
        "Choose another -o; an interrupted run is resumed by giving its own directory.",
    )


def _digest(step: Step, done: Done) -> str:
    inputs = {name: done[name].sha256 for name in step.after}
    return artifact.sha256_json([__version__, step.name, step.key, inputs])
