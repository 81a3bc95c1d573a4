"""``edgedense new-key``."""

from __future__ import annotations

from pathlib import Path

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit


@click.command("new-key", short_help="Make a pair of keys to sign bundles with.")
@click.argument("file", type=params.PATH)
@params.json_option
def new_key(file: Path, as_json: bool) -> None:
    """Make a pair of keys to sign bundles with: FILE (secret) and FILE.pub.

    Ed25519, in PEM files as openssl reads them. Needs: pip install 'edgedense[sign]'

    \b
    Example:  edgedense new-key release.key
              edgedense pack runs/first -o first.edz --sign release.key
              edgedense run-bundle first.edz --verify-key release.key.pub
    """
    from edgedense.bundle import new_key as make

    found = make(file)
    if as_json:
        emit(found.to_dict())
        return
    terminal = Terminal()
    terminal.say(f"secret key: {found.key}   (keep it; whoever has it can sign)")
    terminal.say(f"public key: {found.public_key}   (goes to the devices)")
    terminal.say(f"fingerprint: {found.fingerprint}")
