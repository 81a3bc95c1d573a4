"""``edgedense import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit
from edgedense.densenet.checkpoints import LoadOptions
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.densenet.spec import Activation, Pool


@click.command(name="import")
@params.model_argument
@params.output_option()
@click.option("--ema", is_flag=True, help="Take the averaged (EMA) weights of the file.")
@click.option(
    "--scheme",
    metavar="NAME",
    help="Read the file as this code base's, where its keys fit several; order: by the order of "
    "its tensors.",
)
@click.option(
    "--activation",
    type=click.Choice(["none", "softmax", "log_softmax", "sigmoid"]),
    help="What the original applied to its logits, where the code base's own differs.",
)
@click.option("--eps", type=float, help="eps of the batch norms, where it is not the usual one.")
@click.option(
    "--pool",
    type=click.Choice(["avg", "max"]),
    help="Of the transitions: no file tells it.  [default: avg]",
)
@params.preprocess_option
@params.json_option
def import_model(
    model: Path,
    output: Path,
    ema: bool,
    scheme: str | None,
    activation: Activation | None,
    eps: float | None,
    pool: Pool | None,
    preprocess: str | None,
    as_json: bool,
) -> None:
    """Turn a checkpoint of any kind into an artifact.

    Every command reads checkpoints; this one is for files that need a word of explanation, and
    keeps the answers with the weights.

    \b
    Example:  edgedense import last.ckpt -o net --ema --preprocess imagenet
    """
    from edgedense import artifact

    artifact.check_absent(output)
    if artifact.is_artifact(model):
        raise InputError(f"{model} is an artifact already", "Give it to the next command.")
    options = LoadOptions(ema, scheme, activation, eps, pool)
    loaded = params.read_model(model, options)
    from edgedense.importing import import_model as run

    chosen = None
    if preprocess or loaded.preset:
        chosen = params.choose_preprocess(preprocess, None, preset=loaded.preset)
    found = run(loaded, chosen, output, options)
    if as_json:
        emit(found.to_dict())
        return
    terminal = Terminal()
    rows = [
        ("scheme", found.scheme),
        ("task", f"{found.task}, {found.num_classes} classes"),
        ("parameters", count(found.params)),
        ("MACs", f"{count(found.macs)} at {found.input_size[0]}x{found.input_size[1]}"),
        ("original's activation", found.activation),
        ("preprocessing", found.preprocess or "unknown: later commands need --preprocess"),
    ]
    terminal.table(found.family, ("", ""), rows)
    for note in found.notes:
        terminal.say(note)
    terminal.say(f"{output}: written in {found.seconds:.1f} s")
