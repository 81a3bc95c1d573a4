"""``edgedense train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.training import carry_out, chosen, read_images, training_options
from edgedense.environment import require

if TYPE_CHECKING:
    from edgedense.densenet.family import Spec


class Blocks(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """One number a block: ``16,16,16``."""

    name = "N,N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Whole numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list such as 6,12,24,16", param, ctx)


@click.command()
@params.output_option(required=False)
@click.option("--data", type=params.PATH, required=True, metavar="SET", help="Training images.")
@click.option("--arch", metavar="NAME", help="A network of the papers, such as densenet121.")
@click.option("--blocks", type=Blocks(), help="Instead of --arch: layers of each block.")
@click.option(
    "--growth",
    type=Blocks(),
    default="12",
    show_default=True,
    help="Growth rate k, or one a block.",
)
@click.option(
    "--stem",
    type=click.Choice(["cifar", "imagenet"]),
    default="cifar",
    show_default=True,
    help="cifar: 3x3, for small images; imagenet: 7x7/2 and a max pool.",
)
@click.option("--bottleneck/--no-bottleneck", default=True, show_default=True, help="DenseNet-B.")
@click.option("--compression", default=0.5, show_default=True, help="Theta of the transitions.")
@click.option(
    "--pool",
    type=click.Choice(["avg", "max"]),
    default="avg",
    show_default=True,
    help="Of the transitions.",
)
@click.option("--epochs", type=int, help="[recipe: CIFAR 300, ImageNet 90, segmentation 200]")
@training_options
def train(
    output: Path | None,
    data: Path,
    arch: str | None,
    blocks: tuple[int, ...] | None,
    growth: tuple[int, ...],
    stem: Any,
    bottleneck: bool,
    compression: float,
    pool: Any,
    optimizer: Any,
    dropout: float | None,
    augment: bool,
    evaluation: Path | None,
    dry_run: bool,
    preprocess: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Train a DenseNet on your images, by the papers' recipe.

    SGD with Nesterov's momentum, its learning rate divided by 10 twice; for segmentation RMSprop,
    its rate times 0.995 each epoch. What is done is kept in DIR.training after each epoch: the same
    command goes on from there. Several processes: torchrun --nproc_per_node N -m edgedense train …

    \b
    Example:  edgedense train -o net --data train/ --eval test/ --blocks 16,16,16
                --growth 12 --preprocess cifar10
    """
    from edgedense import artifact

    if output is not None:
        artifact.check_absent(output)
    for module in ("torch", "safetensors"):
        require(module, "train")
    images, judges, chosen_preprocess = read_images(data, evaluation, preprocess)
    from edgedense.densenet import zoo
    from edgedense.train import recipe, train_job
    from edgedense.train.arch import classes_of, explicit, one_of

    classes, channels = classes_of(images), chosen_preprocess.channels
    if one_of(arch, blocks) == "arch":
        spec: Spec = zoo.find(str(arch), classes, channels)
    else:
        spec = explicit(
            blocks or (),
            growth,
            classes,
            stem=stem,
            bottleneck=bottleneck,
            compression=compression,
            pool=pool,
            in_channels=channels,
        )
    if dropout is not None:
        spec = replace(spec, dropout=dropout)
    options = chosen(recipe(spec, optimizer), augment, **asked)
    job = train_job(spec, images, chosen_preprocess, options, judges)
    carry_out(job, output, dry_run, as_json)
