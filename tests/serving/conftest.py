"""The C++ sample, compiled once a session; skipped where there is no compiler."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_sample import SAMPLE, STAND_IN, Program, program


@pytest.fixture(scope="session")
def preprocess_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return program(SAMPLE / "preprocess_main.cpp", tmp_path_factory.mktemp("preprocess"))


@pytest.fixture(scope="session")
def run_program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return program(SAMPLE / "main.cpp", tmp_path_factory.mktemp("run"), "-I", str(STAND_IN))


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Program:
    return program(Path(__file__).parent / "probe.cpp", tmp_path_factory.mktemp("probe"))
