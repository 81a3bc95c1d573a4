"""``edgedense doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgedense.cli import params

if TYPE_CHECKING:
    from edgedense.cli.terminal import Terminal
    from edgedense.doctor import Diagnosis


@click.command()
@params.json_option
def doctor(as_json: bool) -> None:
    """Show what this machine can do, and what mends the rest.

    \b
    Example:  edgedense doctor
    """
    from edgedense.cli.terminal import Terminal, emit
    from edgedense.doctor import examine

    found = examine()
    if as_json:
        emit(found.to_dict())
    else:
        show(Terminal(), found)


def show(terminal: Terminal, found: Diagnosis) -> None:
    """Print the tables; sources of what is known are in ``--json`` alone."""
    terminal.table(
        "This machine", ("", ""), [*_machine(found), *_jetson(found), *_abilities(found)]
    )
    if found.problems:
        problems = [(row.level, row.said, row.remedy) for row in found.problems]
        terminal.table("Problems", ("", "what", "mend it by"), problems)
    if found.missing:
        missing = [(row.what, row.remedy) for row in found.missing]
        terminal.table("Missing", ("what", "mend it by"), missing)
    if found.not_here:
        not_here = [(row.what, row.instead) for row in found.not_here]
        terminal.table("Not possible here", ("what", "instead"), not_here)


def _machine(found: Diagnosis) -> list[tuple[str, str]]:
    from edgedense.cli.terminal import size

    environment = " in a virtual environment" if found.virtual_environment else ""
    memory = f"{size(found.memory_bytes)}, {size(found.available_bytes)} free"
    gpu, name = found.gpu, "none"
    if gpu:
        sm = f", SM {gpu.sm}" if gpu.sm else ""
        name = f"{gpu.name}{sm}" + (f", driver {gpu.driver}" if gpu.driver else "")
    return [
        ("edgedense", found.edgedense),
        ("Python", found.python + environment),
        ("processor", f"{found.cpu}, {found.cores} cores"),
        ("memory", f"{memory}, swap {size(found.swap_bytes)}"),
        ("GPU", name),
    ]


def _jetson(found: Diagnosis) -> list[tuple[str, str]]:
    if found.board is None:
        return [("board", "no Jetson")]
    row = found.expected
    versions = found.jetpack or (row.versions if row else "unknown")
    rows = [("JetPack", f"{versions} (L4T {found.l4t or 'unknown'})")]
    if row:
        rows.append(("", f"has TensorRT {row.tensorrt}, Python {row.python}, CUDA {row.cuda}"))
    pinned = {True: ", clocks pinned", False: ", clocks follow the load", None: ""}
    return [
        *rows,
        ("INT8", found.int8.why),
        ("DLA", found.dla.why),
        ("power mode", (found.power_mode or "unknown") + pinned[found.clocks_pinned]),
    ]


def _abilities(found: Diagnosis) -> list[tuple[str, str]]:
    packages = dict(found.packages)
    if packages["tensorrt"] is None and found.tensorrt:
        packages["tensorrt"] = f"{found.tensorrt}, of the system alone"
    return [
        *((name, version or "not installed") for name, version in packages.items()),
        ("builds for", ", ".join(found.builds) or "nothing"),
        ("runs engines of", ", ".join(found.runs) or "nothing"),
    ]
