"""``edgedense finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedense.cli import params
from edgedense.cli.training import carry_out, chosen, read_images, training_options


@click.command()
@params.model_argument
@params.output_option(required=False)
@click.option("--data", type=params.PATH, required=True, metavar="SET", help="Training images.")
@click.option(
    "--teacher",
    type=params.PATH,
    metavar="MODEL",
    help="The network before pruning: its logits guide this one.",
)
@click.option("--epochs", type=int, required=True, help="The schedule is scaled to them.")
@click.option("--temperature", type=float, help="Of the teacher's answers.  [default: 4]")
@click.option("--alpha", type=float, help="The teacher's share of the loss.  [default: 0.9]")
@training_options
def finetune(
    model: Path,
    output: Path | None,
    data: Path,
    teacher: Path | None,
    optimizer: Any,
    dropout: float | None,
    augment: bool,
    evaluation: Path | None,
    dry_run: bool,
    preprocess: str | None,
    as_json: bool,
    lr: float | None,
    **asked: Any,
) -> None:
    """Train a network further, after pruning mostly.

    By the recipe of train, but a tenth of its learning rate (0.01; segmentation 1e-4), and below 10
    epochs a tenth of that for each: large steps need time to mend what they break. The structure
    stays. What is done is kept in DIR.training after each epoch: the same command goes on from
    there.

    \b
    Example:  edgedense finetune pruned -o tuned --data train/ --epochs 10
                --teacher net.pth --eval test/
    """
    from edgedense import artifact

    if output is not None:
        artifact.check_absent(output)
    loaded = params.read_model(model)
    guide = None if teacher is None else params.read_model(teacher)
    images, judges, pre = read_images(data, evaluation, preprocess, loaded)
    from edgedense.train import finetune_job, recipe

    base = recipe(loaded.spec, optimizer)
    rate = _rate(base.lr, asked["epochs"]) if lr is None else lr
    options = chosen(base, augment, lr=rate, **asked)
    job = finetune_job(loaded, images, pre, options, judges, teacher=guide, dropout=dropout)
    carry_out(job, output, dry_run, as_json)


def _rate(first: float, epochs: int) -> float:
    """The learning rate of so many epochs, where training from nothing begins with ``first``."""
    return float(f"{first / 10 * min(max(epochs, 1), 10) / 10:.6g}")
