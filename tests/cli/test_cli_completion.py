"""Shell completion, as bash asks for it: through the script that it is told to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
# what readline does when Tab is pressed at the end of the words
PRESS = """
eval "$(_EDGEDENSE_COMPLETE=bash_source edgedense)"
compopt() { echo "readline completes: $2"; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_edgedense_completion edgedense
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the command, wherever it is installed."""
    place = tmp_path_factory.mktemp("bin")
    script = place / "edgedense"
    script.write_text(f"#!{sys.executable}\nfrom edgedense.cli import main\nmain()\n")
    script.chmod(0o755)
    return place


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("edgedense run", "run-bundle"),
        ("edgedense b", "build-engine benchmark"),
        ("edgedense build-engine int8 --target jetson-o", "jetson-orin-nano jetson-orin-nx"),
        ("edgedense quantize net.pth --placement ", "conv block"),
        ("edgedense sweep net.pth --placement conv,b", "conv,block"),
        ("edgedense quantize net.pth --preprocess cif", "cifar10 cifar100"),
        ("edgedense quantize net.pth --preprocess my", "readline completes: default"),
        ("edgedense quantize ne", "readline completes: default"),
        ("edgedense quantize net.pth --calib tr", "readline completes: default"),
    ],
)
def test_what_bash_offers(typed: str, offered: str, commands: Path) -> None:
    environment = os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
    words = [str(BASH), "--norc", "-c", PRESS, "bash", *typed.split(" ")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines == ([offered] if offered.startswith("readline") else offered.split())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_their_script(shell: str, commands: Path) -> None:
    script = subprocess.run(
        [commands / "edgedense"],
        env=os.environ | {"_EDGEDENSE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"_EDGEDENSE_COMPLETE={shell}_complete" in script.stdout
