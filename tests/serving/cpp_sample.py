"""Compiling the C++ sample."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[2] / "examples" / "cpp"
STAND_IN = Path(__file__).parent / "stand_in"
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-ffp-contract=off")

Program = Callable[..., subprocess.CompletedProcess[bytes]]


def program(source: Path, into: Path, *flags: str) -> Program:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here: the C++ sample is not compiled")
    binary = into / source.stem
    words = [compiler, *FLAGS, *flags, "-I", SAMPLE, source, "-o", binary]
    subprocess.run(list(map(str, words)), check=True)

    def call(
        *words: object, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [str(binary), *map(str, words)], input=stdin, capture_output=True, check=False, env=env
        )
        assert done.returncode in (0, 2), done.stderr.decode()  # no crash, no sanitizer
        return done

    return call
