"""``edgedense pack``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit, size

if TYPE_CHECKING:
    from edgedense.bundle import PackReport


@click.command()
@click.argument("run", type=params.PATH)
@click.option(
    "-o",
    "--output",
    type=params.PATH,
    required=True,
    metavar="FILE.edz",
    help="Bundle to create; whole or not at all.",
)
@click.option(
    "--eval",
    "evaluation",
    type=params.PATH,
    metavar="SET",
    help="Labelled images to judge by.  [default: those of the run]",
)
@click.option("--eval-images", type=int, metavar="N", help="At most so many, drawn by class.")
@click.option(
    "--lossless", is_flag=True, help="Store images as they decode here, for other JPEG decoders."
)
@click.option(
    "--target",
    "targets",
    shell_complete=params.complete_target,
    multiple=True,
    metavar="NAME",
    help="Device; may be given several times.  [default: as the run was asked]",
)
@click.option("--precision", type=params.PRECISION, help="[default: as the run was asked]")
@click.option(
    "--batch", type=params.BatchRange(), help="Batch sizes to serve.  [default: as the run]"
)
@click.option(
    "--max-drop",
    "max_drop_pp",
    type=float,
    metavar="PP",
    help="Gate on the device: largest loss of top-1 or mean IoU.  [default: as the run, or 1]",
)
@click.option(
    "--min-speedup",
    type=float,
    metavar="X",
    help="Gate on the device: times faster than the engine of --against.  [default: as the run]",
)
@click.option(
    "--against",
    type=click.Choice(["fp16", "fp32", "none"]),
    help="Engine of the same network to time beside it on the device.  [default: fp32]",
)
@click.option("--sign", type=params.PATH, metavar="KEY", help="Secret key of edgedense new-key.")
@params.seed_option
@params.json_option
def pack(
    run: Path,
    output: Path,
    evaluation: Path | None,
    eval_images: int | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Put a run into one file that proves itself on a device.

    RUN is the run directory of deploy, or what quantize wrote with --eval. The file holds the ONNX
    files, calibration facts, evaluation images with their FP32 logits, the gates and hashes of
    everything. The device needs neither PyTorch nor your data.

    \b
    Examples:  edgedense pack runs/first -o first.edz
               edgedense pack int8 -o b.edz --eval test/ --eval-images 2000
                 --target jetson-orin-nano --min-speedup 1.5 --sign release.key
    """
    from edgedense.bundle import PackOptions
    from edgedense.bundle import pack as make

    terminal = Terminal()
    options = PackOptions(images=eval_images, **asked)
    found = make(run, output, options, evaluation, terminal)
    if as_json:
        emit(found.to_dict())
    else:
        show(terminal, found)


def show(terminal: Terminal, found: PackReport) -> None:
    """Print what is in a bundle, and what to do with it."""
    part = f" of {found.images_of}" if found.images < found.images_of else ""
    gates = f"drop at most {found.max_drop_pp:g} pp"
    if found.min_speedup is not None:
        gates += f", at least {found.min_speedup:g}x as fast as {found.against}"
    rows = [
        ("size", size(found.bytes)),
        ("images", f"{found.images}{part}, {size(found.image_bytes)}"),
        ("targets", ", ".join(found.targets)),
        ("engine", f"{found.precision}" + (f", beside {found.against}" if found.against else "")),
        ("gates", gates),
        ("signed", "yes" if found.signed else "no"),
        ("sha256", found.sha256),
    ]
    terminal.table(found.bundle, ("", ""), rows)
    name = Path(found.bundle).name
    key = " --verify-key KEY.pub" if found.signed else ""
    chosen = f" --target {found.targets[0]}" if len(found.targets) > 1 else ""
    terminal.say(f"next, on the device: edgedense run-bundle {name}{chosen}{key}")
