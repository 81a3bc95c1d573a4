"""``edgedense inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit


@click.command()
@params.model_argument
@params.preprocess_option
@params.json_option
def inspect(model: Path, preprocess: str | None, as_json: bool) -> None:
    """Show what a checkpoint holds and how it was recognised.

    \b
    Example:  edgedense inspect densenet121.pth
    """
    from edgedense.densenet.count import count_macs, count_params, usual_input_size
    from edgedense.densenet.spec import DenseNetSpec
    from edgedense.densenet.zoo import name_of

    loaded = params.read_model(model)
    spec = loaded.spec
    known = bool(preprocess or loaded.preprocess or loaded.preset)
    input_size = usual_input_size(spec)
    if known:
        input_size = params.choose_preprocess(
            preprocess, loaded.preprocess, preset=loaded.preset
        ).input_size
    found: dict[str, Any] = {
        "family": spec.family,
        "zoo": name_of(spec),
        "task": spec.task,
        "scheme": loaded.scheme,
        "block_config": list(spec.block_config),
        "growth_rate": spec.growth_rate,
        "params": count_params(spec),
        "macs": count_macs(spec, input_size),
        "num_classes": spec.num_classes,
        "activation": spec.activation,
        "input_shape": [spec.in_channels, *input_size],
        "input_shape_from": "preprocess" if known else "usual for this kind of network",
        "stem": spec.stem if isinstance(spec, DenseNetSpec) else "conv3x3",
        "block_widths": list(spec.block_widths()),
        "eps": spec.eps,
        "preset": loaded.preset,
        "notes": list(loaded.notes),
        "sha256": loaded.sha256,
    }
    if as_json:
        emit(found)
        return
    terminal = Terminal()
    short = {"params": count(found["params"]), "macs": count(found["macs"])}
    shown = {**found, **short, "sha256": f"{found['sha256'][:16]}…"}
    shown["implied preprocessing"] = shown.pop("preset")
    del shown["notes"]
    for key in ("zoo", "implied preprocessing"):
        if shown[key] is None:
            del shown[key]
    terminal.table(str(model), ("", ""), [(k.replace("_", " "), v) for k, v in shown.items()])
    for note in loaded.notes:
        terminal.say(note)
