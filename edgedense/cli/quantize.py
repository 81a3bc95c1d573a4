"""``edgedense quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit, number, size
from edgedense.distributed import joined
from edgedense.environment import require

if TYPE_CHECKING:
    from edgedense.graph.export import Float
    from edgedense.quantize.options import Placement
    from edgedense.quantize.ranges import Calibrator


@click.command()
@params.model_argument
@params.output_option()
@click.option("--calib", type=params.PATH, required=True, help="Some hundred training images.")
@click.option(
    "--placement",
    type=click.Choice(["conv", "block"]),
    default="conv",
    show_default=True,
    help="conv: inputs of convolutions in INT8. block: concats too, half their memory traffic for "
    "some dB.",
)
@click.option(
    "--calibrator",
    type=click.Choice(["mse", "percentile", "max"]),
    default="mse",
    show_default=True,
    help="How a range is chosen from the values seen.",
)
@click.option(
    "--percentile", default=99.999, show_default=True, help="For --calibrator percentile."
)
@click.option(
    "--rest",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="Type of what is not INT8, in the file meant for GPUs.",
)
@click.option("--skip", multiple=True, metavar="NAME", help="A convolution to leave unquantized.")
@click.option("--skip-stem", is_flag=True, help="Leave the stem unquantized (= --skip conv0).")
@click.option("--images", default=512, show_default=True, help="Most calibration images to use.")
@click.option(
    "--eval",
    "evaluation",
    type=params.PATH,
    help="Record FP32 logits of these images, so that a device validates without PyTorch.",
)
@click.option(
    "--reference",
    type=params.PATH,
    metavar="MODEL",
    help="Whose logits --eval records: the network before pruning (default: MODEL).",
)
@params.preprocess_option
@params.seed_option
@params.json_option
def quantize(
    model: Path,
    output: Path,
    calib: Path,
    placement: Placement,
    calibrator: Calibrator,
    percentile: float,
    rest: Float,
    skip: tuple[str, ...],
    skip_stem: bool,
    images: int,
    evaluation: Path | None,
    reference: Path | None,
    preprocess: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Quantize to INT8 and export ONNX with explicit Q/DQ.

    Nothing is written before the files were seen to compute what PyTorch computes. Under torchrun
    calibration and --eval are shared out, with the same result to the last bit.

    \b
    Example:  edgedense quantize net.pth -o int8 --calib train/
                --preprocess cifar10
    """
    from edgedense import artifact

    artifact.check_absent(output)
    for module in ("onnx", "onnxruntime"):
        require(module, "quantize")
    calibration = params.read_set(calib)
    loaded = params.read_model(model)
    from edgedense.quantize import QuantizeOptions
    from edgedense.quantize import quantize as run

    chosen = params.choose_preprocess(
        preprocess, loaded.preprocess, calibration, preset=loaded.preset
    )
    stem = ("conv0",) if skip_stem else ()
    options = QuantizeOptions(
        placement=placement,
        calibrator=calibrator,
        percentile=percentile,
        rest=rest,
        skip=(*stem, *skip),
        images=images,
        seed=seed,
    )
    terminal = Terminal()
    recorded = None
    with joined():
        if evaluation is not None:
            original = params.read_model(reference) if reference else loaded
            recorded = params.record(original, evaluation, chosen, terminal)
        found = run(loaded, calibration, chosen, output, options, recorded, terminal)
    if as_json:
        emit(found.to_dict())
        return
    rows = [
        (
            f"{name}.onnx",
            size(found.file_bytes[name]),
            number(found.agreement_db[name], 1),
            "PyTorch" if "int8" not in name else "the INT8 simulation",
        )
        for name in found.file_bytes
    ]
    terminal.table(
        f"{found.quantized} layers in INT8, ranges by {calibrator} from {found.images} images",
        ("file", "size", "agrees (dB)", "with"),
        rows,
    )
    terminal.say(f"logit SQNR of INT8 against FP32: {found.sqnr_db:.1f} dB (calibration images)")
    terminal.say(f"{output}: written in {found.seconds:.1f} s")
    terminal.say(f"next: edgedense build-engine {output} -o ENGINE --target cpu")
