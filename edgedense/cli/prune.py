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
    from edgedense.prune.options import Method, PruneReport


@click.command()
@params.model_argument
@params.output_option()
@click.option(
    "--calib", type=params.PATH, help="Training images, some hundred; labels only for taylor."
)
@click.option("--macs", type=float, help="Share of the MACs to keep, 0 to 1.  [default: 0.7]")
@params.parameters_option
@click.option(
    "--latency-ms",
    type=float,
    help="Milliseconds an image on --target, instead (INT8; FP16 where it has none).",
)
@click.option(
    "--latency-table",
    type=params.PATH,
    metavar="FILE.json",
    help="For --latency-ms: what profile-target measured there, in place of its data sheet.",
)
@click.option(
    "--scope",
    type=click.Choice(["auto", "bottleneck", "all"]),
    default="auto",
    show_default=True,
    help="bottleneck keeps every concat as wide as it is; all prunes growth and stem too; auto "
    "takes bottleneck where the network has them.",
)
@params.method_option
@params.align_option
@click.option(
    "--target",
    metavar="NAME",
    shell_complete=params.complete_target,
    help="Align to what this device's INT8 wants; to its halves where a layer is too narrow.",
)
@click.option(
    "--reestimate-bn/--keep-bn",
    default=True,
    show_default=True,
    help="Move BN statistics as far as pruning moved them (reconstruct needs no such thing).",
)
@click.option("--iterations", default=1, show_default=True, help="Go there in so many steps.")
@params.images_option
@params.preprocess_option
@params.seed_option
@params.json_option
def prune(
    model: Path,
    output: Path,
    calib: Path | None,
    macs: float | None,
    parameters: float | None,
    latency_ms: float | None,
    latency_table: Path | None,
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
    """Remove channels, to a share of the MACs or to a latency.

    MACs are multiply-accumulates; the report says how many were asked and how many are left. A
    latency is a prediction, from the device's data sheet or from a table measured there. With
    calibration images, what is left is solved again layer by layer, without any training.

    \b
    Example:  edgedense prune net.pth -o pruned --calib train/ --macs 0.7
                --preprocess cifar10
    """
    from edgedense import artifact

    artifact.check_absent(output)
    if sum(budget is not None for budget in (macs, parameters, latency_ms)) > 1:
        raise click.UsageError("Give one of --macs, --params and --latency-ms.")
    if latency_ms is not None and target is None:
        raise click.UsageError("--latency-ms needs --target NAME (see: edgedense targets).")
    if latency_table is not None and latency_ms is None:
        raise click.UsageError("--latency-table is for --latency-ms.")
    for module in ("torch_pruning", "safetensors"):
        require(module, "prune")
    device = find_target(target) if target else None
    loaded = params.read_model(model)
    from edgedense.prune import PruneOptions
    from edgedense.prune import prune as run

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
        latency_ms=latency_ms,
        target=device.name if device and latency_ms is not None else None,
        latency_table=str(latency_table) if latency_table else None,
    )
    terminal = Terminal()
    found = run(loaded, calibration, chosen, output, options, terminal)
    if as_json:
        emit(found.to_dict())
        return
    show(terminal, found)
    terminal.say(f"{output}: written in {found.seconds:.1f} s")
    terminal.say(f"next: edgedense quantize {output} -o DIR --calib SET")


def show(terminal: Terminal, found: PruneReport) -> None:
    """Print what is left, and how much of it INT8 kernels like."""
    from edgedense.prune.select import WORDS

    title = f"pruned to {found.share:.3f} of the {WORDS[found.of]} ({found.asked:g} was asked)"
    rows = [
        ("MACs", count(found.macs_before), count(found.macs_after)),
        ("parameters", count(found.params_before), count(found.params_after)),
    ]
    if found.latency is not None:
        told = found.latency
        title = f"pruned to {told.after_ms:.3f} ms on {told.target} ({found.asked:g} was asked)"
        label = f"ms, {told.precision.upper()}, {told.basis}"
        rows.append((label, f"{told.before_ms:.3f}", f"{told.after_ms:.3f}"))
    aligned = (str(found.aligned_before), str(found.aligned_after))
    rows.append((f"aligned to {found.align}, of {found.convs} convolutions", *aligned))
    terminal.table(title, ("", "before", "after"), rows)
    if found.alignment_cost is not None:
        terminal.say(
            f"alignment to {found.align} costs: x{found.alignment_cost:.2f} the loss that free "
            "widths were predicted to have, at the same budget"
        )
