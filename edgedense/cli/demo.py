"""``edgedense demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgedense.cli import params
from edgedense.cli.deploy import execute
from edgedense.cli.terminal import Terminal
from edgedense.environment import COMPRESS, installed, require


@click.command()
@click.option(
    "-o",
    "--output",
    type=params.PATH,
    default=Path("engines/demo"),
    show_default=True,
    help="Run directory; what is there already is reused.",
)
@click.option(
    "--rtx",
    default="rtx-ada",
    show_default=True,
    help="A second target, built ahead of time without a GPU.",
)
@params.json_option
def demo(output: Path, rtx: str, as_json: bool) -> int:
    """Do the main job on handwritten digits, in minutes.

    Train a small DenseNet-BC on the digits that come with scikit-learn, then deploy it.

    \b
    Example:  edgedense demo
    """
    for module in ("sklearn", *COMPRESS):
        require(module, "the demo")
    from edgedense.data import load_preprocess
    from edgedense.demo import prepare
    from edgedense.pipeline import DeployOptions, Inputs
    from edgedense.prune import PruneOptions
    from edgedense.validate import ValidateOptions

    terminal = Terminal()
    preprocess = load_preprocess("digits")
    terminal.say("1797 handwritten digits: 1000 to train on, 797 to judge by")
    digits = prepare(output, preprocess, terminal)
    inputs = Inputs(
        params.read_model(digits.checkpoint), digits.calibration, digits.evaluation, preprocess
    )
    targets = ("cpu", rtx) if installed("tensorrt_rtx") else ("cpu",)
    options = DeployOptions(
        targets=targets,
        prune=PruneOptions(macs=0.8, images=256),
        validate=ValidateOptions(max_drop_pp=2.0),  # 797 images cannot tell less apart
    )
    code = execute(inputs, output / "run", options, dry_run=False, as_json=as_json)
    # as it was called, which may be the path into a virtual environment
    program = sys.argv[0] if sys.argv[0].endswith("edgedense") else "edgedense"
    terminal.say(
        f"\nThe network that was trained: {digits.checkpoint}\n"
        "next, with a network of yours:\n"
        f"  {program} inspect MODEL.pth\n"
        f"  {program} deploy MODEL.pth --calib TRAIN_IMAGES --eval TEST_IMAGES "
        "--preprocess imagenet --target cpu -o engines/first"
    )
    return code
