"""A place that looks like the one in which the documents' commands are typed.

This file's presence also puts its directory on the import path, for ``fenced``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stand_ins import write_classifier, write_images
from warm_commands import Shell, warm_shell

CHECKPOINT = "densenet_bc_100_12_cifar10.pth.tar"
ENGINE = (
    f"edgedense quantize {CHECKPOINT} -o int8 --calib train --eval test --effort fast "
    "--preprocess cifar10 && edgedense build-engine int8 -o engine --target cpu && mkdir baselines"
)


@pytest.fixture(scope="session")
def shell() -> Shell:
    return warm_shell()


@pytest.fixture(scope="session")
def typed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny stand-ins for the network and the images that the pages name; copy it."""
    root = tmp_path_factory.mktemp("typed") / "in"
    write_images(root / "train", 24, 32, seed=0)
    write_images(root / "test", 140, 32, seed=1)
    write_classifier(root / CHECKPOINT, root / "train", "cifar10")
    shutil.copy(root / CHECKPOINT, root / "net.pth")
    return root


@pytest.fixture
def place(typed_in: Path, tmp_path: Path, shell: Shell) -> Callable[[str], Path]:
    """A directory to type the commands of a page in."""

    def made(page: str) -> Path:
        where = tmp_path / "place"
        shutil.copytree(typed_in, where)
        if page == "ci.md":  # begins with an engine
            done = shell.line(ENGINE, where)
            assert done.code == 0, done.log
        return where

    return made
