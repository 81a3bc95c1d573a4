from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedense.benchmark import BenchmarkOptions
from edgedense.data import load_preprocess, load_set
from edgedense.densenet.checkpoints import load_model
from edgedense.pipeline import DeployOptions, Inputs
from edgedense.prune import PruneOptions
from edgedense.validate import ValidateOptions


@pytest.fixture(scope="session")
def inputs(tiny: Any) -> Inputs:
    return Inputs(
        load_model(tiny.checkpoint),
        load_set(tiny.train),
        load_set(tiny.test),
        load_preprocess(str(tiny.toml)),
    )


@pytest.fixture
def quick() -> Callable[..., DeployOptions]:
    """Options of a whole deployment that measures latency for an instant only."""

    def options(**changed: Any) -> DeployOptions:
        usual: dict[str, Any] = {
            "targets": ("cpu",),
            "prune": PruneOptions(macs=0.8),
            "validate": ValidateOptions(max_drop_pp=5),
            "benchmark": BenchmarkOptions(iterations=20, min_seconds=0, warmup_seconds=0),
        }
        return DeployOptions(**(usual | changed))

    return options


class News:
    """Keeps the lines that a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def track(self, items: Any, label: str, total: int | None = None) -> Any:
        yield from items

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def news() -> News:
    return News()


@pytest.fixture(scope="session")
def finished(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended well; copy it, do not change it."""
    from edgedense.pipeline import deploy

    run = tmp_path_factory.mktemp("finished") / "run"
    options = DeployOptions(
        ("cpu",),
        prune=PruneOptions(macs=0.8),
        validate=ValidateOptions(max_drop_pp=5),
        benchmark=BenchmarkOptions(iterations=20, min_seconds=0, warmup_seconds=0),
    )
    report = deploy(inputs, run, options)
    assert report.verdict == "pass", report.reasons
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(finished, tmp_path / "run"))
