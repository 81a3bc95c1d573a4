"""``edgedense prune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit
from edgedense.environment import require
from edgedense.targets import find_target

if TYPE_CHECKING:
    from edgedense.prune.groups import Scope
    from edgedense.prune.options import Method


@click.command()
@params.model_argument
@params.output_option()
@click.option(
    "--calib", type=params.PATH, help="Training images, some hundred; labels only for taylor."
)
@click.option("--macs", type=float, help="Share of the MACs to keep, 0 to 1.  [default: 0.7]")
@click.option("--params", "parameters", type=float, help="Share of the parameters, instead.")
@click.option(
    "--scope",
    type=click.Choice(["auto", "bottleneck", "all"]),
    default="auto",
    show_default=True,
    help="bottleneck keeps every concat as wide as it is; all prunes growth and stem too; auto "
    "takes bottleneck where the network has them.",
)
@click.option(
    "--method",
    type=click.Choice(["reconstruct", "magnitude", "bn-scale", "taylor", "fpgm", "lamp", "random"]),
    help="reconstruct solves what is left again by least squares; the others rate channels.  "
    "[default: reconstruct with --calib, else magnitude]",
)
@click.option("--align", type=int, help="Kept channels: a multiple of this.  [default: 8]")
@click.option(
    "--target",
    metavar="NAME",
    help="Align to what this device's INT8 wants; to its halves where a layer is too narrow.",
)
@click.option(
    "--reestimate-bn/--keep-bn",
    default=True,
    show_default=True,
    help="Move BN statistics as far as pruning moved them (reconstruct needs no such thing).",
)
@click.option("--iterations", default=1, show_default=True, help="Go there in so many steps.")
@click.option("--images", default=512, show_default=True, help="Most calibration images to use.")
@params.preprocess_option
@params.seed_option
@params.json_option
def prune(
    model: Path,
    output: Path,
    calib: Path | None,
    macs: float | None,
    parameters: float | None,
    scope: Scope,
    method: Method | None,
    align: int | None,
    target: str | None,
    reestimate_bn: bool,
    iterations: int,
    images: int,
    preprocess: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Remove channels, down to a share of the MACs.

    MACs are multiply-accumulates; the report says how many were asked and how many are left. With
    calibration images, what is left is solved again layer by layer, without any training.

    \b
    Example:  edgedense prune net.pth -o pruned --calib train/ --macs 0.7
                --preprocess cifar10
    """
    from edgedense import artifact

    artifact.check_absent(output)
    if macs is not None and parameters is not None:
        raise click.UsageError("Give --macs or --params, not both.")
    for module in ("torch_pruning", "safetensors"):
        require(module, "prune")
    device = find_target(target) if target else None
    loaded = params.read_model(model)
    from edgedense.prune import PruneOptions
    from edgedense.prune import prune as run
    from edgedense.prune.select import WORDS

    calibration = params.read_set(calib) if calib else None
    given = [calibration] if calibration else []
    chosen = params.choose_preprocess(preprocess, loaded.preprocess, *given, preset=loaded.preset)
    options = PruneOptions(
        macs=0.7 if macs is None else macs,
        params=parameters,
        scope=scope,
        method=method,
        align=align if align is not None else device.channel_multiple if device else 8,
        finer=align is None and device is not None,
        iterations=iterations,
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
        f"pruned to {found.share:.3f} of the {WORDS[found.of]} ({found.asked:g} was asked)",
        ("", "before", "after"),
        rows,
    )
    terminal.say(f"{output}: written in {found.seconds:.1f} s")
    terminal.say(f"next: edgedense quantize {output} -o DIR --calib SET")
