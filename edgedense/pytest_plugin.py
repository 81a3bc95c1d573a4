"""A pytest fixture for the repository of a network: ``assert_no_regression``.

    def test_engine(assert_no_regression):
        assert_no_regression(engine="build/engine", data="images/test", max_drop_pp=0.5)

Installing edgedense is enough for pytest to find it. What a call leaves out comes from the command
line (``--edgedense-engine`` and the like), then from the ini file (``edgedense_engine``), where
paths are relative to the root directory of the tests. Nothing heavy is imported before a call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgedense.cli.gate import Asked
    from edgedense.validate import ValidateReport

_PATHS = {
    "engine": "Engine to judge: a directory of build-engine.",
    "data": "Evaluation images.",
    "reference": "FP32 network to judge against (default: the logits that travel along).",
    "baseline": "Baseline that the engine may not fall behind.",
}
_NUMBERS = {
    "max_drop_pp": "How far top-1 may fall behind FP32, in percentage points (1.0).",
    "min_speedup": "How many times faster than FP32 PyTorch the engine must be.",
    "max_regression_pp": "How far top-1 may be proven to fall behind the baseline (0.0).",
    "max_slowdown_percent": "How far the median latency may be proven to exceed it (10).",
}
_MISSING = "What to do where this machine lacks a GPU or a library: fail or skip."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini settings with the defaults of a user's repository."""
    group = parser.getgroup("edgedense", "judging engines (edgedense)")
    for name, said in _PATHS.items():
        group.addoption(_option(name), metavar="PATH", help=said)
        parser.addini(f"edgedense_{name}", said, default="")
    for name, said in _NUMBERS.items():
        parser.addini(f"edgedense_{name}", said, default="")
    parser.addini(
        "edgedense_latency", "Whether latency is held against the baseline, too.", "bool", True
    )
    group.addoption("--edgedense-missing", choices=["fail", "skip"], help=_MISSING)
    parser.addini("edgedense_missing", _MISSING, default="fail")


@pytest.fixture(scope="session")
def assert_no_regression(pytestconfig: pytest.Config) -> Callable[..., ValidateReport]:
    """Judge an engine; the test fails, with the reasons, unless every gate is proved to hold.

    Call it with ``engine`` and ``data``, and what else applies: ``reference``, ``baseline``,
    ``max_drop_pp``, ``min_speedup``, ``max_regression_pp``, ``max_slowdown_percent``, ``latency``,
    ``force``; they mean what the options of ``edgedense validate`` do. Gives the report.
    """

    def call(
        engine: str | Path | None = None,
        data: str | Path | None = None,
        *,
        reference: str | Path | None = None,
        baseline: str | Path | None = None,
        max_drop_pp: float | None = None,
        min_speedup: float | None = None,
        max_regression_pp: float | None = None,
        max_slowdown_percent: float | None = None,
        latency: bool | None = None,
        force: bool = False,
    ) -> ValidateReport:
        __tracebackhide__ = True
        chosen = _Chosen(pytestconfig)
        paths = {
            "engine": chosen.path("engine", engine),
            "data": chosen.path("data", data),
            "reference": chosen.path("reference", reference),
            "baseline": chosen.path("baseline", baseline),
        }
        numbers = {
            "max_drop": chosen.number("max_drop_pp", max_drop_pp),
            "min_speedup": chosen.number("min_speedup", min_speedup),
            "max_regression": chosen.number("max_regression_pp", max_regression_pp),
            "max_slowdown": chosen.number("max_slowdown_percent", max_slowdown_percent),
        }
        known = {name: value for name, value in numbers.items() if value is not None}
        flags = {"latency": chosen.flag("latency", latency), "force": force}
        report = _report(paths, {**known, **flags}, skips=chosen.skips)
        if report.verdict != "pass":
            reasons = "".join(f"\n  - {reason}" for reason in report.reasons)
            raise AssertionError(f"{paths['engine']}: {report.verdict}{reasons}")
        return report

    return call


@dataclass(frozen=True)
class _Chosen:
    """Values of a call, else of the command line, else of the ini file."""

    config: pytest.Config

    def path(self, name: str, given: str | Path | None) -> Path | None:
        if given is not None:
            return self.config.rootpath / given
        asked = self.config.getoption(_option(name))
        if asked:
            return self.config.invocation_params.dir / str(asked)
        written = str(self.config.getini(f"edgedense_{name}"))
        return self.config.rootpath / written if written else None

    def number(self, name: str, given: float | None) -> float | None:
        written = str(self.config.getini(f"edgedense_{name}"))
        if given is not None or not written:
            return given
        try:
            return float(written)
        except ValueError:
            pytest.fail(f"edgedense_{name} = {written!r} is no number", pytrace=False)

    def flag(self, name: str, given: bool | None) -> bool:
        return bool(self.config.getini(f"edgedense_{name}")) if given is None else given

    @property
    def skips(self) -> bool:
        asked = self.config.getoption("--edgedense-missing")
        return str(asked or self.config.getini("edgedense_missing")) == "skip"


def _report(paths: dict[str, Path | None], more: dict[str, Any], *, skips: bool) -> ValidateReport:
    """Run it. What is wrong with the input fails the test; a lack of the machine may skip it."""
    __tracebackhide__ = True
    from edgedense.cli.gate import Asked
    from edgedense.errors import InputError, MachineError

    engine, data = (_needed(name, paths[name]) for name in ("engine", "data"))
    asked = Asked(reference=paths["reference"], baseline=paths["baseline"], **more)
    try:
        return _proved(engine, data, asked)
    except MachineError as error:
        said = f"{error.what}\n  → {error.remedy}"
    except InputError as error:
        pytest.fail(f"{error.what}\n  → {error.remedy}", pytrace=False)
    if skips:
        pytest.skip(said)
    pytest.fail(said, pytrace=False)


def _proved(engine: Path, data: Path, asked: Asked) -> ValidateReport:
    from edgedense import artifact
    from edgedense.cli.gate import prove, read_set
    from edgedense.progress import SILENT

    return prove(artifact.read(engine), read_set(data, asked), asked, SILENT)


def _needed(name: str, path: Path | None) -> Path:
    if path is None:
        pytest.fail(
            f"assert_no_regression was not told the {name}: give {name}=…, {_option(name)} or "
            f"edgedense_{name} in the ini file",
            pytrace=False,
        )
    return path


def _option(name: str) -> str:
    return f"--edgedense-{name}"
