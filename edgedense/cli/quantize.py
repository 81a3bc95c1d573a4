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
    from edgedense.quantize.budget import Budget
    from edgedense.quantize.options import Effort, Placement
    from edgedense.quantize.ranges import Calibrator
    from edgedense.quantize.sensitivity import Sensitivity


@click.command()
@params.model_argument
@params.output_option()
@params.calib_option
@params.placement_option
@params.effort_option
@params.calibrator_option
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
@params.io_option
@click.option("--skip", multiple=True, metavar="NAME", help="A convolution to leave unquantized.")
@params.stem_option
@click.option(
    "--float-concat",
    "float_concats",
    multiple=True,
    metavar="BLOCK",
    help="With --placement block: a dense block whose concat stays in floating point.",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="PP",
    help="Accuracy budget in percentage points of top-1 (mean IoU): leave the fewest layers "
    "unquantized that keep it for sure, on the labelled images of --eval, else of --calib.",
)
@params.sensitivity_option
@click.option(
    "--sensitivity-images",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Calibration images for that.",
)
@params.images_option
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
    effort: Effort,
    calibrator: Calibrator,
    percentile: float,
    rest: Float,
    io: Float,
    skip: tuple[str, ...],
    int8_stem: bool | None,
    float_concats: tuple[str, ...],
    max_drop: float | None,
    sensitivity: bool,
    sensitivity_images: int,
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
    options = QuantizeOptions(
        placement=placement,
        effort=effort,
        calibrator=calibrator,
        percentile=percentile,
        rest=rest,
        io=io,
        skip=skip,
        int8_stem=int8_stem,
        images=images,
        seed=seed,
        float_concats=float_concats,
        sensitivity=sensitivity,
        sensitivity_images=sensitivity_images,
        max_drop_pp=max_drop,
    )
    terminal = Terminal()
    recorded = None
    labelled = params.read_set(evaluation) if evaluation is not None and max_drop else None
    with joined():
        if evaluation is not None:
            original = params.read_model(reference) if reference else loaded
            recorded = params.record(original, evaluation, chosen, terminal)
        found = run(loaded, calibration, chosen, output, options, recorded, terminal, labelled)
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
    left = f" ({', '.join(found.skipped)} in floating point)" if found.skipped else ""
    ranges = f"ranges by {calibrator} from {found.images} images"
    terminal.table(
        f"{found.quantized} layers in INT8{left}, {ranges}",
        ("file", "size", "agrees (dB)", "with"),
        rows,
    )
    if found.sensitivity is not None:
        _show_sensitivity(found.sensitivity, terminal)
    if found.budget is not None:
        _show_budget(found.budget, rest, terminal)
    terminal.say(f"logit SQNR of INT8 against FP32: {found.sqnr_db:.1f} dB (calibration images)")
    if found.reference_top1 is not None:
        terminal.say(f"top-1 of FP32 on the images of --eval: {found.reference_top1:.2f} %")
    for warning in found.warnings:
        terminal.say(f"warning: {warning}")
    terminal.say(f"{output}: written in {found.seconds:.1f} s")
    terminal.say(f"next: edgedense build-engine {output} -o ENGINE --target cpu")


def _show_sensitivity(found: Sensitivity, terminal: Terminal) -> None:
    """The ten worst, and a bar for each layer of each block."""
    losses = [(row.name, str(row.kind), row.loss) for row in found.worst(10)]
    losses.append(("everything", "", found.everything))
    rows = [(name, kind, number(loss.sqnr_db, 1), loss.flips) for name, kind, loss in losses]
    terminal.table(
        f"what costs most, alone in INT8, on {found.images} calibration images",
        ("name", "kind", "logit SQNR (dB)", "flips"),
        rows,
    )
    terminal.table(
        "layers of each block: the taller the worse, 3 dB a step",
        ("block", "of", "worst (dB)", "median (dB)", "layers"),
        [
            (line.block, line.kind, number(line.worst_db, 1), number(line.median_db, 1), line.bars)
            for line in found.lines()
        ],
    )


def _show_budget(found: Budget, rest: Float, terminal: Terminal) -> None:
    def drop(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.2f} pp [{interval[0]:.2f}, {interval[1]:.2f}]"

    terminal.table(
        "",
        ("", f"{found.metric} drop, 95 % interval"),
        [
            ("all in INT8", drop(found.int8_drop_pp, found.int8_drop_ci95)),
            (f"{len(found.left_in_float)} left in {rest}", drop(found.drop_pp, found.drop_ci95)),
        ],
    )
    for left in found.left_in_float:
        terminal.say(f"  {left.name} ({left.kind}): {left.reason}")
    terminal.say(
        f"accuracy budget {found.budget_pp:g} pp: met on {found.images:,} {found.source} "
        f"({found.metric} of FP32: {found.fp32:.2f} %)"
    )
    if found.note:
        terminal.say(f"  {found.note}")
