"""``edgedense doctor``."""

from __future__ import annotations

import click

from edgedense.cli import params


@click.command()
@params.json_option
def doctor(as_json: bool) -> None:
    """Show what this machine can do, and what mends the rest.

    \b
    Example:  edgedense doctor
    """
    from edgedense.cli.terminal import Terminal, emit, size
    from edgedense.doctor import examine

    found = examine()
    if as_json:
        emit(found.to_dict())
        return
    terminal = Terminal()
    rows = [
        ("edgedense", found.edgedense),
        ("Python", found.python),
        ("processor", f"{found.cpu}, {found.cores} cores, {size(found.memory_bytes)}"),
        ("GPU", found.gpu.name if found.gpu else "none"),
        ("board", f"{found.board} (L4T {found.l4t})" if found.board else "no Jetson"),
        *((name, version or "not installed") for name, version in found.packages.items()),
        ("builds for", ", ".join(found.builds) or "nothing"),
        ("runs engines of", ", ".join(found.runs) or "nothing"),
    ]
    terminal.table("This machine", ("", ""), rows)
    if found.missing:
        terminal.table(
            "Missing", ("what", "mend it by"), [(m.what, m.remedy) for m in found.missing]
        )
    if found.not_here:
        terminal.table(
            "Not possible here", ("what", "instead"), [(n.what, n.instead) for n in found.not_here]
        )
