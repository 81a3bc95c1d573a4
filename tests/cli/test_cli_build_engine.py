from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("text", ["86,89", "8.6, 8.9"])
def test_gpus_of_an_rtx_engine(
    text: str, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def stop(path: Path) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("edgedense.artifact.check_absent", stop)
    monkeypatch.setattr(
        "edgedense.build.BuildOptions.check", lambda self: asked.append(self.sms) or self
    )
    monkeypatch.setattr("edgedense.build.BuildOptions.backend", "", raising=False)
    words = ("build-engine", "q", "-o", tmp_path / "e", "--target", "rtx-any", "--sm", text)
    assert edgedense(*words).code == 0
    assert asked == [(86, 89)]


@pytest.mark.parametrize(
    ("words", "what"),
    [(("--target", "rtx-any", "--sm", "many"), "no list of compute capabilities"),
     (("--target", "rtx-any", "--sm", "87"), "--sm 87 cannot be built for"),
     (("--target", "t4", "--sm", "75"), "built on that very GPU")],
)  # fmt: skip
def test_gpus_that_cannot_be(
    words: tuple[str, ...], what: str, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    ended = edgedense("build-engine", tmp_path / "q", "-o", tmp_path / "e", *words)
    assert ended.code == 2
    assert what in ended.error[0]


def test_the_golden_images_are_told(
    made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("build-engine", made.quantized, "-o", tmp_path / "e", "--json")
    report = json.loads(edgedense(*words).out)
    assert report["golden_sqnr_db"] > 10
    told = edgedense("build-engine", made.quantized, "-o", tmp_path / "f").err
    assert f"{report['golden_sqnr_db']:.1f} dB on the golden images" in told
