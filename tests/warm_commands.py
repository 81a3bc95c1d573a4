"""Shell scripts that call edgedense, run as they are written but without a start of PyTorch a call.

``edgedense`` on their PATH hands its words to one process that has imported everything; a fork of
that runs them, with the caller's directory, environment and standard streams. Timing is cut short,
as the figures are not what such a test is about.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHORT = ["--min-seconds", "0", "--iterations", "20", "--max-seconds", "0.3", "--warm-up", "0"]
QUICK = {
    "benchmark": [*SHORT, "--allow-unstable"],
    "compare": ["--repeats", "2", "--max-seconds", "0.3"],
    "run-bundle": ["--repeats", "1", "--iterations", "20", "--max-seconds", "0.3"],
}
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({place!r})
    asked = {{"words": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ)}}
    socket.send_fds(line, [b"!"], [0, 1, 2])
    line.sendall(json.dumps(asked).encode())
    line.shutdown(socket.SHUT_WR)
    code = line.recv(8)
sys.exit(int(code or b"99"))
"""


@dataclass(frozen=True)
class Done:
    """How a script ended; ``log`` is what it wrote to both streams."""

    code: int
    log: str


@dataclass(frozen=True)
class Shell:
    """Runs scripts with ``bin`` first on their PATH."""

    bin: Path

    def run(self, words: Sequence[str | Path], cwd: Path, env: Mapping[str, str] = {}) -> Done:
        """Run a program there; relative paths are its own matter."""
        beside = str(Path(sys.executable).parent)
        path = os.pathsep.join([str(self.bin), beside, os.environ["PATH"]])
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
        done = subprocess.run(
            list(map(str, words)),
            cwd=cwd,
            env={**plain, "PATH": path, "NO_COLOR": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def line(self, line: str, cwd: Path) -> Done:
        """Run one line of shell."""
        return self.run(["bash", "-eo", "pipefail", "-c", line], cwd)


@functools.cache
def warm_shell() -> Shell:
    """The one of this process; it ends with it, as its end closes a pipe."""
    folder = tempfile.TemporaryDirectory(prefix="edgedense-warm-")
    place = f"{folder.name}/line"
    client = Path(folder.name) / "bin/edgedense"
    client.parent.mkdir()
    client.write_text(CLIENT.format(python=sys.executable, place=place))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert server.stdout is not None
    ready = server.stdout.readline()
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)
    assert ready == b"ready\n", "the process that runs edgedense did not start"
    return Shell(client.parent)


def serve(place: str) -> None:
    """Fork for each caller, until whoever started this is gone."""
    _import_all()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            line, _ = listening.accept()
            with line:
                line.sendall(str(_run(line, listening)).encode())


def _import_all() -> None:
    import functools

    import onnx
    import onnxruntime
    import torch
    import torch_pruning

    from edgedense import benchmark

    del onnx, onnxruntime, torch, torch_pruning
    benchmark.BenchmarkOptions = functools.partial(  # type: ignore[misc,assignment]
        benchmark.BenchmarkOptions, iterations=20, min_seconds=0, warmup_seconds=0
    )
    import edgedense.cli
    import edgedense.pipeline
    import edgedense.quantize  # noqa: F401


def _run(line: socket.socket, listening: socket.socket) -> int:
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    text = b"".join(iter(functools.partial(line.recv, 1 << 16), b""))
    child = os.fork()
    if child:
        for stream in streams:
            os.close(stream)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF
    listening.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    asked = json.loads(text)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"], OMP_NUM_THREADS="1")
    os._exit(_called(asked["words"]))


def _called(words: list[str]) -> int:
    from edgedense.cli import main

    sys.argv = ["edgedense", *words]
    if words and words[0] in QUICK and "--help" not in words:
        sys.argv += QUICK[words[0]]
        if words[0] == "benchmark" and "--against" in words:
            sys.argv += ["--same-process"]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])
