"""``edgedense sweep``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit, number, size
from edgedense.environment import COMPRESS, require

if TYPE_CHECKING:
    from edgedense.pipeline import PointReport, SweepOptions, SweepPlan, SweepReport
    from edgedense.pipeline.parallel import Engine
    from edgedense.prune.options import Method
    from edgedense.quantize.ranges import Calibrator


@click.command()
@params.model_argument
@params.calib_option
@params.evaluation_option
@params.run_option
@click.option(
    "--macs",
    type=params.Several(click.FLOAT),
    default="1,0.7,0.57",
    show_default=True,
    help="Shares of the MACs; 1 is not pruned.",
)
@click.option(
    "--placement",
    "placements",
    type=params.Several(params.PLACEMENT),
    default="conv,block",
    show_default=True,
    help="Of INT8 alone; see: edgedense quantize --help",
)
@click.option(
    "--precision",
    "precisions",
    type=params.Several(params.PRECISION),
    default="int8",
    show_default=True,
    help="int8, fp16, fp32.",
)
@click.option(
    "--effort",
    "efforts",
    type=params.Several(params.EFFORT),
    default="default",
    show_default=True,
    help="Of INT8 alone: fast, default, best; see: edgedense quantize --help",
)
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    shell_complete=params.complete_target,
    multiple=True,
    help="Predict latency for this GPU; may be given several times.",
)
@click.option("--jobs", type=int, metavar="N", help="Stages at once.  [default: one a core]")
@click.option(
    "--threads", default=1, show_default=True, help="Threads of each; --jobs then defaults to less."
)
@click.option(
    "--engine",
    type=click.Choice(["processes", "ray"]),
    default="processes",
    show_default=True,
    help="ray: on the cluster of RAY_ADDRESS, where all machines see the same files.",
)
@params.method_option
@params.align_option
@params.calibrator_option
@params.images_option
@params.batch_option
@params.preprocess_option
@params.seed_option
@click.option("--dry-run", is_flag=True, help="Check the inputs and show the points; do nothing.")
@params.json_option
def sweep(
    model: Path,
    calib: Path,
    evaluation: Path,
    output: Path,
    preprocess: str | None,
    jobs: int | None,
    threads: int,
    engine: Engine,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Make many networks and compare them; call again to resume.

    All combinations of --macs, --placement, --precision and --effort, in parallel processes whose
    number changes no result. Latency is measured last, with nothing beside it. A star marks what no
    other point beats both in accuracy and in latency. Exit 1 when a point could not be made.

    \b
    Example:  edgedense sweep net.pth --calib train/ --eval test/ -o runs/s
                --preprocess cifar10 --macs 1,0.7,0.57 --target rtx-ada
    """
    for module in COMPRESS:
        require(module, "sweep")
    from edgedense.pipeline import Parallel, Sources, plan_sweep
    from edgedense.pipeline import sweep as run

    parallel, options = Parallel(jobs, threads, engine), _options(**asked)
    loaded = params.read_model(model)
    sets = params.read_set(calib), params.read_set(evaluation)
    chosen = params.choose_preprocess(preprocess, loaded.preprocess, *sets, preset=loaded.preset)
    sources, terminal = Sources(model, calib, evaluation, chosen), Terminal()
    if dry_run:
        planned = plan_sweep(sources, output, options, terminal)
        if as_json:
            emit({"run": str(output), **asdict(planned)})
        else:
            _show_plan(terminal, planned, output)
        return 0
    found = run(sources, output, options, parallel, terminal)
    if as_json:
        emit(found.to_dict())
    else:
        _show(terminal, found, output)
    return found.exit_code


def _show_plan(terminal: Terminal, planned: SweepPlan, output: Path) -> None:
    rows = [
        (point.name, "reuse" if point.name in planned.cached else "do") for point in planned.points
    ]
    terminal.table(f"points of {output}", ("point", ""), rows)
    stages = [(line.stage, line.what, "reuse" if line.reused else "do") for line in planned.stages]
    terminal.table("stages", ("stage", "what", ""), stages)
    left = sum(not line.reused for line in planned.stages)
    took = "unknown until one of each has run"
    if planned.seconds is not None:
        took = f"about {planned.seconds / 60:.1f} minutes of one job"
    terminal.say(f"{left} of {len(planned.stages)} stages to do; pruning and quantizing: {took}")


def _show(terminal: Terminal, found: SweepReport, output: Path) -> None:
    """One line a point, then what the star means and why points failed."""
    from edgedense.pipeline.outcome import failures, legend

    head = ["", "point", "MACs", found.answer[1], "drop pp [95 %]", "ONNX", "cpu ms"]
    fp32 = found.fp32
    whole = ["", "FP32", _tight(count(fp32["macs"])), number(fp32["accuracy"]), "", ""]
    rows = [[*whole, number(fp32["latency_ms"])], *(_row(point) for point in found.points)]
    terminal.table("", head, rows)
    if targets := list(found.points[0].predicted_ms):
        made = [point for point in found.points if not point.failed]
        predicted = [
            [*_name(point), *(number(point.predicted_ms[target], 3) for target in targets)]
            for point in made
        ]
        terminal.table("predicted ms", ["", "point", *targets], predicted)
    terminal.say(legend(found))
    for why, names in failures(found).items():
        terminal.say(f"not made: {names}: {why}")
    terminal.say(f"evidence: {output}/sweep.md")


def _name(point: PointReport) -> tuple[str, str]:
    from edgedense.pipeline.outcome import STAR

    return STAR if point.best else "", point.name


def _row(point: PointReport) -> list[str]:
    from edgedense.pipeline.outcome import interval

    if point.failed:
        return ["", point.name, "failed", "", "", "", ""]
    return [
        *_name(point),
        _tight(count(point.macs or 0)),
        number(point.accuracy),
        _tight(interval(point)),
        _tight(size(point.onnx_bytes)),
        number(point.latency_ms) + ("" if point.stable else "~"),
    ]


def _tight(cell: str) -> str:
    """Without the spaces at which a narrow table would fold it."""
    return cell.replace(" ", "")


def _options(
    method: Method | None,
    align: int | None,
    calibrator: Calibrator,
    images: int,
    batch: tuple[int, int, int],
    seed: int,
    **points: Any,
) -> SweepOptions:
    from edgedense.benchmark import BenchmarkOptions
    from edgedense.pipeline import SweepOptions
    from edgedense.prune import PruneOptions
    from edgedense.quantize import QuantizeOptions

    return SweepOptions(
        batch=batch,
        prune=PruneOptions(
            method=method, align=8 if align is None else align, images=images, seed=seed
        ),
        quantize=QuantizeOptions(calibrator=calibrator, images=images, seed=seed),
        benchmark=BenchmarkOptions(batch=batch[0], seed=seed),
        **points,
    )
