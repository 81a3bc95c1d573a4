"""A bundle of the tiny network, and a run of it.

This file's presence also puts its directory on the import path, for ``small_bundles``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_bundles import quick

from edgedense.bundle import PackOptions, open_bundle, pack, run_bundle


@pytest.fixture(scope="session")
def packed(made: Any, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network's bundle for cpu; copy it, do not change it."""
    path = tmp_path_factory.mktemp("packed") / "tiny.edz"
    pack(made.quantized, path, PackOptions(targets=("cpu",), max_drop_pp=5), tiny.test)
    return path


@pytest.fixture(scope="session")
def proved(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of that bundle that ended well; copy it, do not change it."""
    run = tmp_path_factory.mktemp("proved") / "run"
    with open_bundle(packed) as bundle:
        assert run_bundle(bundle, run, None, quick()).verdict == "pass"
    return run
