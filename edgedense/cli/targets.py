"""``edgedense targets``."""

from __future__ import annotations

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit


@click.command()
@params.json_option
def targets(as_json: bool) -> None:
    """List the devices that engines can be built for.

    \b
    Example:  edgedense targets
    """
    from edgedense.targets import TARGETS

    if as_json:
        emit({"targets": [target.to_dict() for target in TARGETS]})
        return
    rows = [
        (
            target.name,
            target.label,
            target.backend,
            " ".join(f"{sm // 10}.{sm % 10}" for sm in target.sms) or None,
            target.int8_tops,
            "yes" if target.int8 else "no",
        )
        for target in TARGETS
    ]
    head = ("target", "device", "built by", "SM", "TOPS", "INT8")
    Terminal().table("Targets of build-engine and deploy; TOPS: dense INT8 peak", head, rows)
