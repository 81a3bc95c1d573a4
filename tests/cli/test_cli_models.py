"""``edgedense models``: the zoo as a table and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edgedense.densenet import zoo


def test_json_has_every_network_with_its_numbers(edgedense: Callable[..., Any]) -> None:
    ended = edgedense("models", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = {model["name"]: model for model in json.loads(ended.out)["models"]}
    assert list(found) == [entry.name for entry in zoo.ENTRIES]
    one = found["densenet121"]
    assert (one["params"], one["input_shape"], one["reference"]) == (
        7_978_856,
        [3, 224, 224],
        False,
    )
    assert (one["block_config"], one["growth_rate"]) == ([6, 12, 24, 16], 32)
    error = {"data": "ImageNet", "metric": "error", "value": 25.02}
    assert error.items() <= one["results"][0].items()
    assert [name for name, model in found.items() if model["reference"]] == [
        "resnet50",
        "resnet101",
    ]


def test_tables_fit_80_columns_and_lose_no_figure(
    edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = edgedense("models")
    assert (ended.code, ended.out) == (0, "")
    lines = ended.err.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    for entry in zoo.ENTRIES:  # a cell that does not fit would be cut in silence
        assert (entry.name if entry.spec else f"({entry.name})") in rows
    crops = ["25.02/7.71", "23.61", "74.43/91.97"]
    assert rows["densenet121"] == ["6,12,24,16", "32", "7.98", "2.83", *crops]
    assert rows["densenet264-k48"][3:5] == ["12.85", "20.26/-"]
    assert rows["(resnet50)"] == ["-", "-", "25.56", "4.09", "-", "-", "76.13/92.86"]
    errors = ["5.19", "3.62", "19.64", "17.60", "1.74"]
    assert rows["densenet-bc-250-24"] == ["41,41,41", "24", "15.32", "5.42", *errors]
    assert rows["fc-densenet103"] == ["4,5,7,10,12,15", "16", "9.32", "20.07", "66.9", "91.5"]


def test_nothing_heavy_is_loaded_for_it() -> None:
    script = (
        "import sys\nfrom edgedense.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print([name for name in ('torch', 'onnx', 'onnxruntime') if name in sys.modules])\n"
    )
    words = [sys.executable, "-c", script, "models"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
