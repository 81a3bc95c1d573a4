"""``edgedense prune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit
from edgedense.environment import require

if TYPE_CHECKING:
    from edgedense.prune.groups import Scope
    from edgedense.prune.options import Importance


@click.command()
@params.model_argument
@params.output_option()
@click.option("--calib", type=params.PATH, help="Images: for Taylor and for BN re-estimation.")
@click.option("--macs", default=0.7, show_default=True, help="Share of the MACs to keep, 0 to 1.")
@click.option(
    "--scope",
    type=click.Choice(["auto", "bottleneck", "all"]),
    default="auto",
    show_default=True,
    help="bottleneck keeps every concat as wide as it is; all prunes growth and stem too; auto "
    "takes bottleneck where the network has them.",
)
@click.option(
    "--importance",
    type=click.Choice(["magnitude", "bn-scale", "taylor"]),
    default="magnitude",
    show_default=True,
    help="What makes a channel worth keeping.",
)
@click.option("--align", default=8, show_default=True, help="Kept channels: a multiple of this.")
@click.option(
    "--reestimate-bn/--keep-bn",
    default=True,
    show_default=True,
    help="Measure BN statistics anew on the calibration images after pruning.",
)
@click.option("--images", default=512, show_default=True, help="Most calibration images to use.")
@params.preprocess_option
@params.seed_option
@params.json_option
def prune(
    model: Path,
    output: Path,
    calib: Path | None,
    macs: float,
    scope: Scope,
    importance: Importance,
    align: int,
    reestimate_bn: bool,
    images: int,
    preprocess: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Remove channels, down to a share of the MACs.

    MACs are multiply-accumulates; the report says how many were asked and how many are left.

    \b
    Example:  edgedense prune net.pth -o pruned --calib train/ --macs 0.7
                --preprocess cifar10
    """
    from edgedense import artifact

    artifact.check_absent(output)
    for module in ("torch_pruning", "safetensors"):
        require(module, "prune")
    loaded = params.read_model(model)
    from edgedense.prune import PruneOptions
    from edgedense.prune import prune as run

    calibration = params.read_set(calib) if calib else None
    given = [calibration] if calibration else []
    chosen = params.choose_preprocess(preprocess, loaded.preprocess, *given, preset=loaded.preset)
    options = PruneOptions(
        macs=macs,
        scope=scope,
        importance=importance,
        align=align,
        reestimate_bn=reestimate_bn,
        images=images,
        seed=seed,
    )
    terminal = Terminal()
    found = run(loaded, calibration, chosen, output, options, terminal)
    if as_json:
        emit(found.to_dict())
        return
    rows = [
        ("MACs", count(found.macs_before), count(found.macs_after)),
        ("parameters", count(found.params_before), count(found.params_after)),
    ]
    terminal.table(
        f"pruned to {found.share:.3f} of the MACs ({macs:g} was asked)",
        ("", "before", "after"),
        rows,
    )
    terminal.say(f"{output}: written in {found.seconds:.1f} s")
    terminal.say(f"next: edgedense quantize {output} -o DIR --calib SET")
