"""Help answers without loading anything heavy, so that it answers at once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from edgedense.cli.main import cli

HEAVY = ("torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda")
ALSO_ABSENT = ("numpy", "PIL", "torch_pruning", "safetensors", "sklearn")
# loads nothing but what the command line itself loads, then tells what that was
PROBE = """
import json, sys
from edgedense.cli import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["edgedense", *words]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps([codes, sorted(sys.modules)]), file=sys.stderr)
"""


def probe(*calls: list[str]) -> tuple[list[int], set[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    codes, modules = json.loads(done.stderr.splitlines()[-1])
    return codes, set(modules), done.stdout


def test_help_of_edgedense_loads_nothing_heavy() -> None:
    codes, modules, out = probe(["--help"])
    assert codes == [0]
    assert "edgedense.cli.deploy" in modules  # the probe saw this process and not another one
    assert not modules & {*HEAVY, *ALSO_ABSENT}
    assert all(name in out for name in cli.commands)


def test_help_of_every_command_loads_nothing_heavy() -> None:
    codes, modules, out = probe(*([name, "--help"] for name in cli.commands))
    assert codes == [0] * len(cli.commands)
    assert not modules & {*HEAVY, *ALSO_ABSENT}
    assert out.count("Usage: edgedense ") == len(cli.commands)


@pytest.mark.parametrize("words", [["targets"], ["doctor"], ["targets", "--json"]])
def test_tables_about_the_machine_load_no_framework(words: list[str]) -> None:
    codes, modules, _ = probe(words)
    assert codes == [0]
    assert not modules & set(HEAVY)
